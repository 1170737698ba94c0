"""How far a labelling or a simulation is, on a terminal. Used by the commands; the work calls what this gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.batch import Progress as RunProgress


@contextmanager
def show_progress(quiet: bool) -> Iterator[Callable[[RunProgress], None]]:
    """What shows how far a run is: a line on a terminal, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("labelling", total=None, said="")

        def show(at: RunProgress) -> None:
            elapsed = bar.tasks[0].elapsed
            rate = f", {at.n_read / elapsed:,.0f} a second" if elapsed else ""
            bar.update(task, said=f"{at.n_read:,} records{rate}, input {at.input} of {at.n_inputs}")

        yield show


@contextmanager
def show_count(quiet: bool, doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """What shows how many of `total` are done, called with how many more: a line on a terminal, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda more: bar.advance(task, more)
