"""What the commands that add to a catalogue have in common: their options, what is checked first, and the last step.

Used by `template_cli`, `exchange_cli` and `discovery_cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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
    from service.prompts import Prompts
    from service.proposals import Proposal

LOCAL = Path("catalogue")
FamilyName = Annotated[str, typer.Option("--family", metavar="NAME", help="What to call it in every output.")]
Technique = Annotated[
    str | None, typer.Option(metavar="NAME", help="How it extracts, such as rubric_grading.", show_default="none")
]
Capability = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What it extracts: coding, agentic_reasoning, long_horizon_planning or other.",
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
    from service.prompts import read_ordinary
    from service.proposals import propose

    pipeline = check_target(target)
    samples, ordinary = samples_of(pipeline), read_ordinary(against if against is not None else [])
    proposals = propose(samples, wanted, ordinary, pipeline.labeler)
    _print_proposals(proposals, samples)
    add_confirmed(target, [_entry(proposal, target.note) for proposal in proposals], pipeline)


def add_confirmed(target: Target, entries: list[Entry], pipeline: Pipeline) -> None:
    """Add entries that were shown, once somebody agrees."""
    from classifier.catalogue import add_entries

    if target.dry_run:
        typer.echo("Nothing was added (--dry-run).")
    elif target.yes or typer.confirm(f"Add to {target.catalogue}?"):
        onto = pipeline.catalogue.id if pipeline.catalogue is not None else None
        written = add_entries(target.catalogue, entries, pipeline.encoder_digest, onto)
        typer.echo(f"{said_now(written)}, {len(entries)} of them new; use it with --catalogue {target.catalogue}")
    else:
        typer.echo("Nothing was added.")


def now() -> str:
    """The time, as catalogues hold it."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


def said_now(written: Catalogue) -> str:
    """What a catalogue has come to."""
    from service.report_words import counted

    return f"{written.path}: now catalogue {written.id} with {counted(len(written.entries), 'signature')}"


def family_of(name: str, technique: str | None, capability: str | None, tier: str) -> Family:
    """What signatures are to be called and to say. Raises UsageError for what cannot be."""
    from classifier.catalogue import NO_EXCLUSIVE
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
    if tier == Tier.EXCLUSIVE.value:
        raise UsageError(f"--tier got exclusive: {NO_EXCLUSIVE}; give public.")
    if tier not in (Tier.PUBLIC.value, Tier.BENIGN.value):
        raise UsageError(f"--tier got {tier!r}: expected public or benign.")
    if Tier(tier) is Tier.BENIGN and (technique is not None or capability is not None):
        raise UsageError("--tier benign is a harmless application: leave out --technique and --capability.")
    return Family(name, technique, capability, Tier(tier))


def _print_proposals(proposals: list[Proposal], samples: Prompts) -> None:
    from service.template_words import proposal_lines

    if samples.n_rejected:
        typer.echo(f"{samples.n_rejected:,} records could not be read and are left out.")
    for proposal in proposals:
        typer.echo("\n".join(proposal_lines(proposal, len(samples))))


def _entry(proposal: Proposal, note: str) -> Entry:
    from classifier.catalogue import Entry, Origin

    return Entry(proposal.signature, Origin(now(), note, proposal.n_samples, proposal.n_accounts))
