"""What the tests of traffic share: a good record, files of records, and the parts that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from service.columns import PART_SCHEMA
from service.records import Part, expand_inputs, read_parts

GOOD: dict[str, object] = {"account_id": "acct-1", "prompt": "Plan a week of meals."}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
Line = bytes | dict[str, object]


def parts_of(path: Path, rows_per_part: int = 65_536, format: str = "auto") -> list[Part]:
    (file,) = expand_inputs([str(path)])
    return list(read_parts(file, format, rows_per_part))


def read(path: Path) -> Part:
    (part,) = parts_of(path)
    assert part.events.schema == PART_SCHEMA
    part.events.validate(full=True)
    assert part.n_read == len(part.events) + len(part.rejected)
    return part


def jsonl(path: Path, lines: Iterable[Line]) -> Path:
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def prompts(part: Part) -> list[str]:
    return part.events["prompt"].to_pylist()  # type: ignore[no-any-return]


def reasons(part: Part) -> list[tuple[int, str]]:
    return [(rejection.line, rejection.reason) for rejection in part.rejected]
