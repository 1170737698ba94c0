"""Times in: each notation against a hand-computed instant, and the columns against the scalars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.timestamps import EARLIEST, LATEST, micros_of_instants, micros_of_numbers, micros_of_text, to_micros

NOON = 1_714_564_800  # 2024-05-01T12:00:00Z: 19,844 days of 86,400 s and 43,200 s

SAME_INSTANT = [
    "2024-05-01T12:00:00Z",
    "2024-05-01T12:00:00",
    "2024-05-01 12:00",
    "2024-05-01T17:30:00+05:30",
    "2024-05-01T07:00:00.000-0500",
    "2024-05-01 12:00:00 UTC",
    " 2024-05-01T12:00:00Z ",
    "20240501T120000Z",
    NOON,
    float(NOON),
    NOON * 1_000,
    NOON * 1_000_000,
    NOON * 1_000_000_000,
    str(NOON),
    f"{NOON}.0",
    str(NOON * 1_000),
    datetime(2024, 5, 1, 12),
    datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
]

UNREADABLE = [
    "yesterday", "", "2024", "2024-13-01", "2024-02-30", "1_714_564_800", "\u0661\u0667\u0661", "-1714564800", "1e9",
    "1989-12-31T23:59:59Z", "2100-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    0, 1, -NOON, 10**30, 1e300, float("nan"), float("inf"), True, None, [NOON], b"2024-05-01",
]  # fmt: skip


@pytest.mark.parametrize("value", SAME_INSTANT)
def test_notations_of_one_instant(value: object) -> None:
    assert to_micros(value) == NOON * 1_000_000


@pytest.mark.parametrize("value", UNREADABLE)
def test_unreadable_or_implausible(value: object) -> None:
    assert to_micros(value) is None


def test_dates_fractions_and_edges() -> None:
    assert to_micros("2024-05-01") == to_micros("20240501") == (NOON - 43_200) * 1_000_000
    assert to_micros("2024-05-01T12:00:00.123456789Z") == NOON * 1_000_000 + 123_456
    assert to_micros(NOON + 0.25) == to_micros(f"{NOON}.25") == NOON * 1_000_000 + 250_000
    assert to_micros(NOON * 1_000_000_000 + 1_999) == NOON * 1_000_000 + 1
    assert to_micros("1990-01-01") == EARLIEST
    assert to_micros("2099-12-31T23:59:59.999999Z") == LATEST - 1


def test_text_columns_agree_with_scalars() -> None:
    texts = [value for value in [*SAME_INSTANT, *UNREADABLE] if isinstance(value, str)]
    for column in ([texts[0]], [texts[1]], [texts[0], None], texts):
        expected = [to_micros(text) for text in column]
        assert micros_of_text(pa.array(column, pa.string())).to_pylist() == expected


@given(
    st.lists(
        st.one_of(st.integers(-(2**62), 2**62), *(st.integers(EARLIEST // d, LATEST // d) for d in (1, 10**3, 10**6)))
    )
)
def test_integer_columns_agree_with_scalars(values: list[int]) -> None:
    assert micros_of_numbers(pa.array(values, pa.int64())).to_pylist() == [to_micros(value) for value in values]


@given(st.lists(st.one_of(st.floats(), st.floats(EARLIEST / 1e6, LATEST / 1e6), st.floats(EARLIEST, LATEST))))
def test_float_columns_agree_with_scalars(values: list[float]) -> None:
    assert micros_of_numbers(pa.array(values, pa.float64())).to_pylist() == [to_micros(value) for value in values]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_instant_columns(unit: str, zone: str | None) -> None:
    # A zone is how an instant is shown; an early one must not be taken for an epoch in another unit.
    values = [datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(1970, 1, 8, tzinfo=UTC), None]
    column = pa.array(values, pa.timestamp("s", tz="UTC")).cast(pa.timestamp(unit, tz="UTC")).cast(pa.int64())
    assert micros_of_instants(column.cast(pa.timestamp(unit, tz=zone))).to_pylist() == [NOON * 1_000_000, None, None]


def test_instants_that_overflow_microseconds_are_refused() -> None:
    column = pa.array([2**62, NOON], pa.int64()).cast(pa.timestamp("s"))
    assert micros_of_instants(column).to_pylist() == [None, NOON * 1_000_000]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_date_columns(kind: pa.DataType) -> None:
    assert micros_of_instants(pa.array([date(2024, 5, 1)], kind)).to_pylist() == [(NOON - 43_200) * 1_000_000]
