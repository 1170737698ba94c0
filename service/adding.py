"""What the commands that add to a catalogue have in common: their options, what is checked first, and the last step.

Used by `template_cli`, `exchange_cli` and `discovery_cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import UsageError
from service.options import load_pipeline

if TYPE_CHECKING:
    from classifier.catalogue import Catalogue, Entry
    from classifier.pipeline import Pipeline
    from classifier.signing import Family
    from classifier.types import Tier
    from service.prompts import Prompts
    from service.proposals import Proposal
    from service.recertification import Recertified

LOCAL = Path("catalogue")
FamilyName = Annotated[str, typer.Option("--family", metavar="NAME", help="What to call it in every output.")]
Technique = Annotated[
    str | None, typer.Option(metavar="NAME", help="How it extracts, such as rubric_grading.", show_default="none")
]
Capability = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What it extracts: a capability of the taxonomy, such as coding, or other.",
        show_default="what each payload asks for",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be added, and stop.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Who adds it and why; kept as you write it.")]
AddTo = Annotated[
    Path,
    typer.Option("--catalogue", metavar="DIR", readable=False, help="Catalogue to add to; made if it is not there."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="FILE",
        help="Traffic known to be ordinary, which it must not match, besides the sample that is shipped; held in "
        "memory; may be repeated.",
    ),
]
FlagTier = Annotated[
    str,
    typer.Option(
        "--tier",
        metavar="NAME",
        help="public: it is shown, and at most puts an account up for review. exclusive: what is sent from now on may "
        "flag; half of the accounts in --against must certify that honest ones do not send it.",
    ),
]


@dataclass(frozen=True)
class Target:
    """What signatures are added to, and how: options of the commands."""

    bundle: Path | None
    catalogue: Path
    note: str
    dry_run: bool
    yes: bool


def _check_note(note: str) -> None:
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise UsageError("--note is not valid UTF-8: write it in the encoding of your terminal.") from error


def check_terminal(settled: bool) -> None:
    """Before any work: whether there is somebody to ask, unless the answer is settled."""
    on_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    if not (settled or on_terminal):
        raise UsageError("There is no terminal to confirm on: give --yes to do it without asking.")


def _pipeline_to_add_to(bundle: Path | None, folder: Path) -> Pipeline:
    """Bundle and catalogue, found fit to be added to before any work is done."""
    from classifier.catalogue import check_encoder
    from classifier.catalogue_folder import INDEX, check_room

    check_room(folder)
    pipeline = load_pipeline(bundle, folder if (folder / INDEX).exists() else None, quiet=True)
    if pipeline.catalogue is not None:
        check_encoder(pipeline.catalogue, pipeline.encoder_digest)
    return pipeline


def check_target(target: Target) -> Pipeline:
    """What is cheap to check, before any work; the pipeline of the bundle and catalogue that are to be added to."""
    _check_note(target.note)
    check_terminal(target.dry_run or target.yes)
    return _pipeline_to_add_to(target.bundle, target.catalogue)


def add_samples(
    samples_of: Callable[[Pipeline], Prompts], wanted: Family, against: list[str] | None, target: Target
) -> None:
    """Propose signatures of samples, show them, and add them once confirmed. `samples_of`: called after all that is
    cheap to check was checked."""
    from service.approving import prepare

    pipeline = check_target(target)
    samples = samples_of(pipeline)
    addition = prepare(samples, wanted, against if against is not None else [], pipeline)
    _print_proposals(addition.proposals, samples)
    print_certified(addition.certified)
    add_confirmed(target, lambda since: addition.entries(since, target.note), pipeline)


def print_certified(certified: Recertified | None) -> None:
    from service.template_words import certified_lines

    if certified is not None:
        typer.echo("\n".join(certified_lines(certified)))


def add_confirmed(target: Target, entries_at: Callable[[str], list[Entry]], pipeline: Pipeline) -> None:
    """Add entries that were shown, once somebody agrees. `entries_at`: made of the time at which that is."""
    from classifier.catalogue import add_entries
    from service.approving import now

    if target.dry_run:
        typer.echo("Nothing was added (--dry-run).")
    elif target.yes or typer.confirm(f"Add to {target.catalogue}?"):
        onto = pipeline.catalogue.id if pipeline.catalogue is not None else None
        entries = entries_at(now())
        written = add_entries(target.catalogue, entries, pipeline.encoder_digest, onto)
        typer.echo(f"{said_now(written)}, {len(entries)} of them new; use it with --catalogue {target.catalogue}")
    else:
        typer.echo("Nothing was added.")


def said_now(written: Catalogue) -> str:
    """What a catalogue has come to."""
    from service.report_words import counted

    return f"{written.path}: now catalogue {written.id} with {counted(len(written.entries), 'signature')}"


def tier_of(given: str, allowed: Sequence[Tier], against: list[str] | None) -> Tier:
    """The tier that an option names. Raises UsageError for what cannot be."""
    from classifier.types import Tier

    if given not in allowed:
        raise UsageError(f"--tier got {given!r}: expected {', '.join(allowed[:-1])} or {allowed[-1]}.")
    if Tier(given) is Tier.EXCLUSIVE and not against:
        raise UsageError(
            "--tier exclusive needs --against: traffic known to be ordinary, half of whose accounts must certify that "
            "honest ones do not send it; or give --tier public, which flags nobody."
        )
    return Tier(given)


def family_of(name: str, technique: str | None, capability: str | None, tier: Tier) -> Family:
    """What signatures are to be called and to say. Raises UsageError for what cannot be."""
    from classifier.signatures import NAME
    from classifier.signing import Family
    from classifier.types import TARGETS, Tier

    for option, given in (("--family", name), ("--technique", technique)):
        if given is not None and NAME.fullmatch(given) is None:
            raise UsageError(
                f"{option} got {given!r}: expected up to 64 of a-z, 0-9, _, . and -, a letter or digit first."
            )
    if capability is not None and capability not in TARGETS:
        raise UsageError(f"--capability got {capability!r}: expected one of {', '.join(TARGETS)}.")
    if tier is Tier.BENIGN and (technique is not None or capability is not None):
        raise UsageError("--tier benign is a harmless application: leave out --technique and --capability.")
    return Family(name, technique, capability, tier)


def _print_proposals(proposals: Sequence[Proposal], samples: Prompts) -> None:
    from service.template_words import proposal_lines

    if samples.n_rejected:
        typer.echo(f"{samples.n_rejected:,} records could not be read and are left out.")
    for proposal in proposals:
        typer.echo("\n".join(proposal_lines(proposal, len(samples))))
