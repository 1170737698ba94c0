"""Units (UNIT_SCHEMA), merged and in order: a set union, whatever order, splits and retries they came in.

labels, units -> **units** -> evidence
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.eprocess import Bools, Ints, changes
from classifier.types import UNIT_SCHEMA

DAY_US = 86_400_000_000
EVENT_ORDER = ("account_id", "timestamp", "event_id")
UNIT_KEY = ("account_id", "channel", "key")


def merge_units(tables: Iterable[pa.Table]) -> pa.Table:
    """Set union of units: one row per (account_id, channel, key), at its smallest (timestamp, event_id); in event
    order."""
    units = pa.concat_tables([UNIT_SCHEMA.empty_table(), *(table.select(UNIT_SCHEMA.names) for table in tables)])
    account = string_ranks(units["account_id"])
    order = _order_of_events(units, account)
    columns = (units[name].to_numpy()[order] for name in ("key", "channel"))
    identity = (*columns, account[order])
    grouped = np.lexsort(identity)  # stable: of equal units, the first event's comes first
    first = grouped[changes(*(column[grouped] for column in identity))]
    return units.take(pa.array(order[np.sort(first)])).combine_chunks()


def _order_of_events(units: pa.Table, account: Ints) -> Ints:
    """Rows in order of account, event, channel and the rest. Numbers are sorted first, and strings only where an
    account has several events at one instant."""
    us, channel = microseconds(units["timestamp"]), units["channel"].to_numpy()
    order = np.lexsort((channel, us, account))
    event, later = units["event_id"].take(pa.array(order)), channel[order]
    instants = changes(account[order], us[order])
    settled = instants.copy()
    settled[1:] |= pc.equal(event[1:], event[:-1]).to_numpy() & (later[1:] > later[:-1])
    if not settled.all():
        instant = np.cumsum(instants)
        rows = np.flatnonzero(np.isin(instant, instant[~settled]))
        names = dict.fromkeys((*EVENT_ORDER, *UNIT_KEY, *UNIT_SCHEMA.names))
        keys = [(name, "ascending", "at_start") for name in names]
        order[rows] = order[rows][pc.sort_indices(units.take(pa.array(order[rows])), keys).to_numpy()]
    return order


def string_ranks(column: pa.ChunkedArray) -> Ints:
    """Rank of each row's string among the distinct ones, sorted."""
    encoded = column.combine_chunks().dictionary_encode()
    rank = np.argsort(pc.sort_indices(encoded.dictionary).to_numpy())
    return np.asarray(rank[encoded.indices.to_numpy()], np.int64)


def in_event_order(units: pa.Table) -> pa.Table:
    """Sorted by EVENT_ORDER, as merged units are already."""
    units = units.combine_chunks()
    out_of_order, tied = np.zeros(max(units.num_rows - 1, 0), np.bool_), True
    for name in EVENT_ORDER:
        before, after = units[name][:-1], units[name][1:]
        out_of_order |= tied & pc.less(after, before).to_numpy()
        tied &= pc.equal(after, before).to_numpy()
    return units.sort_by([(name, "ascending") for name in EVENT_ORDER]) if out_of_order.any() else units


def starts_of(table: pa.Table, names: Sequence[str]) -> Bools:
    """True where the named columns, no nulls in them, differ from the row before, and in the first row."""
    starts = np.zeros(table.num_rows, np.bool_)
    starts[:1] = True
    for name in names:
        starts[1:] |= pc.not_equal(table[name][1:], table[name][:-1]).to_numpy()
    return starts


def microseconds(timestamps: pa.ChunkedArray) -> Ints:
    """Since 1970, of timestamp[us]."""
    return np.asarray(timestamps.cast(pa.int64()).to_numpy())
