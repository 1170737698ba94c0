"""service/seen.py: a set of ids, the same as Python's whatever the batches, and exact where half digests collide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import seen
from service.seen import SeenIds

BATCHES = st.lists(st.lists(st.text(max_size=3), max_size=40), max_size=12)


def expected(batches: Sequence[Sequence[str]]) -> list[list[bool]]:
    known: set[str] = set()
    answers = []
    for batch in batches:
        answers.append([item not in known and not known.add(item) for item in batch])  # type: ignore[func-returns-value]
    return answers


def answers(batches: Sequence[Sequence[str]]) -> list[list[bool]]:
    ids = SeenIds()
    return [ids.admit(batch).tolist() for batch in batches]


@given(BATCHES)
def test_it_is_a_set(batches: list[list[str]]) -> None:
    assert answers(batches) == expected(batches)


@given(BATCHES)
def test_equal_halves_are_told_apart(batches: list[list[str]]) -> None:
    def colliding(ids: Sequence[str]) -> seen.Words:
        numbers = [int.from_bytes(b"\x01" + item.encode("utf-8", "surrogatepass"), "big") for item in ids]
        return np.array([(n % 3, hash(n)) for n in numbers], np.int64).reshape(-1, 2).view(np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "digests", colliding)
        assert answers(batches) == expected(batches)


def test_runs_stay_few_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MAX_RUN", 64)
    ids = SeenIds()
    for start in range(0, 4_000, 10):
        assert ids.admit([f"id-{n}" for n in range(start, start + 10)]).all()
    sizes = [len(run.first) for run in ids._runs]
    assert sum(sizes) == 4_000 and max(sizes) < 2 * 64 + 10 and len(sizes) < 4_000 / 40
    assert not ids.admit([f"id-{n}" for n in range(4_000)]).any()
