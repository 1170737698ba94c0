"""Prompts by day, of each account and of all: what is asked for over time. Counts of events, never evidence.

Beneath `recording`, which adds to them, and `pages`, which reads them. Stands after `statements`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from classifier.types import TARGETS
from classifier.units import DAY_US
from service.store.schema import COUNTED, day_totals, traffic
from service.store.statements import upsert, write_many

PARTS = 16
"""Rows that the total of a day is spread over, by account: processes that write at once seldom meet."""

_PLACES = {name: place for place, name in enumerate(TARGETS)}
_UPSERTS = tuple(
    (upsert(table, {name: f"{table.name}.{name} + excluded.{name}" for name in COUNTED}))
    for table in (traffic, day_totals)
)


class Counted(NamedTuple):
    """Columns of events [n] that are new: account_no, time, what they ask for, whether they match a known template."""

    numbers: Sequence[int]
    times: Sequence[int]
    capabilities: Sequence[str]
    matched: Sequence[bool]


def record_traffic(connection: Connection, counted: Counted) -> None:
    """Count events."""
    of_accounts: dict[tuple[int, int], list[int]] = {}
    of_days: dict[tuple[int, int], list[int]] = {}
    for number, us, capability, matched in zip(*counted, strict=True):
        day = us // DAY_US
        for counts, key in ((of_accounts, (number, day)), (of_days, (day, number % PARTS))):
            row = counts.setdefault(key, [0] * len(COUNTED))
            row[_PLACES[capability]] += 1
            row[-1] += matched
    for statement, counts in zip(_UPSERTS, (of_accounts, of_days), strict=True):
        write_many(connection, statement, [(*key, *counts[key]) for key in sorted(counts)])
