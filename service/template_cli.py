"""The commands `probewatch templates`: look into the known templates, check them, and add those of a new campaign."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import UsageError
from service.options import AsJson, BundleDir, CatalogueDir, load_pipeline

if TYPE_CHECKING:
    from classifier.catalogue import Catalogue
    from classifier.pipeline import Pipeline
    from classifier.signing import Family
    from service.prompts import Prompts
    from service.proposals import Proposal

templates_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Known templates: those of the bundle, and your own in a catalogue over them.",
)
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
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
Ordinary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Traffic known to be ordinary, which it must not match, besides the sample that is shipped; held in "
        "memory; may be repeated.",
    ),
]
Note = Annotated[str, typer.Option(metavar="TEXT", help="Who adds it and why; kept as you write it.")]
Onto = Annotated[
    Path,
    typer.Option("--catalogue", metavar="DIR", readable=False, help="Catalogue to add to; made if it is not there."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be added, and stop.")]
LOCAL = Path("catalogue")


@templates_app.command("list")
def list_templates(bundle: BundleDir = None, catalogue: CatalogueDir = None, as_json: AsJson = False) -> None:
    """List the signatures of a bundle and a catalogue, one a line."""
    from service import template_words

    pipeline = load_pipeline(bundle, catalogue)
    listed = template_words.listed_of(pipeline)
    if as_json:
        echo_json(pipeline, templates=[template_words.as_json(one) for one in listed])
    else:
        typer.echo("\n".join(template_words.list_lines(listed)))


@templates_app.command("show")
def show_template(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a signature, as `list` prints it.")],
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one signature. Its wording is not: only hashes of it are kept."""
    from service import template_words

    pipeline = load_pipeline(bundle, catalogue)
    found = [one for one in template_words.listed_of(pipeline) if one.signature.facts.id == id]
    if not found:
        raise UsageError(f"{id}: no signature has this id; `probewatch templates list` shows those there are.")
    if as_json:
        echo_json(pipeline, template=template_words.as_json(found[0]))
    else:
        typer.echo("\n".join(template_words.show_lines(found[0])))


@templates_app.command("check")
def check_templates(
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Traffic known to be ordinary, to count matches in; may be repeated."),
    ] = None,
) -> None:
    """Check that signatures do not get in each other's way.

    An id that is there twice is refused (exit code 4). Pairs of signatures of different families that share over half
    of the smaller one's shingles are listed: what matches one may well match the other. With --against: the share of
    prompts that each signature matches, as `label` would name it.
    """
    from service.prompts import read_prompts
    from service.template_checks import collisions, match_counts
    from service.template_words import check_lines, ordinary_lines

    pipeline = load_pipeline(bundle, catalogue)
    index, encoder = pipeline.labeler.templates, pipeline.labeler.encoder
    typer.echo("\n".join(check_lines(index.signatures, collisions(index.signatures, index.signatures))))
    if against:
        n, counts = 0, match_counts(index, [], encoder)
        for part in read_prompts(against):
            n, counts = n + len(part), counts + match_counts(index, part.normalised, encoder)
        typer.echo("\n".join(ordinary_lines(index.signatures, counts, n)))


@templates_app.command("add")
def add_templates(
    source: Annotated[
        str, typer.Option("--from", metavar="FILE", help="5 to 500 prompts of one campaign, as `label` reads them.")
    ],
    family: FamilyName,
    technique: Technique = None,
    capability: Capability = None,
    tier: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="public: a campaign's; it is shown, and at most puts an account up for review. benign: a harmless "
            "application's; what is fixed in its prompts is excused.",
        ),
    ] = "public",
    against: Ordinary = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: Onto = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add the template of a new campaign, from prompts that were made with it.

    What the prompts share is told from what varies in them. Hashes are kept of runs of three words that at least 5
    prompts of two accounts share, and mean embeddings of the same words; neither the prompts nor the wording is stored.
    The wording is shown for you to confirm; a signature that matches 1 % of ordinary prompts or more is refused.

    Use the catalogue with --catalogue DIR in `label` and `score`; every output names its version.

    \b
    probewatch templates add --from samples.jsonl --family night_mill --dry-run
    """
    from service.prompts import read_samples
    from service.proposals import MOST_SAMPLES

    wanted = family_of(family, technique, capability, tier)
    target = Target(bundle, catalogue, note, dry_run, yes)
    add_samples(lambda pipeline: read_samples(source, MOST_SAMPLES), wanted, against, target)


@dataclass(frozen=True)
class Target:
    """What signatures are added to, and how: options of `add`, `approve` and `benign`."""

    bundle: Path | None
    catalogue: Path
    note: str
    dry_run: bool
    yes: bool


def add_samples(
    samples_of: Callable[[Pipeline], Prompts], wanted: Family, against: list[str] | None, target: Target
) -> None:
    """Propose signatures of samples, show them, and add them once confirmed. `samples_of`: called after all that is
    cheap to check was checked."""
    from service.prompts import read_ordinary
    from service.proposals import propose

    _check_note(target.note)
    _check_terminal(target.dry_run or target.yes)
    pipeline = _pipeline_to_add_to(target.bundle, target.catalogue)
    samples, ordinary = samples_of(pipeline), read_ordinary(against if against is not None else [])
    proposals = propose(samples, wanted, ordinary, pipeline.labeler)
    _print_proposals(proposals, samples)
    if target.dry_run:
        typer.echo("Nothing was added (--dry-run).")
    elif target.yes or typer.confirm(f"Add to {target.catalogue}?"):
        _add(target.catalogue, proposals, target.note, pipeline)
    else:
        typer.echo("Nothing was added.")


@templates_app.command("remove")
def remove_template(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a signature of yours, as `list` prints it.")],
    catalogue: Annotated[
        Path, typer.Option("--catalogue", metavar="DIR", readable=False, help="Catalogue to remove it from.")
    ] = LOCAL,
    yes: Yes = False,
) -> None:
    """Remove a signature of your own. Earlier versions of the catalogue keep it, for the runs begun with them."""
    from classifier.catalogue import open_catalogue, remove_entry

    _check_terminal(yes)
    newest = open_catalogue(catalogue)
    if id not in {entry.signature.facts.id for entry in newest.entries}:
        raise UsageError(f"{id}: is no signature of catalogue {catalogue}; `templates list` shows those there are.")
    if yes or typer.confirm(f"Remove {id} from {catalogue}?"):
        typer.echo(_now(remove_entry(catalogue, id, newest.id)))
    else:
        typer.echo("Nothing was removed.")


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


def _check_note(note: str) -> None:
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise UsageError("--note is not valid UTF-8: write it in the encoding of your terminal.") from error


def _check_terminal(settled: bool) -> None:
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


def _print_proposals(proposals: list[Proposal], samples: Prompts) -> None:
    from service.template_words import proposal_lines

    if samples.n_rejected:
        typer.echo(f"{samples.n_rejected:,} records could not be read and are left out.")
    for proposal in proposals:
        typer.echo("\n".join(proposal_lines(proposal, len(samples))))


def _add(folder: Path, proposals: list[Proposal], note: str, pipeline: Pipeline) -> None:
    from datetime import UTC, datetime

    from classifier.catalogue import Entry, Origin, add_entries

    since = datetime.now(UTC).isoformat(timespec="seconds")
    entries = [Entry(p.signature, Origin(since, note, p.n_samples, p.n_accounts)) for p in proposals]
    onto = pipeline.catalogue.id if pipeline.catalogue is not None else None
    written = add_entries(folder, entries, pipeline.encoder_digest, onto)
    typer.echo(f"{_now(written)}, {len(entries)} of them new; use it with --catalogue {folder}")


def _now(written: Catalogue) -> str:
    from service.report_words import counted

    return f"{written.path}: now catalogue {written.id} with {counted(len(written.entries), 'signature')}"


def echo_json(pipeline: Pipeline, **content: object) -> None:
    """Print a document, and what it was made with."""
    import json

    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    typer.echo(json.dumps({**content, **ids}, ensure_ascii=False))
