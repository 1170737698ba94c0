"""Between what is computed and what is stored: the one place where numbers change their form. Stands after `schema`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.online import COUNTS, HIST, HITS, HITS_ANY, N1
from classifier.types import LEVELS, TARGETS, UNIT_SCHEMA, Channel

_BITS = 3  # of a level, 0..7
_SHIFTS = [_BITS * (len(TARGETS) - 1 - c) for c in range(len(TARGETS))]
_ALL_HITS = slice(HITS.start, HITS_ANY.stop)
_HIST_STARTS = np.arange(len(TARGETS)) * (LEVELS + 1)


def to_signed(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Unsigned 64-bit hashes as the signed numbers that are stored: the same bits."""
    return keys.view(np.int64)


def to_unsigned(stored: Iterable[int]) -> NDArray[np.uint64]:
    """Stored numbers as the hashes that they are."""
    return np.array(list(stored), np.int64).view(np.uint64)


class EventKey(NamedTuple):
    """128 bits of an event id's digest: event ids are of any length, and millions are kept."""

    high: int
    low: int


def event_key(event_id: str) -> EventKey:
    digest = blake2b(event_id.encode(), digest_size=16).digest()
    return EventKey(int.from_bytes(digest[:8], "big", signed=True), int.from_bytes(digest[8:], "big", signed=True))


class Unit(NamedTuple):
    """A row of units. Of two with the same key the smaller `rank` is kept, as `merge_units` does."""

    account_no: int
    channel: int
    key: int
    us: int
    event_id: str
    y: int
    y_public: int
    matched: int
    levels: int
    family: str | None

    @property
    def rank(self) -> tuple[object, ...]:
        return (*self[3:9], self.family is not None, self.family)


def units_of(table: pa.Table, numbers: Sequence[int]) -> list[Unit]:
    """Rows of UNIT_SCHEMA as they are stored; `numbers` [rows]: account_no of each."""
    names = ("channel", "key", "timestamp", "event_id", "y", "y_public", "matched", "family")
    plain = {name: table[name].combine_chunks() for name in names}
    plain["key"], plain["timestamp"] = plain["key"].view(pa.int64()), plain["timestamp"].view(pa.int64())
    channel, key, us, event, y, public, matched, family = (plain[name].to_pylist() for name in names)
    packed = np.zeros(len(table), np.int64)
    for shift, target in zip(_SHIFTS, TARGETS, strict=True):
        packed |= table[f"level_{target}"].to_numpy().astype(np.int64) << shift
    rows = zip(numbers, channel, key, us, event, y, public, matched, packed.tolist(), family, strict=True)
    return [Unit(*row) for row in rows]


def unit_table(rows: Sequence[Unit], account_ids: Sequence[str]) -> pa.Table:
    """Stored units as UNIT_SCHEMA; `account_ids` [rows]."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(Unit._fields)
    _, channel, key, us, event, y, public, matched, levels, family = columns
    packed = np.array(levels, np.int64)
    spread = {f"level_{t}": packed >> shift & LEVELS for shift, t in zip(_SHIFTS, TARGETS, strict=True)}
    values = {
        "account_id": account_ids,
        "channel": channel,
        "key": to_unsigned(key),
        "timestamp": us,
        "event_id": event,
        "y": y,
        "y_public": public,
        "matched": matched,
        **{name: column.astype(np.uint8) for name, column in spread.items()},
        "family": family,
    }
    arrays = [pa.array(values[field.name], field.type) for field in UNIT_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=UNIT_SCHEMA)


def count_units(rows: Sequence[Unit], step: NDArray[np.int64], n_steps: int) -> NDArray[np.int64]:
    """Counts [n_steps, COUNTS] of units by the step [rows] they belong to."""
    counts = np.zeros((n_steps, COUNTS), np.int64)
    cells = np.array([(row.channel, row.y, row.y_public, row.levels) for row in rows], np.int64).reshape(-1, 4)
    channel, y, public, levels = cells.T
    own = channel == Channel.SIGNATURE
    hits = np.stack([y[own], y[own] | public[own]], axis=1)[:, :, None] >> np.arange(len(TARGETS)) & 1
    np.add.at(counts[:, N1], step[own], 1)
    np.add.at(counts[:, _ALL_HITS], step[own], hits.reshape(len(hits), 2 * len(TARGETS)))
    np.add.at(counts[:, HIST], (step[~own, None], _HIST_STARTS + (levels[~own, None] >> _SHIFTS & LEVELS)), 1)
    return counts


def levels_of(unit: Unit) -> list[int]:
    """Levels of a unit, in the order of TARGETS."""
    return [unit.levels >> shift & LEVELS for shift in _SHIFTS]
