"""Who may come to be scored: by how many wait, and how long they will by the pace of late."""

from __future__ import annotations

import pytest

from service.http.waiting import FEW, Waiting

PACE = 0.001


def paced(most: int = 2_000, most_seconds: float = 0.015, *, there: int = 0) -> Waiting:
    """So many wait, and each takes a millisecond."""
    waiting = Waiting(most, most_seconds)
    for i in range(200):  # 200 turns of 100 events, each of which took 0.1 s
        waiting.note_pace(100, 0.1, (i + 1) * 0.1)
    waiting.came(there)
    return waiting


def test_whoever_finds_nobody_may_come_however_many_they_are() -> None:
    assert paced(most=1).too_long(1_000) is None


@pytest.mark.parametrize(("there", "n", "is_refused"), [(1, 1, False), (1, 2, True), (2, 1, True), (0, 3, False)])
def test_no_more_wait_than_may(there: int, n: int, is_refused: bool) -> None:
    waiting = Waiting(2, 1.0)
    waiting.came(there)
    assert waiting.too_long(n) == (0.0 if is_refused else None)


@pytest.mark.parametrize(("there", "is_refused"), [(FEW - 1, False), (FEW, True)])
def test_few_are_never_too_slow(there: int, is_refused: bool) -> None:
    assert (paced(there=there).too_long(1) is not None) == is_refused


def test_the_wait_is_how_many_wait_times_how_long_one_takes() -> None:
    found = paced(there=40).too_long(1)
    assert found == pytest.approx(40 * PACE)
    assert paced(there=40, most_seconds=0.041).too_long(1) is None
    assert paced(there=40, most_seconds=0.039).too_long(1) is not None


@pytest.mark.parametrize(("there", "is_refused"), [(256, False), (257, True)])
def test_a_batch_may_wait_for_no_more_than_it_brings(there: int, is_refused: bool) -> None:
    assert (paced(there=there).too_long(256) is not None) == is_refused
    assert (paced(most=300, there=there).too_long(256)) is not None  # but not beyond the most that wait


def test_what_is_answered_no_longer_waits_and_what_is_coming_does() -> None:
    waiting = paced(there=40)
    waiting.left(30)
    assert waiting.too_long(1) is None
    waiting.coming = 30
    assert waiting.too_long(1) == pytest.approx(40 * PACE)


def test_the_pace_counts_no_time_twice_and_few_as_if_they_were_more() -> None:
    waiting = Waiting(2_000, 0.0)
    waiting.note_pace(1, 0.32, 10.32)  # one alone takes 0.32 s, of which 1/32 is by event, and a fifth of that counts
    waiting.came(100)
    found = waiting.too_long(1)
    assert found == pytest.approx(100 * 0.2 * 0.01)
    waiting.note_pace(100, 0.42, 10.42)  # began beside the others: 0.1 s by itself
    found = waiting.too_long(1)
    assert found == pytest.approx(100 * (0.002 * 0.8 + 0.001 * 0.2))


@pytest.mark.parametrize(
    ("there", "lag", "is_refused"), [(0, 1.0, False), (1, 1.0, False), (2, 0.016, True), (2, 0.014, False)]
)
def test_a_loop_that_is_late_lets_in_one_at_a_time(there: int, lag: float, is_refused: bool) -> None:
    waiting = Waiting(2_000, 0.015)
    waiting.came(there)
    waiting.lag = lag
    assert (waiting.too_long(1) is not None) == is_refused


def test_a_lag_is_of_late_and_forgotten_after_a_pause() -> None:
    waiting = Waiting(2_000, 0.015)
    for _ in range(50):
        waiting.note_lag(0.02)
    assert waiting.lag == pytest.approx(0.02, rel=1e-4)
    waiting.forget_lag()
    assert waiting.lag == 0.0
