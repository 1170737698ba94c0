"""Context of events, for the service's store: model, organisation, and a keyed hash of the end user. Never evidence.

    records -> **context** -> a part of the run's folder -> importing;  parsing -> **context** -> scorer

The name of an end user is hashed here and goes no further: what is kept tells how many there are, not who.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.text import keyed_hashes
from service.columns import NAMES

CONTEXT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("org_id", pa.string()),
        pa.field("end_user", pa.uint64()),
    ]
)
"""`context/*.parquet`, a row an event that has any. `end_user`: keyed hash of its id."""
_DOMAIN = b"end user\0"  # an end user's hash is no prompt's


class Context(NamedTuple):
    """What an event came with; `end_user`: keyed hash of its id."""

    model: str | None
    org_id: str | None
    end_user: int | None


def context_table(events: pa.RecordBatch, key: bytes) -> pa.Table:
    """CONTEXT_SCHEMA of those events (PART_SCHEMA) that have context."""
    present = np.zeros(len(events), bool)
    for name in NAMES:
        present |= events[name].is_valid().to_numpy(zero_copy_only=False)
    some = events.filter(pa.array(present))
    users = some["end_user_id"].dictionary_encode()
    hashes = pa.array(end_user_hashes(users.dictionary.to_pylist(), key), pa.uint64())
    arrays = [some["event_id"], some["model"], some["org_id"], hashes.take(users.indices)]
    return pa.Table.from_arrays(arrays, schema=CONTEXT_SCHEMA)


def contexts_in(table: pa.Table) -> dict[str, Context]:
    """Context by event id, of CONTEXT_SCHEMA."""
    columns = [table[name].to_pylist() for name in CONTEXT_SCHEMA.names]
    return {name: Context(*rest) for name, *rest in zip(*columns, strict=True)}


def contexts_of(names: Sequence[tuple[str | None, str | None, str | None]], key: bytes) -> list[Context | None]:
    """Context of events by (model, org_id, end_user_id); None where there is none."""
    users = [user for _, _, user in names if user is not None]
    hashes = iter(end_user_hashes(users, key).tolist())
    return [
        Context(model, org_id, next(hashes) if user is not None else None)
        if (model, org_id, user) != (None, None, None)
        else None
        for model, org_id, user in names
    ]


def end_user_hashes(names: Iterable[str], key: bytes) -> NDArray[np.uint64]:
    """64-bit keyed hashes of end users."""
    return keyed_hashes((_DOMAIN + name.encode() for name in names), key)
