"""The commands `probewatch bench ...`: figures of this machine, as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.options import Quiet

bench_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure speed on this machine, against the obvious way to do it."
)

Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the figures there too.", show_default="the table alone"),
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where files are made, and deleted.", show_default="a temporary one"),
]


@bench_app.command()
def label(
    prompts: Annotated[int, typer.Option("--prompts", metavar="N", min=1000, help="Prompts to label.")] = 300_000,
    largest: Annotated[
        int, typer.Option("--largest", metavar="N", min=1000, help="Growth of cost is measured up to this size.")
    ] = 1_000_000,
    folder: Folder = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """How fast historical traffic is labelled: Parquet, JSONL, broken lines, growth, memory, against MiniLM + faiss.

    Traffic is made for it, prompts of 500 bytes, and needs about 700 bytes of disk a prompt while it is measured.
    """
    from importlib.util import find_spec

    from rich.console import Console

    from service.bench.label import measure_label
    from service.bench.measures import print_measures, write_measures

    obvious_seconds = None
    if find_spec("sentence_transformers") is not None:
        from training.obvious import obvious_seconds
    say = Console(stderr=True, quiet=quiet)
    with TemporaryDirectory(dir=folder) as made:
        measures = list(measure_label(Path(made), prompts, largest, obvious_seconds, say.print))
    print_measures("probewatch bench label", measures, Console())
    if json is not None:
        write_measures(json, measures)
