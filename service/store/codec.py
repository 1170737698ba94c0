"""Between what is computed and what is stored: the one place where numbers change their form. Stands after `schema`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.online import COUNTS, HIST, HITS, HITS_ANY, N1
from classifier.rows import UnitRow
from classifier.types import LEVELS, TARGETS, UNIT_SCHEMA, Channel

_BITS = 3  # of a level, 0..7
_SHIFTS = [_BITS * (len(TARGETS) - 1 - c) for c in range(len(TARGETS))]


def signed(key: int) -> int:
    """An unsigned 64-bit hash as the signed number that is stored: the same bits."""
    return key - (1 << 64) if key >> 63 else key


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


def units_of(rows: Sequence[UnitRow], numbers: Sequence[int]) -> list[Unit]:
    """Rows of units as they are stored; `numbers` [rows]: account_no of each."""
    return [
        Unit(number, channel, signed(key), us, event_id, y, y_public, matched, _packed(levels), family)
        for number, (event_id, _, us, channel, key, y, y_public, matched, levels, family) in zip(
            numbers, rows, strict=True
        )
    ]


@lru_cache(4096)
def _packed(levels: tuple[int, ...]) -> int:
    return sum(level << shift for level, shift in zip(levels, _SHIFTS, strict=True))


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


def count_units(rows: Sequence[Unit], step: Sequence[int], n_steps: int) -> NDArray[np.int64]:
    """Counts [n_steps, COUNTS] of units by the step [rows] they belong to."""
    cells = [
        at * COUNTS + cell
        for at, row in zip(step, rows, strict=True)
        for cell in (
            _signature_cells(row.y, row.y_public) if row.channel == Channel.SIGNATURE else _intent_cells(row.levels)
        )
    ]
    return np.bincount(np.array(cells, np.int64), minlength=n_steps * COUNTS).reshape(n_steps, COUNTS)


@lru_cache(256)
def _signature_cells(y: int, public: int) -> tuple[int, ...]:
    """Columns of counts in which a unit of the signature channel is one."""
    bits = range(len(TARGETS))
    hits = (HITS.start + c for c in bits if y >> c & 1)
    return (N1, *hits, *(HITS_ANY.start + c for c in bits if (y | public) >> c & 1))


@lru_cache(4096)
def _intent_cells(levels: int) -> tuple[int, ...]:
    """The same of the intent channel, by its packed levels."""
    return tuple(HIST.start + c * (LEVELS + 1) + (levels >> shift & LEVELS) for c, shift in enumerate(_SHIFTS))


def levels_of(unit: Unit) -> list[int]:
    """Levels of a unit, in the order of TARGETS."""
    return [unit.levels >> shift & LEVELS for shift in _SHIFTS]
