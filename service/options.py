"""Options that several commands take, and what the folders they name come to. Used by `cli` and `template_cli`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from classifier.catalogue import Catalogue
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
        "--data",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder of the data that training/README.md describes.",
    ),
]
MaybeData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder of the data that training/README.md describes.",
        show_default="none",
    ),
]
CatalogueDir = Annotated[
    Path | None,
    typer.Option(
        "--catalogue",
        metavar="DIR",
        readable=False,  # not checked here: an unreadable one has an exit code of its own
        help="Your own signatures, over those of the bundle.",
        show_default="none",
    ),
]
Exceptions = Annotated[
    Path | None,
    typer.Option(
        "--exceptions",
        metavar="FILE",
        help="Matches agreed to count for nothing: TOML, [[exception]] with account, family, who, why, until.",
        show_default="none",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, data and machine: same outcome.")]


def bundle_dir(given: Path | None) -> Path:
    """The folder given, or that of the bundle which is shipped."""
    from classifier.bundle import default_bundle_dir

    return given if given is not None else default_bundle_dir()


def load_pipeline(
    bundle: Path | None, catalogue: Path | None, quiet: bool = False, begun: str | None = None
) -> Pipeline:
    """Load both; says on standard error, unless `quiet`, where the catalogue counts for less than it could.

    `begun`: id of the catalogue that a run was begun with; that version is loaded if the folder keeps it, else the
    newest.

    Raises:
        BundleError: either is missing, corrupt or incompatible.
    """
    from classifier.catalogue import has_version
    from classifier.pipeline import Pipeline

    known = catalogue is not None and begun is not None and has_version(catalogue, begun)
    pipeline = Pipeline.load(bundle_dir(bundle), catalogue=catalogue, version=begun if known else None)
    if pipeline.catalogue is not None and not quiet:
        for remark in _remarks(pipeline.catalogue, pipeline.encoder_digest):
            typer.echo(f"catalogue {pipeline.catalogue.path}: {remark}.", err=True)
    return pipeline


def _remarks(local: Catalogue, encoder: str) -> Iterator[str]:
    from classifier.catalogue import open_catalogue

    newest = open_catalogue(local.path).id
    if local.id != newest:
        yield f"the run goes on with version {local.id}, which it was begun with; for {newest}, choose another --out"
    if not local.made_with(encoder):
        yield (
            "its vectors were made with another encoder than this bundle's, and no text is kept to make them again: "
            "its signatures match by their shingles alone"
        )


def echo_json(pipeline: Pipeline, **content: object) -> None:
    """Print a document, and what it was made with."""
    import json

    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    typer.echo(json.dumps({**content, **ids}, ensure_ascii=False))
