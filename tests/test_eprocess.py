"""The kernel of one channel: equal to the formula by loops, an e-process by enumeration; its near misses are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifier.eprocess import (
    BETS,
    changes,
    level_factors,
    log_capital,
    make_calendar,
    match_factors,
    record_rows,
    running,
    start_weight,
)

RATE = 0.2
DAYS = (1, 1, 2, 2, 4, 4)
"""Days of the six units whose paths are enumerated."""


def weight(s: int) -> float:
    return 1 / (1 + math.log2(1 + s))


def capital_by_loops(days: list[tuple[int, int, int]], rate: float) -> float:
    """E of (day, units, hits), as the formula has it, in plain floats."""
    a, previous = [0.0] * len(BETS), 0
    first = days[0][0]
    for day, n, hits in days:
        s = day - first + 1
        opened = (weight(previous) - weight(s)) / len(BETS)
        a = [
            (x + opened) * (1 + b / rate * (1 - rate)) ** hits * (1 - b) ** (n - hits)
            for x, b in zip(a, BETS, strict=True)
        ]
        previous = s
    return sum(a) + weight(previous)


def log_e(accounts: list[int], days: list[int], n: list[int], hits: list[int], rate: float) -> NDArray[np.float64]:
    calendar = make_calendar(np.array(accounts), np.array(days))
    return log_capital(calendar, match_factors(np.array(n), np.array(hits)[:, None], rate))[:, 0]


# --- values -----------------------------------------------------------------------------------------------------------


def test_start_weights_telescope_to_one() -> None:
    g = start_weight(np.arange(401))
    assert g[[0, 1, 3, 7]].tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert math.isclose(-np.diff(g).sum() + g[-1], 1)


def test_one_match_on_the_first_day_by_hand() -> None:
    won = np.mean([1 + b / 0.001 * 0.999 for b in BETS])
    assert np.exp(log_e([0], [20000], [1], [1], 0.001)[0]) == pytest.approx(won * 0.5 + 0.5, rel=1e-12)


def test_days_without_bets_change_nothing() -> None:
    assert log_e([0] * 4, [3, 4, 9, 400], [0] * 4, [0] * 4, 0.1) == pytest.approx(0, abs=1e-12)


histories = st.dictionaries(
    st.integers(-50, 400),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda t: (max(t), min(t))),
    min_size=1,
    max_size=6,
)


@given(st.lists(histories, min_size=1, max_size=6), st.sampled_from([1e-4, 0.001, 0.1, 0.5]))
def test_equals_the_formula_by_loops(accounts: list[dict[int, tuple[int, int]]], rate: float) -> None:
    rows = [(i, day, *counts) for i, history in enumerate(accounts) for day, counts in sorted(history.items())]
    account, day, n, hits = (list(column) for column in zip(*rows, strict=True))
    last = np.cumsum([len(history) for history in accounts]) - 1
    wanted = [
        math.log(capital_by_loops([(day, *counts) for day, counts in sorted(history.items())], rate))
        for history in accounts
    ]
    assert log_e(account, day, n, hits, rate)[last] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_wealth_that_starts_today_may_bet_on_less_than_the_day() -> None:
    """Day 1: one match of one. Day 3: a match of two, of which the newly started wealth sees the match alone."""
    calendar = make_calendar(np.array([0, 0]), np.array([1, 3]))
    day = match_factors(np.array([1, 2]), np.array([[1], [1]]), RATE, (0.1, 0.4))
    later = match_factors(np.array([1, 1]), np.array([[1], [1]]), RATE, (0.1, 0.4))
    found = np.exp(log_capital(calendar, day, later)[:, 0])
    hit = [1 + b / RATE * (1 - RATE) for b in (0.1, 0.4)]
    first = [(1 - weight(1)) / 2 * h for h in hit]
    second = [a * h * (1 - b) + (weight(1) - weight(3)) / 2 * h for a, h, b in zip(first, hit, (0.1, 0.4), strict=True)]
    assert found == pytest.approx([sum(first) + weight(1), sum(second) + weight(3)], rel=1e-12)


def test_levels_seven_and_zero_are_hits_and_misses() -> None:
    calendar = make_calendar(np.array([0, 0]), np.array([5, 6]))
    hist = np.zeros((2, 1, 8), np.int64)
    hist[:, 0, 7], hist[:, 0, 0] = [1, 3], [4, 1]
    found = log_capital(calendar, level_factors(hist, [0.3]))
    assert found[:, 0] == pytest.approx(log_e([0, 0], [5, 6], [5, 4], [1, 3], 0.3), rel=1e-12)


@pytest.mark.parametrize("hits", [0, 1_000_000])
def test_a_million_units_stay_finite(hits: int) -> None:
    clean, later = log_e([0, 0], [1, 2], [1_000_000, 20], [hits, 10], 0.001)
    if hits:
        assert clean == pytest.approx(1_000_000 * math.log(1 + 0.8 * 999) + math.log(0.5 / 7), rel=1e-9)
    else:
        assert clean == pytest.approx(math.log(0.5), abs=1e-12)
        assert later > math.log(1e15)  # what was lost is the stake on the first day; the later start is intact


def test_running_totals_begin_anew() -> None:
    starts = changes(np.array([4, 4, 4, 9, 9]), np.array([1, 1, 2, 2, 2]))
    assert starts.tolist() == [True, False, True, True, False]
    assert running(np.array([1, 2, 3, 4, 5]), starts).tolist() == [1, 3, 3, 4, 9]


def test_records_are_kept_within_an_account() -> None:
    rows = record_rows(np.array([0, 0, 0, 0, 1, 1, 1]), np.array([2.0, 1.0, 2.0, 3.0, -5.0, -6.0, -4.0]))
    assert rows.tolist() == [0, 3, 4, 6]


# --- an e-process, by enumeration of all paths ------------------------------------------------------------------------

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Paths [p, d] of the first d units, 1 for a match -> value of each path."""


def all_paths(depth: int) -> NDArray[np.int64]:
    return np.array(list(product((0, 1), repeat=depth)))


def kernel(paths: NDArray[np.int64]) -> NDArray[np.float64]:
    n, depth = paths.shape
    account, day = np.repeat(np.arange(n), depth), np.tile(DAYS[:depth], n)
    starts = changes(account, day)
    factors = match_factors(running(np.ones(n * depth, np.int64), starts), running(paths.reshape(-1, 1), starts), RATE)
    return np.exp(log_capital(make_calendar(account, day), factors)).reshape(n, depth)[:, -1]


def wealth_by_start(paths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over bets of the wealth won since each of the days seen: [p, days seen]."""
    bets = np.array(BETS)[:, None, None]
    won = np.where(paths, 1 + bets / RATE * (1 - RATE), 1 - bets)
    days = DAYS[: paths.shape[1]]
    return np.stack(
        [won[:, :, [day >= s for day in days]].prod(axis=2).mean(axis=0) for s in sorted(set(days))], axis=1
    )


def mixture_by_days_seen(paths: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(wealth_by_start(paths).mean(axis=1))


def best_start(paths: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(wealth_by_start(paths).max(axis=1))


def value_of_stopping(statistic: Statistic, chance: float) -> float:
    """Largest E[statistic when stopped] over all stopping rules, from 1 at the start, by backward induction.

    1 for an e-process.
    """
    value = statistic(all_paths(len(DAYS)))
    for depth in range(len(DAYS) - 1, -1, -1):
        onward = value.reshape(-1, 2) @ np.array([1 - chance, chance])
        value = np.maximum(statistic(all_paths(depth)) if depth else np.ones(1), onward)
    return float(value[0])


@pytest.mark.parametrize("depth", range(1, 7))
def test_mean_over_all_paths_is_one_at_the_tight_null(depth: int) -> None:
    paths = all_paths(depth)
    weights = np.where(paths, RATE, 1 - RATE).prod(axis=1)
    assert weights @ kernel(paths) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("chance", [0.0, 0.05, RATE])
def test_no_stopping_rule_gains(chance: float) -> None:
    assert value_of_stopping(kernel, chance) == pytest.approx(1, abs=1e-12)


def test_a_rate_above_the_baseline_gains() -> None:
    assert value_of_stopping(kernel, 0.25) > 1.05


@pytest.mark.parametrize("statistic", [mixture_by_days_seen, best_start])
def test_dividing_by_days_seen_and_the_best_start_fail(statistic: Statistic) -> None:
    assert value_of_stopping(statistic, RATE) > 1.05
