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
    Capability,
    DryRun,
    FamilyName,
    Note,
    Target,
    Technique,
    Yes,
    add_samples,
    check_terminal,
    family_of,
    said_now,
    tier_of,
)
from service.options import AsJson, BundleDir, CatalogueDir, echo_json, load_pipeline

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline
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
        echo_json(pipeline, **check_json(checked))
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
    family: FamilyName,
    technique: Technique = None,
    capability: Capability = None,
    tier: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="public: a campaign's; it is shown, and at most puts an account up for review. exclusive: what is "
            "sent from now on may flag; half of the accounts in --against must certify that honest ones do not send "
            "it. benign: a harmless application's; what is fixed in its prompts is excused.",
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
    from classifier.types import Tier
    from service.prompts import read_samples
    from service.proposals import MOST_SAMPLES

    wanted = family_of(family, technique, capability, tier_of(tier, list(Tier), against))
    target = Target(bundle, catalogue, note, dry_run, yes)
    add_samples(lambda pipeline: read_samples(source, MOST_SAMPLES), wanted, against, target)


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
