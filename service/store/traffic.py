"""Prompts by day, of each account and of all: what is asked for over time. Counts of events, never evidence.

Beneath `recording`, which adds to them, and `pages`, which reads them. Stands after `statements`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from classifier.rows import LabelRow
from classifier.types import TARGETS
from classifier.units import DAY_US
from service.store.schema import COUNTED, day_totals, traffic
from service.store.statements import upsert, write_many

PARTS = 16
"""Rows that the total of a day is spread over, by account: processes that write at once seldom meet."""

_PLACES = {name: place for place, name in enumerate(TARGETS)}
_UPSERTS = tuple(
    upsert(table, {name: f"{table.name}.{name} + excluded.{name}" for name in COUNTED})
    for table in (traffic, day_totals)
)


def record_traffic(connection: Connection, labels: Sequence[LabelRow], numbers: Sequence[int]) -> None:
    """Count events that are new. `numbers` [events]: account_no of each."""
    of_accounts: dict[tuple[int, int], list[int]] = {}
    of_days: dict[tuple[int, int], list[int]] = {}
    for label, number in zip(labels, numbers, strict=True):
        day = label.us // DAY_US
        for counts, key in ((of_accounts, (number, day)), (of_days, (day, number % PARTS))):
            row = counts.setdefault(key, [0] * len(COUNTED))
            row[_PLACES[label.capability]] += 1
            row[-1] += label.match is not None
    for statement, counts in zip(_UPSERTS, (of_accounts, of_days), strict=True):
        write_many(connection, statement, [(*key, *counts[key]) for key in sorted(counts)])
