"""The commands `probewatch bench ...`: figures of this machine, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    typer.Option(
        "--folder",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Where files are made, and deleted.",
        show_default="a temporary one",
    ),
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
    from rich.console import Console

    from service.bench.label import measure_label
    from service.bench.measures import print_measures, write_measures

    say = Console(stderr=True, quiet=quiet)
    with TemporaryDirectory(dir=folder) as made:
        measures = list(measure_label(Path(made), prompts, largest, _obvious_way(), say.print))
    print_measures("probewatch bench label", measures, Console())
    if json is not None:
        write_measures(json, measures)


@bench_app.command()
def match(
    signatures: Annotated[
        list[int], typer.Option("--signatures", metavar="N", min=1, help="How many; may be given again.")
    ] = [5_000, 50_000],  # noqa: B006
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What matching known templates costs, with the bundle's signatures and with many more of their kind."""
    from rich.console import Console

    from classifier.bundle import default_bundle_dir
    from classifier.pipeline import Pipeline
    from service.bench.match import measure_match
    from service.bench.measures import print_measures, write_measures

    say = Console(stderr=True, quiet=quiet)
    measures = list(measure_match(Pipeline.load(default_bundle_dir()).labeler, signatures, say.print))
    print_measures("probewatch bench match", measures, Console())
    if json is not None:
        write_measures(json, measures)


@bench_app.command()
def serve(
    seconds: Annotated[float, typer.Option("--seconds", metavar="N", min=1, help="How long each load lasts.")] = 5,
    overload: Annotated[
        float, typer.Option("--overload", metavar="N", min=0, help="How long three times the peak lasts; 0: not.")
    ] = 60,
    soak: Annotated[
        float,
        typer.Option("--soak", metavar="N", min=0, help="How long half of the peak lasts at last.", show_default="not"),
    ] = 0,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="An empty store, which is filled.", show_default="a new SQLite"),
    ] = None,
    folder: Folder = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What scoring in-line costs: requests a second beside an empty endpoint, batches, latency, overload, memory.

    Starts `probewatch serve` with one worker and sends it prompts of 500 bytes, from bare sockets on the same machine.
    Takes two minutes and some hundred megabytes of disk. Settings PROBEWATCH_* hold for that server too.
    """
    from rich.console import Console

    from service.bench.measures import print_measures, write_measures
    from service.bench.serve import measure_serve

    if store is not None:
        _require_empty(store)
    say = Console(stderr=True, quiet=quiet)
    with TemporaryDirectory(dir=folder) as made:
        measures = list(measure_serve(Path(made), store, seconds, overload, soak, say.print))
    print_measures("probewatch bench serve", measures, Console())
    if json is not None:
        write_measures(json, measures)


def _require_empty(url: str) -> None:
    """Refuse a store that someone uses."""
    from contextlib import closing

    from sqlalchemy import select

    from classifier.errors import UsageError
    from service.store.opening import open_store
    from service.store.schema import accounts, api_keys
    from service.store.upgrade import upgrade

    with closing(open_store(url)) as store:
        upgrade(store)
        with store.reading() as connection:
            used = any(connection.execute(select(table).limit(1)).first() for table in (accounts, api_keys))
    if used:
        raise UsageError("--store got a store with accounts or keys in it: expected an empty one, since it is filled.")


def _obvious_way() -> Callable[[Sequence[str]], float] | None:
    """What to measure against; None without the training extra."""
    from importlib.util import find_spec

    if find_spec("sentence_transformers") is None:
        return None
    from training.obvious import obvious_seconds

    return obvious_seconds
