"""Verdicts: thresholds by hand, the rule in time by brute force, what must never be flagged, and the power that is
promised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifier.eprocess import changes, log_capital, make_calendar, match_factors, running
from classifier.errors import UsageError
from classifier.evidence import Baselines, replay
from classifier.types import Basis, Channel, Decision
from classifier.units import merge_units
from classifier.verdicts import Verdicts, by_step_up, decide, e_bh, fdr_bound, flag_scale, flag_times, harmonic
from tests.unit_rows import unit_rows

BASELINES = Baselines(0.001, (0.1, 0.1, 0.1, 0.1))


def judge(units: Sequence[pa.Table], population: int = 1000) -> Verdicts:
    return decide(replay(merge_units(units), BASELINES), population, BASELINES)


# --- thresholds -------------------------------------------------------------------------------------------------------


def test_step_up_by_hand_on_five_values_with_ties() -> None:
    """N = 5: H = 137/60, N H / 0.1 = 114.17; thresholds for r = 1..5 are 114.17, 57.08, 38.06, 28.54, 22.83."""
    assert 5 * harmonic(5) / 0.1 == pytest.approx(114.1667, abs=1e-4)
    # None reaches 114, one 57, but three reach 38: all three count; a fourth at 28 would too, 28.5 is just missed.
    assert by_step_up(np.log([58, 39, 39, 28, 1]), 5, 0.1) == 3
    assert by_step_up(np.log([58, 39, 39, 29, 1]), 5, 0.1) == 4
    assert by_step_up(np.log([39, 39, 58, 1, 29]), 5, 0.1) == 4
    assert by_step_up(np.log([40, 40, 1, 1, 1]), 5, 0.1) == 0
    assert by_step_up(np.log([22.9] * 5), 5, 0.1) == 5
    assert by_step_up(np.log([115, 1, 1, 1, 1]), 5, 0.1) == 1
    assert by_step_up(np.log([115]), 5, 0.1) == 1
    assert by_step_up(np.array([]), 5, 0.1) == 0


def test_e_bh_by_hand() -> None:
    """N / alpha = 50: thresholds 50, 25, 16.7, 12.5, 10."""
    assert e_bh(np.log([26, 25.1, 16, 12.4, 1]), 5, 0.1) == 2
    assert e_bh(np.log([26, 17, 17, 12.4, 1]), 5, 0.1) == 3
    assert e_bh(np.log([49, 1, 1, 1, 1]), 5, 0.1) == 0


@pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 4321])
def test_harmonic(n: int) -> None:
    assert harmonic(n) == pytest.approx(math.fsum(1 / i for i in range(1, n + 1)), rel=1e-13)


def test_fdr_bound() -> None:
    assert fdr_bound(200, [(0.01, 100), (0.1, 50)]) == pytest.approx(0.01 + 6 / 200)
    assert fdr_bound(0, [(0.17, 16)]) == 1.0


def test_fewer_registered_accounts_than_seen_is_a_usage_error() -> None:
    units = unit_rows(["a", "b", "c"], 0)
    with pytest.raises(UsageError, match="at least the 3 accounts of the run, got 2"):
        judge([units], 2)


maxima = st.lists(st.floats(0, 16), min_size=1, max_size=25)


@given(maxima, st.integers(0, 100))
def test_a_live_greedy_set_is_inside_the_full_step_up(log_m: list[float], more: int) -> None:
    """A service that flags with the flags it already has never flags what the batch would not."""
    n, live = len(log_m) + more, 0
    while (grown := sum(m >= flag_scale(n) - math.log(max(live, 1)) for m in log_m)) > live:
        live = grown
    assert live <= by_step_up(np.array(log_m), n)


def test_counting_only_the_accounts_seen_so_far_breaks_the_rate() -> None:
    """Nobody is bad, M = 1/U for each as the null allows, accounts arrive one by one: every flag is false."""
    rng = np.random.default_rng(3)
    log_m = -np.log(rng.random((1500, 30)))
    fixed = np.mean([by_step_up(world, 30, 0.1) > 0 for world in log_m])
    so_far = np.mean([any(by_step_up(world[:n], n, 0.1) > 0 for n in range(1, 31)) for world in log_m])
    assert fixed <= 0.1
    assert so_far > 0.13


# --- flagged_at -------------------------------------------------------------------------------------------------------

records = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 8), st.floats(0, 14)), min_size=1, max_size=40).map(
    sorted
)


@given(records, st.integers(12, 60))
def test_flagged_at_is_when_the_rule_first_held(rows: list[tuple[int, int, float]], population: int) -> None:
    account, us, log_e = (np.array(column) for column in zip(*rows, strict=True))
    wanted = np.full(12, np.datetime64("NaT", "us"))
    for now in range(9):
        log_m = np.array([max(log_e[(account == i) & (us <= now)], default=0.0) for i in range(12)])
        rank = by_step_up(log_m, population, 0.1)
        holds = log_m >= flag_scale(population, 0.1) - math.log(max(rank, 1))
        wanted[holds & np.isnat(wanted)] = np.datetime64(now, "us")
    best = [max(log_e[(account == a) & (us <= t)]) for a, t in zip(account, us, strict=True)]
    final = by_step_up(np.array([max(log_e[account == i], default=0.0) for i in range(12)]), population, 0.1)
    found = flag_times(account, us, np.array(best), 12, final, flag_scale(population, 0.1))
    assert np.array_equal(found, wanted, equal_nan=True)


def test_an_account_is_flagged_when_others_lower_the_threshold() -> None:
    """Three accounts each match three times; alone no one has enough, the third brings all over the line."""
    names = ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    units = unit_rows(names, 0, y=1, events=np.arange(9) * 100)
    scale, three = flag_scale(10_000_000), replay(units, BASELINES).log_max_e[0]
    n = round(math.exp(three - scale) * 10_000_000)  # so many accounts that one falls short and three do not
    population = next(p for p in range(n, 40 * n, n // 50) if flag_scale(p) - math.log(2) > three)
    verdicts = judge([units], population)
    assert verdicts.thresholds.n_flagged == 3
    assert verdicts.flagged_at.astype(int).tolist() == [800, 800, 800]
    assert judge([units.slice(0, 6)], population).thresholds.n_flagged == 0


# --- decisions --------------------------------------------------------------------------------------------------------


def test_what_each_decision_takes() -> None:
    flagged = unit_rows(["flagged"] * 20, 0, y=[0b0101, 0b0001] * 10)
    public = unit_rows(["public"] * 20, 0, y_public=0b1000)
    intent = unit_rows(["intent"] * 40, 0, channel=Channel.INTENT, levels=7)
    asked = unit_rows(["intent"] * 40, 0)
    clear, new = unit_rows(["clear"] * 50, 0), unit_rows(["new"] * 3, 0)
    verdicts = judge([flagged, public, intent, asked, clear, new])
    found = dict(zip(verdicts.account_ids.to_pylist(), range(5), strict=True))
    assert [(name, verdicts.decision[i], verdicts.basis[i]) for name, i in found.items()] == [
        ("clear", Decision.CLEAR, None),
        ("flagged", Decision.FLAG, Basis.SIGNATURE),
        ("intent", Decision.REVIEW, Basis.INTENT),
        ("new", Decision.INSUFFICIENT_EVIDENCE, None),
        ("public", Decision.REVIEW, Basis.PUBLIC),
    ]
    assert verdicts.capabilities[found["flagged"]] == ("coding", "long_horizon_planning")
    assert verdicts.capabilities[found["public"]] == ("other",)
    assert verdicts.capabilities[found["clear"]] == ()
    assert verdicts.flagged.tolist() == [False, True, False, False, False]
    assert np.isnat(verdicts.flagged_at).tolist() == [True, False, True, True, True]
    assert verdicts.thresholds.log_flag == flag_scale(1000)


def test_a_target_that_would_not_suffice_alone_is_not_named() -> None:
    """The second target's e is at most 2 times the threshold, which as one of four it must exceed 4 times."""
    y = [0b01] * 6 + [0b11] * 2
    found = replay(unit_rows(["a"] * 8, 0, y=y), BASELINES)
    population = next(n for n in range(2, 10**6) if flag_scale(n) > found.log_max_e_target[0, 1] - math.log(2))
    verdicts = decide(found, population, BASELINES)
    assert verdicts.thresholds.log_flag < found.log_max_e_target[0, 1]
    assert verdicts.capabilities == [("coding",)]


def test_a_flag_stays_and_a_review_passes() -> None:
    bad_days = [unit_rows(["a"] * 4, 0, y=1), unit_rows(["b"] * 4, 0, y_public=1)]
    clean = [unit_rows([name] * 2000, 1 + np.arange(2000) // 20) for name in "ab"]
    assert judge(bad_days).decision == [Decision.FLAG, Decision.REVIEW]
    assert judge([*bad_days, *clean]).decision == [Decision.FLAG, Decision.CLEAR]


@pytest.mark.parametrize("population", [1, 2, 1000])
def test_intent_at_its_maximum_for_a_year_never_flags(population: int) -> None:
    days = np.arange(365 * 8) // 8
    intent = unit_rows(["a"] * len(days), days, channel=Channel.INTENT, levels=7)
    assert judge([intent], population).decision == [Decision.REVIEW]
    assert judge([intent, unit_rows(["a"] * len(days), days)], population).decision == [Decision.REVIEW]


def test_an_application_misread_on_all_its_prompts_of_one_template_is_clear() -> None:
    prompts = unit_rows(["app"] * 10_000, np.arange(10_000) // 500)
    misread = unit_rows(
        ["app"] * 10_000, np.arange(10_000) // 500, channel=Channel.INTENT, levels=6, keys=np.full(10_000, 3)
    )
    assert judge([prompts, misread]).decision == [Decision.CLEAR]


def test_one_match_sent_a_thousand_times_does_not_flag() -> None:
    sent = unit_rows(["a"] * 1000, np.arange(1000) // 50, y=1, keys=np.full(1000, 9))
    others = unit_rows(["a"] * 100, np.arange(100) // 5, keys=np.arange(5000, 5100))
    assert judge([sent, others]).decision == [Decision.CLEAR]


@pytest.mark.parametrize(
    ("m1", "times", "decision"),
    [(0.01, 3, Decision.FLAG), (0.001, 3, Decision.FLAG), (0.001, 1.5, Decision.CLEAR), (0.001, 1, Decision.CLEAR)],
)
def test_accounts_above_the_baseline_are_flagged_at_volume(m1: float, times: float, decision: Decision) -> None:
    """The guarantee is for accounts within the baselines: above them, 100,000 units show it.

    The smallest bet, b, wins by a rate above log(1 / (1 - b)) / log((1 + b / m1 * (1 - m1)) / (1 - b)): 1.8 times
    0.001, or 1.1 times 0.01.
    """
    n, rng = 100_000, np.random.default_rng(4)
    units = unit_rows(["a"] * n, np.arange(n) // 500, y=rng.random(n) < times * m1)
    baselines = Baselines(m1, BASELINES.m2)
    assert decide(replay(units, baselines), 1000, baselines).decision == [decision]


# --- what to expect ---------------------------------------------------------------------------------------------------


def maxima_of_bad_accounts(m1: float, share: float, n_accounts: int, n_units: int) -> NDArray[np.float64]:
    """log M after each of n units, 26 a day, of accounts of which a share of the units are matches for one target: [A,
    n]."""
    hit = np.random.default_rng(6).random(n_accounts * n_units) < share
    account, day = np.repeat(np.arange(n_accounts), n_units), np.tile(np.arange(n_units) // 26, n_accounts)
    starts = changes(account, day)
    n, hits = (running(values, starts) for values in (np.ones_like(account), hit.astype(np.int64)))
    two = np.stack([hits, np.zeros_like(hits)], axis=1)  # the target, and one of the three that see nothing
    log_e = log_capital(make_calendar(account, day), match_factors(n, two, m1))
    log_mean = np.logaddexp(log_e[:, 0], log_e[:, 1] + np.log(3)) - np.log(4)
    return np.maximum.accumulate(log_mean.reshape(n_accounts, n_units), axis=1)


@pytest.mark.parametrize(
    ("m1", "share", "median", "power"),
    [(0.001, 0.10, 45, 0.98), (0.001, 0.25, 14, 1), (0.001, 0.5, 6, 1), (0.01, 0.10, 107, 0.59), (0.01, 0.5, 10, 1)],
)
def test_power_at_120_prompts_is_what_the_design_says(m1: float, share: float, median: int, power: float) -> None:
    """250,000 accounts, 1 % of them bad."""
    log_m = maxima_of_bad_accounts(m1, share, 2500, 120)
    rank = by_step_up(log_m[:, -1], 250_000)
    reached = log_m >= flag_scale(250_000) - math.log(max(rank, 1))
    assert reached[:, -1].mean() == pytest.approx(power, abs=0.03)
    prompts = np.where(reached[:, -1], reached.argmax(axis=1) + 1, 121)
    assert np.median(prompts) == pytest.approx(median, rel=0.12, abs=1)


def test_a_tenth_of_extraction_is_never_seen_at_a_baseline_of_a_tenth() -> None:
    assert by_step_up(maxima_of_bad_accounts(0.1, 0.1, 500, 120)[:, -1], 50_000) == 0


def test_a_lone_account_that_turns_bad_after_thirty_clean_days_is_found() -> None:
    rng = np.random.default_rng(8)
    names = [f"{i:03}" for i in range(200) for _ in range(150)]
    days = np.tile(np.concatenate([np.arange(30), 30 + np.arange(120) // 26]), 200)
    bad = (days >= 30) & (rng.random(len(days)) < 0.10)
    log_m = replay(unit_rows(names, days, y=bad), BASELINES).log_max_e
    assert (log_m >= flag_scale(20_000) - math.log(200)).mean() >= 0.90
