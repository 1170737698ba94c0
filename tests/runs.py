"""Small traffic and what its labelled run holds: shared by the tests of the batch path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SUBJECTS = ("a sonnet about rain", "a regular expression for dates", "three uses of a brick", "a plan for one week")


def records(n: int, start: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Events start to start + n - 1 of four accounts, one an hour from the first of May 2026."""
    return [
        {
            "event_id": f"e-{i}",
            "account_id": f"account-{i % 4}",
            "timestamp": 1_777_593_600 + 3_600 * i,
            "prompt": f"Please write {SUBJECTS[i % 4]}, number {i}.",
        }
        | changes
        for i in range(start, start + n)
    ]


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file of a finished run, byte for byte, run.json without its timings."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    document = json.loads(files["run.json"])
    assert set(document["seconds"]) == {"label", "findings", "total"}
    del document["seconds"]
    files.pop("report.html", None)  # it shows the timings
    return files | {"run.json": json.dumps(document).encode()}


def labels_of(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((folder / "labels").iterdir())])


def counts_of(folder: Path) -> dict[str, int]:
    counts = json.loads((folder / "run.json").read_text())["counts"]
    assert counts["read"] == counts["labelled"] + counts["rejected"] + counts["duplicates"]
    assert counts["labelled"] == labels_of(folder).num_rows
    assert counts["rejected"] == len((folder / "rejected.jsonl").read_text().splitlines())
    return {name: counts[name] for name in ("read", "labelled", "rejected", "duplicates")}
