"""Which event ids a run has seen: exact to 128 bits, in 16 bytes an id. Used by `batch` to drop duplicates.

Digests are kept in sorted runs of 64-bit halves, merged like those of an LSM tree, so that nothing is a Python object.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_RUN = 1 << 22
"""Ids in a run that is not merged any more: bounds what a merge holds twice."""

Words = NDArray[np.uint64]


class _Run(NamedTuple):
    """Digests sorted by their first half; `second[i]` belongs to `first[i]`."""

    first: Words
    second: Words


class SeenIds:
    """A set of ids that grows by batches."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def admit(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which of n ids are new, [n]: neither in an earlier batch nor earlier in this one. Then all count as seen."""
        return self.admit_digests(digests(ids))

    def admit_digests(self, ids: Words) -> NDArray[np.bool_]:
        """`admit` of ids of which another process took the digests [n, 2]."""
        first, second = ids[:, 0], ids[:, 1]
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        new = _is_first(first, second)
        for run in self._runs:
            new &= ~_holds(run, first, second)
        self._insert(_Run(first[new], second[new]))
        fresh = np.zeros(len(new), bool)
        fresh[order] = new
        return fresh

    def _insert(self, run: _Run) -> None:
        while self._runs and len(self._runs[-1].first) <= len(run.first) and len(run.first) < MAX_RUN:
            last = self._runs.pop()
            merged = np.concatenate([last.first, run.first])
            order = np.argsort(merged, kind="stable")
            run = _Run(merged[order], np.concatenate([last.second, run.second])[order])
        if len(run.first):
            self._runs.append(run)


def digests(ids: Sequence[str]) -> Words:
    """What is remembered of n ids: both halves of a digest, [n, 2]."""
    joined = b"".join(blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest() for item in ids)
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)


def _is_first(first: Words, second: Words) -> NDArray[np.bool_]:
    """Which of digests, sorted stably by first half, do not repeat an earlier one."""
    new = np.ones(len(first), bool)
    alike = first[1:] == first[:-1]
    new[1:] = ~(alike & (second[1:] == second[:-1]))
    for i in np.flatnonzero(new[1:] & alike) + 1:  # half a digest in common: practically never
        new[i] = second[i] not in second[np.searchsorted(first, first[i]) : i]
    return new


def _holds(run: _Run, first: Words, second: Words) -> NDArray[np.bool_]:
    """Which digests are in a run."""
    place = np.minimum(np.searchsorted(run.first, first), len(run.first) - 1)
    alike = run.first[place] == first
    held = alike & (run.second[place] == second)
    for i in np.flatnonzero(alike & ~held):
        end = np.searchsorted(run.first, first[i], side="right")
        held[i] = second[i] in run.second[place[i] : end]
    return np.asarray(held)
