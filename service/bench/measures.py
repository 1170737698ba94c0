"""What a benchmark found: rows of a table that a person reads and a program keeps."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from service.files import replacing
from service.versions import version_of


@dataclass(frozen=True)
class Measure:
    """One figure. `note` says of what, so that it can be repeated."""

    name: str
    value: float
    unit: str
    note: str = ""


def print_measures(title: str, measures: Sequence[Measure], console: Console) -> None:
    """A table; figures of 100 and more without decimals."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("measure", "value", "unit", "of what"):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for one in measures:
        value = f"{one.value:,.0f}" if abs(one.value) >= 100 else f"{one.value:.3g}"
        table.add_row(one.name, value, one.unit, one.note)
    console.print(table)


def write_measures(path: Path, measures: Sequence[Measure]) -> None:
    """As JSON, with the machine beside.

    Raises:
        OutputError: it cannot be written.
    """
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processors": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"probewatch": version_of("probewatch"), "python": platform.python_version()},
        "measures": [asdict(one) for one in measures],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
