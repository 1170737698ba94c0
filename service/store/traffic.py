"""Prompts by day, of each account and of all: what is asked for over time. Counts of events, never evidence.

Beneath `recording`, which adds to them, and `pages`, which reads them. Stands after `statements`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from sqlalchemy import Connection

from classifier.evidence import DAY_US
from service.store.schema import COUNTED, day_totals, traffic
from service.store.statements import upsert, write_many

PARTS = 16
"""Rows that the total of a day is spread over, by account: processes that write at once seldom meet."""

_UPSERTS = tuple(
    (upsert(table, {name: f"{table.name}.{name} + excluded.{name}" for name in COUNTED}))
    for table in (traffic, day_totals)
)


def record_traffic(connection: Connection, labels: pa.Table, numbers: Sequence[int]) -> None:
    """Count events (LABEL_SCHEMA) that are new; `numbers` [events]: account_no of each."""
    days = [us // DAY_US for us in labels["timestamp"].combine_chunks().view(pa.int64()).to_pylist()]
    columns = (labels["capability"].to_pylist(), labels["template_id"].is_valid().to_pylist())
    of_accounts, of_days = Counter[tuple[int, int, str]](), Counter[tuple[int, int, str]]()
    for number, day, capability, matched in zip(numbers, days, *columns, strict=True):
        for name in (f"n_{capability}", *(("n_matched",) if matched else ())):
            of_accounts[number, day, name] += 1
            of_days[day, number % PARTS, name] += 1
    for statement, counted in zip(_UPSERTS, (of_accounts, of_days), strict=True):
        keys = sorted({key[:2] for key in counted})
        write_many(connection, statement, [(*key, *(counted[*key, name] for name in COUNTED)) for key in keys])
