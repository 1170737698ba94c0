"""What was judged of a batch, as tables: labels a row an event, and the units that evidence is counted in.

    labeler, observations -> **tables** -> whoever stores or counts

Most batches of one hold no match, so columns that only a match fills cost next to nothing without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.observations import Bools, Ints, Judged, Observer
from classifier.signatures import Facts
from classifier.templates import Matches
from classifier.types import CAPABILITIES, LABEL_SCHEMA, TARGETS, UNIT_SCHEMA, Channel


class Tables:
    """Columns of labels and units. `facts`: of all signatures; `approved_us`: when local exclusive ones were approved,
    by id."""

    def __init__(self, facts: Sequence[Facts], approved_us: Mapping[str, int]) -> None:
        self._observer = Observer(facts, approved_us)
        self._targets = pa.array(TARGETS)
        self._ids = pa.array([*(fact.id for fact in facts), None], pa.string())  # index -1: no match
        self._families = pa.array([*(fact.family for fact in facts), None], pa.string())
        self._techniques = pa.array([*(fact.technique for fact in facts), None], pa.string())

    def labels(self, events: pa.RecordBatch, judged: Judged) -> pa.RecordBatch:
        """One row an event (EVENT_SCHEMA), LABEL_SCHEMA."""
        matches, judgement = judged.matches, judged.judgement
        chances = np.concatenate([judged.probabilities.T[: len(CAPABILITIES)], judgement.p_extraction[None]])
        columns = [
            *_who(events),
            _picked(self._targets, judgement.capability),
            *_rows(chances),
            *self._match_columns(matches, judged.spans),
            _named(self._families, matches.benign),
            pa.array(judged.keys),
            _scaffolds(judged),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=LABEL_SCHEMA)

    def units(self, events: pa.RecordBatch, judged: Judged) -> pa.RecordBatch:
        """One signature-channel row an event, then the intent-channel rows (see `Observed`), UNIT_SCHEMA."""
        index, n = judged.matches.index, len(judged.keys)
        us = np.asarray(events.column("timestamp").cast(pa.int64()).to_numpy())
        observed = self._observer.observe(judged, us)
        counted, n_counted = observed.counted, len(observed.levels)
        marks = np.zeros((4 + len(TARGETS), n + n_counted), np.uint8)
        marks[0, n:] = Channel.INTENT
        marks[1:4, :n] = observed.hits
        marks[4:, n:] = observed.levels.T
        channel, *others = _rows(marks)
        event_id, account_id, timestamp = (_and_again(column, counted, n_counted) for column in _who(events))
        key = pa.array(np.concatenate([judged.keys, judged.heads[counted]]))
        family = _named(self._families, np.concatenate([index, np.full(n_counted, -1, np.int32)]))
        columns = [account_id, channel, key, timestamp, event_id, *others, family]
        return pa.RecordBatch.from_arrays(columns, schema=UNIT_SCHEMA)

    def _match_columns(self, matches: Matches, spans: Ints) -> list[pa.Array]:
        """`template_id` to `match_end`."""
        none = matches.index < 0
        if np.count_nonzero(none) == len(none):
            return [_nulls(len(none), kind) for kind in _OF_A_MATCH]
        return [
            *(_named(known, matches.index) for known in (self._ids, self._families, self._techniques)),
            pa.array(matches.similarity, mask=np.isnan(matches.similarity)),
            pa.array(matches.coverage, mask=none),
            *(pa.array(side, pa.int32(), mask=none) for side in spans.T),
        ]


_OF_A_MATCH = (*(pa.string(),) * 3, *(pa.float32(),) * 2, *(pa.int32(),) * 2)


def _who(events: pa.RecordBatch) -> list[pa.Array]:
    """Event id, account id and time."""
    return [events.column(place) for place in range(3)]


def _scaffolds(judged: Judged) -> pa.ListArray:
    """Hashes of the anchors of each text, its head's first; one where both are the same."""
    n, differ = len(judged.heads), judged.heads != judged.tails
    anchors, offsets = np.empty((n, 2), np.uint64), 2 * np.arange(n + 1, dtype=np.int32)
    anchors[:, 0], anchors[:, 1] = judged.heads, judged.tails
    if np.count_nonzero(differ) == n:
        return pa.ListArray.from_arrays(offsets, anchors.ravel())
    offsets[1:] -= np.cumsum(~differ, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, anchors[np.stack([np.ones(n, np.bool_), differ], axis=1)])


def _rows(block: NDArray[Any]) -> list[pa.Array]:
    """Each row of a block [k, n] as an Arrow array. Over one buffer, which takes a third of what k buffers take."""
    flat, n = pa.array(block.ravel()), block.shape[1]
    return [flat.slice(start, n) for start in range(0, block.size, n)]


@lru_cache(256)
def _nulls(n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind)


def _named(names: pa.StringArray, index: NDArray[np.int32]) -> pa.StringArray:
    """Names at indices, null for -1; the last of `names` is null."""
    missing = index < 0
    if np.count_nonzero(missing) == len(index):
        return _nulls(len(index), pa.string())
    return _picked(names, np.where(missing, len(names) - 1, index))


def _picked(names: pa.StringArray, rows: NDArray[np.integer]) -> pa.StringArray:
    """Names at rows; to take one, Arrow needs fifteen times as long as to show it where it stands."""
    return names.slice(int(rows[0]), 1) if len(rows) == 1 else names.take(pa.array(rows))


def _and_again(column: pa.Array, rows: Bools, n_rows: int) -> pa.Array:
    """A column, and after it its values at `rows`, which are `n_rows`."""
    return pa.concat_arrays([column, column if n_rows == len(rows) else column.filter(pa.array(rows))])
