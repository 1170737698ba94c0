"""The commands `probewatch templates discover`, `approve`, `benign`: from a labelled run to signatures."""

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
    FlagTier,
    Note,
    Target,
    Technique,
    Yes,
    add_samples,
    family_of,
    tier_of,
)
from service.options import AsJson, BundleDir, CatalogueDir, echo_json, load_pipeline

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline
    from classifier.signing import Family
    from service.prompts import Prompts

discovery_app = typer.Typer()
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `label --out` wrote.")]
FindingId = Annotated[str, typer.Argument(metavar="ID", help="Id of a finding, as `discover` prints it.")]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Where the files that were labelled lie now.",
        show_default="where they lay",
    ),
]


@discovery_app.command("discover")
def discover_templates(
    run_dir: RunDir,
    paths: Inputs = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="How many findings to show.")] = 10,
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    as_json: AsJson = False,
) -> None:
    """Look for wordings that many accounts of a run share and no signature explains.

    A run holds no text, so the files that were labelled are read again. At most 32 distinct prompts of an account are
    looked at; a wording is shown if prompts of at least 5 accounts share it. First come those that many accounts use
    repeatedly, with varying payloads, in prompts that read like extraction. No promise on errors is made here:
    `approve` what you take for a campaign, and call `benign` what is an application's.

    What a campaign wrote is shown on the terminal alone: with --json the wordings are left out.

    \b
    probewatch templates discover run
    probewatch templates approve run 5c1f0e9a72 --family night_mill
    """
    from service import discovery_words
    from service.discovery import Discovery
    from service.finished import read_finished

    run = read_finished(run_dir)
    pipeline = load_pipeline(bundle, catalogue)
    found = Discovery(run, pipeline, paths if paths is not None else []).listed(top)
    if as_json:
        echo_json(pipeline, **discovery_words.as_json(found))
    else:
        typer.echo("\n".join(discovery_words.found_lines(found)))


@discovery_app.command("approve")
def approve_finding(
    run_dir: RunDir,
    id: FindingId,
    family: FamilyName,
    paths: Inputs = None,
    technique: Technique = None,
    capability: Capability = None,
    tier: FlagTier = "public",
    against: Against = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: AddTo = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add a finding of `discover` as a signature: a campaign's.

    Its prompts are read again and go through the checks of `add`, which shows what it would add for you to confirm. A
    public signature puts accounts up for review and flags none. An exclusive one flags by what is sent after you
    approve it; who sent it before is listed for review as linked, which is no evidence.

    \b
    probewatch templates approve run 5c1f0e9a72 --family night_mill --dry-run
    """
    from classifier.types import Tier

    target = Target(bundle, catalogue, note, dry_run, yes)
    wanted = family_of(family, technique, capability, tier_of(tier, (Tier.EXCLUSIVE, Tier.PUBLIC), against))
    _add_finding(run_dir, id, paths, wanted, against, target)


@discovery_app.command("benign")
def call_finding_benign(
    run_dir: RunDir,
    id: FindingId,
    family: FamilyName,
    paths: Inputs = None,
    against: Against = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: AddTo = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add a finding of `discover` as a harmless application's: what is fixed in its prompts is excused.

    Its prompts are read again and go through the checks of `add --tier benign`.

    \b
    probewatch templates benign run 5c1f0e9a72 --family help_desk --dry-run
    """
    from classifier.types import Tier

    target = Target(bundle, catalogue, note, dry_run, yes)
    _add_finding(run_dir, id, paths, family_of(family, None, None, Tier.BENIGN), against, target)


def _add_finding(
    run_dir: Path, id: str, paths: list[str] | None, wanted: Family, against: list[str] | None, target: Target
) -> None:
    from service.finished import read_finished

    run = read_finished(run_dir)

    def samples(pipeline: Pipeline) -> Prompts:
        from service.discovery import Discovery
        from service.proposals import MOST_SAMPLES

        found = Discovery(run, pipeline, paths if paths is not None else []).samples(id, MOST_SAMPLES)
        if found is None:
            raise UsageError(f"{id}: no finding of {run_dir} has this id; `probewatch templates discover` lists them.")
        return found

    add_samples(samples, wanted, against, target)
