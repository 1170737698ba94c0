"""Unit rows for tests of evidence, verdicts and campaigns, from arrays that broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from classifier.types import TARGETS, UNIT_SCHEMA, Channel
from classifier.units import DAY_US

ALL_TARGETS = 0b1111


def unit_rows(
    accounts: Sequence[str],
    days: ArrayLike,
    *,
    channel: int = Channel.SIGNATURE,
    keys: ArrayLike | None = None,
    events: ArrayLike | None = None,
    y: ArrayLike = 0,
    y_public: ArrayLike = 0,
    matched: ArrayLike | None = None,
    levels: ArrayLike = 0,
    families: Sequence[str | None] | None = None,
) -> pa.Table:
    """One unit per account name given. `events` (default 0, 1, ...): numbers of the events, also us into the day.
    `matched`: as y and y_public tell if not given."""
    n = len(accounts)
    number = np.arange(n) if events is None else np.asarray(events)
    us = np.broadcast_to(np.asarray(days, np.int64) * DAY_US, n) + number
    bits = {"y": y, "y_public": y_public}
    columns: dict[str, object] = {
        "account_id": pa.array(accounts, pa.string()),
        "channel": np.full(n, channel, np.uint8),
        "key": np.asarray(number if keys is None else keys, np.uint64),
        "timestamp": pa.array(us, pa.timestamp("us", tz="UTC")),
        "event_id": [f"event-{i:08}" for i in number],
        **{name: _bytes(value, n) for name, value in bits.items()},
        "matched": _bytes((_bytes(y, n) | _bytes(y_public, n) > 0) if matched is None else matched, n),
        **{f"level_{target}": _bytes(levels, n) for target in TARGETS},
        "family": pa.array([None] * n if families is None else families, pa.string()),
    }
    return pa.Table.from_pydict(columns, schema=UNIT_SCHEMA)


def _bytes(values: ArrayLike, n: int) -> NDArray[np.uint8]:
    return np.array(np.broadcast_to(np.asarray(values, np.uint8), n))
