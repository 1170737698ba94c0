"""Event times as integers, microseconds since 1970 UTC: one value at a time, or a column at once with equal results.

A column in one notation is converted by Arrow, which reads no other than `to_micros` does; any other, value by value.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
EARLIEST = 631_152_000 * _SECOND  # 1990-01-01
LATEST = 4_102_444_800 * _SECOND  # 2100-01-01, the first instant that is too late
# Within 1990 to 2100 the four units share no number, so the size of an epoch tells its unit.
_MULTIPLY = (_SECOND, 1_000, 1)
_DIVIDE = 1_000
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_INSTANT = pa.timestamp("us", tz="UTC")


def to_micros(value: object) -> int | None:
    """Microseconds of ISO 8601 text, an epoch in s, ms, us or ns (number or numeric text) or a datetime.

    Times without a zone are UTC. None if unreadable or outside 1990 to 2100.
    """
    if isinstance(value, str):
        value = value.strip()
        if value[4:5] != "-" and len(value) != 8 and _NUMBER.fullmatch(value):  # eight digits are a date, 20240501
            return _from_number(float(value) if "." in value else int(value[:20]))
        value = _from_iso(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    return _from_datetime(value) if isinstance(value, datetime) else None


def micros_of_text(values: pa.StringArray) -> pa.Int64Array:
    """Microseconds of a column of text; null where missing or unreadable."""
    for zoned in (_INSTANT, pa.timestamp("us")):
        try:
            return _in_range(values.cast(zoned).cast(pa.int64()))
        except pa.ArrowInvalid:
            continue
    return pa.array([to_micros(value) for value in values.to_pylist()], pa.int64())


def micros_of_numbers(values: pa.Array) -> pa.Int64Array:
    """Microseconds of a column of int64 or float64 epochs in whichever units; null wherever unreadable."""
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    micros = np.zeros(len(numbers), np.int64)
    for factor in _MULTIPLY:
        ours = (numbers >= EARLIEST // factor) & (numbers < LATEST // factor)
        micros[ours] = np.rint(numbers[ours] * factor).astype(np.int64)
    nanos = (numbers >= EARLIEST * _DIVIDE) & (numbers < LATEST * _DIVIDE)
    micros[nanos] = numbers[nanos].astype(np.int64) // _DIVIDE
    return _in_range(pa.array(micros))


def micros_of_instants(values: pa.Array) -> pa.Int64Array:
    """Microseconds of a timestamp or date column of any unit and zone; null wherever outside 1990 to 2100."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s" if pa.types.is_date32(values.type) else "ms"))
    unit = values.type.unit
    numbers = values.cast(pa.int64())
    if unit == "ns":
        return _in_range(pa.array(pc.fill_null(numbers, 0).to_numpy() // _DIVIDE))
    factor = {"s": _SECOND, "ms": 1_000, "us": 1}[unit]
    low, high = EARLIEST // factor, LATEST // factor
    inside = pc.and_(pc.greater_equal(numbers, low), pc.less(numbers, high))
    return pc.multiply(pc.if_else(inside, numbers, None), factor)


def _from_number(value: float) -> int | None:
    for factor in _MULTIPLY:
        if EARLIEST // factor <= value < LATEST // factor:
            micros = round(value * factor)
            return micros if micros < LATEST else None
    return int(value) // _DIVIDE if EARLIEST * _DIVIDE <= value < LATEST * _DIVIDE else None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def _from_datetime(value: datetime) -> int | None:
    # Not `timestamp()`: it rounds through a float and reads a naive time in the zone of the machine.
    try:
        since = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH
    except OverflowError:
        return None
    micros = (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds
    return micros if EARLIEST <= micros < LATEST else None


def _in_range(micros: pa.Int64Array) -> pa.Int64Array:
    return pc.if_else(pc.and_(pc.greater_equal(micros, EARLIEST), pc.less(micros, LATEST)), micros, None)
