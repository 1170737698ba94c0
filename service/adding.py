"""What the commands that add to a catalogue have in common: their options, what is checked first, and the last step.

Used by `template_cli` and `exchange_cli`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import UsageError
from service.options import load_pipeline

if TYPE_CHECKING:
    from classifier.catalogue import Catalogue, Entry
    from classifier.pipeline import Pipeline

LOCAL = Path("catalogue")
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


def check_note(note: str) -> None:
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise UsageError("--note is not valid UTF-8: write it in the encoding of your terminal.") from error


def check_terminal(settled: bool) -> None:
    """Before any work: whether there is somebody to ask, unless the answer is settled."""
    on_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    if not (settled or on_terminal):
        raise UsageError("There is no terminal to confirm on: give --yes to do it without asking.")


def pipeline_to_add_to(bundle: Path | None, folder: Path) -> Pipeline:
    """Bundle and catalogue, found fit to be added to before any work is done."""
    from classifier.catalogue import check_encoder
    from classifier.catalogue_folder import INDEX, check_room

    check_room(folder)
    pipeline = load_pipeline(bundle, folder if (folder / INDEX).exists() else None, quiet=True)
    if pipeline.catalogue is not None:
        check_encoder(pipeline.catalogue, pipeline.encoder_digest)
    return pipeline


def add_confirmed(folder: Path, entries: list[Entry], pipeline: Pipeline, dry_run: bool, yes: bool) -> None:
    """Add entries that were shown, once somebody agrees."""
    from classifier.catalogue import add_entries

    if dry_run:
        typer.echo("Nothing was added (--dry-run).")
    elif yes or typer.confirm(f"Add to {folder}?"):
        onto = pipeline.catalogue.id if pipeline.catalogue is not None else None
        written = add_entries(folder, entries, pipeline.encoder_digest, onto)
        typer.echo(f"{said_now(written)}, {len(entries)} of them new; use it with --catalogue {folder}")
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
