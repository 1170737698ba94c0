"""Exceptions: matches that were agreed upon, an account's of a family up to a date, and count for nothing.

    merged units -> **exceptions** -> evidence

The one place where they are applied. Every unit stays, with y = 0: for the same number of units fewer matches are less
evidence, so what is promised holds as before. Removing a unit, a clean one least of all, would break it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.types import Channel


@dataclass(frozen=True)
class AgreedException:
    """Who agreed, and why, that an account's matches of a family count for nothing, to the end of the day `until`
    (UTC)."""

    account: str
    family: str
    who: str
    why: str
    until: date


@dataclass(frozen=True)
class Excused:
    """Units to judge by, and how many of them each exception excused, in order."""

    units: pa.Table
    n_units: Sequence[int]


def excuse(units: pa.Table, exceptions: Sequence[AgreedException]) -> Excused:
    """Merged units with y and y_public 0 where an exception holds; nothing else changes, and no row goes."""
    theirs = np.flatnonzero(pc.is_in(units["account_id"], pa.array([e.account for e in exceptions], pa.string())))
    own = units.take(theirs)
    holds = [holds_for(own, exception) & _counts(own) for exception in exceptions]
    excused = theirs[np.logical_or.reduce([np.zeros(len(theirs), bool), *holds])]
    for name in ("y", "y_public"):
        values = units[name].to_numpy().copy()
        values[excused] = 0
        place = units.schema.get_field_index(name)
        units = units.set_column(place, units.schema.field(place), pa.array(values))
    return Excused(units, [int(rows.sum()) for rows in holds])


def holds_for(units: pa.Table, exception: AgreedException) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Units of the account, and of the family, up to the end of the agreement, [rows]."""
    end = datetime.combine(exception.until, datetime.min.time(), UTC) + timedelta(days=1)
    rows = pc.and_(
        pc.and_(pc.equal(units["account_id"], exception.account), pc.less(units["timestamp"], pa.scalar(end))),
        pc.fill_null(pc.equal(units["family"], exception.family), False),
    )
    return np.asarray(rows)


def _counts(units: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Units that would count as matches."""
    matches = (units["y"].to_numpy() | units["y_public"].to_numpy()) > 0
    return np.asarray(matches & (units["channel"].to_numpy() == Channel.SIGNATURE))
