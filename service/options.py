"""Options that several commands take, and what the folders they name come to. Used by `cli` and `template_cli`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run; made if it is not there.")]
BundleDir = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="Bundle to label with.", show_default="the one shipped")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", exists=True, file_okay=False, help="Folder of the data that data/README.md describes."
    ),
]
CatalogueDir = Annotated[
    Path | None,
    typer.Option(
        "--catalogue", metavar="DIR", help="Your own signatures, over those of the bundle.", show_default="none"
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, data and machine: same outcome.")]


def bundle_dir(given: Path | None) -> Path:
    """The folder given, or that of the bundle which is shipped."""
    from classifier.bundle import default_bundle_dir

    return given if given is not None else default_bundle_dir()


def load_pipeline(bundle: Path | None, catalogue: Path | None, quiet: bool = False) -> Pipeline:
    """Load both; says on standard error, unless `quiet`, where the catalogue counts for less than it could.

    Raises:
        BundleError: either is missing, corrupt or incompatible.
    """
    from classifier.pipeline import Pipeline

    pipeline = Pipeline.load(bundle_dir(bundle), catalogue=catalogue)
    local = pipeline.catalogue
    if local is not None and not local.made_with(pipeline.encoder_digest) and not quiet:
        typer.echo(
            f"catalogue {local.path}: its vectors were made with another encoder than this bundle's, and no text is "
            "kept to make them again: its signatures match by their shingles alone.",
            err=True,
        )
    return pipeline
