"""The evidence of families: equal to the formula by loops, an e-process by enumeration, quick in a large population."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from classifier.eprocess import start_weight
from classifier.families import (
    FAMILY_BETS,
    FAMILY_RATE,
    MOST_LOOKS,
    PART_US,
    PARTS,
    FamilyRows,
    family_evidence,
    join_sightings,
    log_family_capital,
    sightings_of,
)
from classifier.units import DAY_US, merge_units
from classifier.verdicts import flag_scale
from tests.unit_rows import unit_rows

RATE = 0.2


class Visit(NamedTuple):
    """An account's day: the parts, counted from the first day, in which it becomes active and, if at all, matches."""

    active: int
    match: int

    @property
    def day(self) -> int:
        return self.active // PARTS


VISITS = (
    *(Visit(10, 25), Visit(0, 26), Visit(30, 30)),
    *(Visit(PARTS + 5, PARTS + 6), Visit(PARTS + 40, PARTS + 47), Visit(PARTS + 5, PARTS + 47)),
)
"""In order of when it is known whether they match."""


def capital(path: tuple[int, ...]) -> float:
    """E once it is known which of the first visits matched."""
    known = VISITS[: len(path)]
    now = known[-1].match * PART_US + PART_US // 2
    hits = [(v.match * PART_US, True, v.active * PART_US) for v, matched in zip(known, path, strict=True) if matched]
    ends = [(us, False, us) for us in (DAY_US - 1, now) if us <= now]
    us, is_hit, began = (np.array(column) for column in zip(*sorted(hits + ends), strict=True))
    active = np.sort([visit.active * PART_US for visit in VISITS if visit.active * PART_US <= now])
    return float(np.exp(log_family_capital(FamilyRows(np.zeros_like(us), us, is_hit, began), active, RATE)[-1]))


def by_loops(path: tuple[int, ...], best_part: bool = False) -> float:
    """The same in plain floats; with the best of the parts in place of their mean, if asked."""
    known = VISITS[: len(path)]
    today = known[-1].day
    matched = dict(zip(known, path, strict=True))
    active = [visit for visit in VISITS if visit.active * PART_US <= known[-1].match * PART_US]
    g = start_weight(np.arange(3))
    total = float(g[today + 1])
    for b in FAMILY_BETS:
        wealth = 0.0
        for day in range(today + 1):
            factor = {v: 1 + b / RATE * (1 - RATE) if matched.get(v, 0) else 1 - b for v in active if v.day == day}
            since = [np.prod([f for v, f in factor.items() if v.active % PARTS >= part]) for part in range(PARTS)]
            parts = max(since) if best_part else sum(since) / PARTS
            wealth = wealth * since[0] + (g[day] - g[day + 1]) / len(FAMILY_BETS) * (since[0] + parts) / 2
        total += wealth
    return total


def paths(depth: int) -> list[tuple[int, ...]]:
    return list(product((0, 1), repeat=depth))


def value_of_stopping(values: list[NDArray[np.float64]]) -> float:
    """Largest mean over all stopping rules at the tight null, from 1 at the start; values[d]: of the paths after d + 1
    visits."""
    value = values[-1]
    for depth in range(len(values) - 1, -1, -1):
        onward = value.reshape(-1, 2) @ np.array([1 - RATE, RATE])
        value = np.maximum(values[depth - 1] if depth else np.ones(1), onward)
    return float(value[0])


def test_equals_the_formula_by_loops() -> None:
    for depth in range(1, len(VISITS) + 1):
        assert [capital(path) for path in paths(depth)] == pytest.approx([by_loops(p) for p in paths(depth)], rel=1e-9)


def test_mean_over_all_paths_is_one_and_no_stopping_rule_gains() -> None:
    values = [np.array([capital(path) for path in paths(depth)]) for depth in range(1, len(VISITS) + 1)]
    weights = np.array([np.prod([RATE if bit else 1 - RATE for bit in path]) for path in paths(len(VISITS))])
    assert weights @ values[-1] == pytest.approx(1, abs=1e-12)
    assert value_of_stopping(values) == pytest.approx(1, abs=1e-12)


def test_the_best_part_is_no_e_process() -> None:
    values = [np.array([by_loops(path, best_part=True) for path in paths(depth)]) for depth in range(1, 7)]
    assert value_of_stopping(values) > 1.01


@pytest.mark.parametrize(("accounts", "hours"), [(25, 12), (60, 20)])
def test_a_campaign_that_begins_by_day_is_seen_at_once_among_many(accounts: int, hours: int) -> None:
    """20,000 honest accounts become active over the day; a campaign's, all new, within minutes of its beginning."""
    n = 20_000
    honest = unit_rows([f"{i:05}" for i in range(n)], 0, events=np.arange(n) * (DAY_US // n))
    began = hours * 2 * PART_US + np.arange(accounts) * 10_000_000
    names = [f"op-{i:02}" for i in range(accounts)]
    campaign = unit_rows(names, 0, y=1, families=["f"] * accounts, events=began, keys=began)
    evidence = family_evidence(sightings_of(merge_units([honest, campaign])), 65)
    assert evidence.flagged.tolist() == [True]
    assert (evidence.flagged_at.astype(np.int64) - began[0] < 60_000_000).all()


def test_a_rare_family_is_found_though_its_accounts_are_old() -> None:
    """6 of 20,000 accounts a day for 10 days, three times the baseline: the small bets see it."""
    n, days = 20_000, 10
    y = np.arange(n * days) % n < 3 * FAMILY_RATE * n
    families = ["f" if hit else None for hit in y]
    units = unit_rows([f"{i:05}" for i in range(n)] * days, np.repeat(np.arange(days), n), y=y, families=families)
    evidence = family_evidence(sightings_of(units), 65)
    assert evidence.flagged.tolist() == [True]
    assert evidence.log_max_e[0] > flag_scale(65)


def test_sightings_of_shards_join_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    names, days = [f"{i:03}" for i in rng.integers(60, size=900)], rng.integers(4, size=900)
    families = [None if i > 2 else f"f{i}" for i in rng.integers(6, size=900)]
    y = [int(name is not None) for name in families]
    units = merge_units([unit_rows(names, days, y=y, families=families)])
    whole = sightings_of(units)
    accounts = units["account_id"]
    shards = [pc.less(accounts, "020"), pc.and_(pc.greater_equal(accounts, "020"), pc.less(accounts, "040"))]
    shards.append(pc.greater_equal(accounts, "040"))
    joined = join_sightings([sightings_of(units.filter(rows)) for rows in shards])
    assert (joined.matches.accounts, joined.matches.families) == (whole.matches.accounts, whole.matches.families)
    assert np.array_equal(joined.active, whole.active)
    for name in ("account", "family", "us", "y", "began"):
        assert np.array_equal(getattr(joined.matches, name), getattr(whole.matches, name))


def test_after_the_last_look_of_a_day_the_next_is_at_its_end_with_all_matches() -> None:
    n, extra = MOST_LOOKS + 40, 40
    began = np.arange(n) * 1_000_000
    rows = FamilyRows(
        np.zeros(n + 1, np.int64), np.append(began, DAY_US - 1), np.arange(n + 1) < n, np.append(began, DAY_US - 1)
    )
    log_e = log_family_capital(rows, began, FAMILY_RATE)
    assert np.isinf(log_e).sum() == extra
    assert np.isinf(log_e[MOST_LOOKS:n]).all()
    everything = FamilyRows(
        *(column[[*range(MOST_LOOKS), n]] for column in (rows.family, rows.us, rows.is_hit, rows.began))
    )
    fewer = log_family_capital(everything, began, FAMILY_RATE)
    assert log_e[n] > fewer[-1]
