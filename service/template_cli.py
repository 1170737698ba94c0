"""The commands `probewatch templates`: look into the known templates, check them, and add those of a new campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import UsageError
from service.adding import (
    LOCAL,
    AddTo,
    Against,
    DryRun,
    Note,
    Yes,
    add_confirmed,
    check_note,
    check_terminal,
    now,
    pipeline_to_add_to,
    said_now,
)
from service.options import AsJson, BundleDir, CatalogueDir, load_pipeline

if TYPE_CHECKING:
    from classifier.catalogue import Entry
    from classifier.pipeline import Pipeline
    from classifier.signing import Family
    from service.prompts import Prompts
    from service.proposals import Proposal
    from service.template_words import Checked

templates_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Known templates: those of the bundle, and your own in a catalogue over them.",
)


@templates_app.command("list")
def list_templates(bundle: BundleDir = None, catalogue: CatalogueDir = None, as_json: AsJson = False) -> None:
    """List the signatures of a bundle and a catalogue, one a line."""
    from service import template_words

    pipeline = load_pipeline(bundle, catalogue)
    listed = template_words.listed_of(pipeline)
    if as_json:
        _echo_json(pipeline, templates=[template_words.as_json(one) for one in listed])
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
        _echo_json(pipeline, template=template_words.as_json(found[0]))
    else:
        typer.echo("\n".join(template_words.show_lines(found[0])))


@templates_app.command("check")
def check_templates(
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Traffic known to be ordinary, to count matches in, besides the sample that is shipped; may be "
            "repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that signatures find themselves, do not get in each other's way, and leave ordinary prompts alone.

    A text of all shingles of a signature must be named by it or by one of its family; one that nothing finds is damaged
    or of no use (exit code 4, as where an id is there twice). Pairs of signatures of different families are listed that
    share over half of the smaller one's shingles, or have nearly the same vectors: what matches one may well match the
    other. And the share of ordinary prompts that each signature matches, as `label` would name it.
    """
    from classifier.errors import BundleError
    from service.template_words import check_json, check_lines

    pipeline = load_pipeline(bundle, catalogue)
    checked = _checked(pipeline, against if against is not None else [])
    if as_json:
        _echo_json(pipeline, **check_json(checked))
    else:
        typer.echo("\n".join(check_lines(checked)))
    lost = [one.facts.id for one in checked.unfound if one.instead is None]
    if lost:
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise BundleError(
            f"templates: {lost[0]}{more}: not found in a text of all its own shingles; it is damaged or asks for more "
            "than it holds: remove it, or add its samples again."
        )


def _checked(pipeline: Pipeline, against: list[str]) -> Checked:
    from service.prompts import read_ordinary
    from service.template_checks import alike, collisions, match_counts, unfound
    from service.template_words import Checked

    index, encoder = pipeline.labeler.templates, pipeline.labeler.encoder
    ordinary = read_ordinary(against)
    shared = collisions(index.signatures, index.signatures)
    counts = match_counts(index, ordinary.normalised, encoder)
    return Checked(index.signatures, unfound(index), shared, alike(index), counts, len(ordinary))


@templates_app.command("add")
def add_templates(
    source: Annotated[
        str, typer.Option("--from", metavar="FILE", help="5 to 500 prompts of one campaign, as `label` reads them.")
    ],
    family: Annotated[str, typer.Option("--family", metavar="NAME", help="What to call it in every output.")],
    technique: Annotated[
        str | None, typer.Option(metavar="NAME", help="How it extracts, such as rubric_grading.", show_default="none")
    ] = None,
    capability: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it extracts: coding, agentic_reasoning, long_horizon_planning or other.",
            show_default="what each payload asks for",
        ),
    ] = None,
    tier: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="public: a campaign's; it is shown, and at most puts an account up for review. benign: a harmless "
            "application's; what is fixed in its prompts is excused.",
        ),
    ] = "public",
    against: Against = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: AddTo = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add the template of a new campaign, from prompts that were made with it.

    What the prompts share is told from what varies in them. Hashes are kept of runs of three words that at least 3
    prompts of two accounts share, and mean embeddings of the same words; neither the prompts nor the wording is stored.
    The wording is shown for you to confirm; a signature that matches 1 % of ordinary prompts or more is refused.

    Use the catalogue with --catalogue DIR in `label` and `score`; every output names its version.

    \b
    probewatch templates add --from samples.jsonl --family night_mill --dry-run
    """
    from service.prompts import read_ordinary, read_samples
    from service.proposals import MOST_SAMPLES, propose

    wanted = _family(family, technique, capability, tier)
    check_note(note)
    check_terminal(dry_run or yes)
    pipeline = pipeline_to_add_to(bundle, catalogue)
    samples, ordinary = read_samples(source, MOST_SAMPLES), read_ordinary(against if against is not None else [])
    proposals = propose(samples, wanted, ordinary, pipeline.labeler)
    _print_proposals(proposals, samples)
    add_confirmed(catalogue, [_entry(proposal, note) for proposal in proposals], pipeline, dry_run, yes)


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

    check_terminal(yes)
    newest = open_catalogue(catalogue)
    if id not in {entry.signature.facts.id for entry in newest.entries}:
        raise UsageError(f"{id}: is no signature of catalogue {catalogue}; `templates list` shows those there are.")
    if yes or typer.confirm(f"Remove {id} from {catalogue}?"):
        typer.echo(said_now(remove_entry(catalogue, id, newest.id)))
    else:
        typer.echo("Nothing was removed.")


def _family(name: str, technique: str | None, capability: str | None, tier: str) -> Family:
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


def _echo_json(pipeline: Pipeline, **content: object) -> None:
    import json

    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    typer.echo(json.dumps({**content, **ids}, ensure_ascii=False))
