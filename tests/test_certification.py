"""classifier/certification.py: limits by hand, and what counts as above the baselines."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from classifier.bundle import Stratum, largest_epsilon
from classifier.certification import (
    Certificate,
    certify,
    clopper_pearson_upper,
    exceeds,
    expected_intent,
    fair_baseline,
    intent_baselines,
)
from classifier.eprocess import level_factors, log_capital, make_calendar
from classifier.evidence import Baselines, hedged, mean_over_targets
from classifier.types import LEVELS
from classifier.verdicts import REVIEW_ALPHA, e_bh

BASELINES = Baselines(0.001, (0.2, 0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("k", "n", "limit"),
    [(0, 16, 0.1707), (0, 236, 0.0126), (0, 30_000, 0.0001), (1, 20, 0.2161), (5, 5, 1.0), (0, 0, 1.0)],
)
def test_clopper_pearson(k: int, n: int, limit: float) -> None:
    assert clopper_pearson_upper(k, n) == pytest.approx(limit, abs=5e-5)


def test_a_stratum_counts_those_above() -> None:
    assert certify("people", [False] * 19 + [True]) == Stratum("people", 20, 1, clopper_pearson_upper(1, 20))
    assert largest_epsilon([certify("a", [False] * 16), certify("b", [False] * 236)]) == clopper_pearson_upper(0, 16)
    assert largest_epsilon([]) == 1.0


@pytest.mark.parametrize(
    ("match_rate", "means", "above"),
    [
        (0.001, (0.2, 0.2, 0.2, 0.2), False),
        (0.0011, (0.0, 0.0, 0.0, 0.0), True),
        (0.0, (0.0, 0.0, 0.0, 0.21), True),
    ],
)
def test_above_is_any_rate_above_its_baseline(match_rate: float, means: tuple[float, ...], above: bool) -> None:
    assert exceeds(match_rate, np.array(means), BASELINES) is above


def test_intent_is_allowed_half_as_much_again_as_the_largest() -> None:
    means = np.array([[0.2, 0.0, 0.5, 0.7], [0.4, 0.01, 0.1, 0.1]])
    assert intent_baselines(means) == pytest.approx((0.6, 1 / 7, 0.75, 0.9))
    assert intent_baselines(np.vstack([means, [np.nan] * 4])) == intent_baselines(means)
    assert intent_baselines(np.zeros((0, 4))) == pytest.approx((0.9,) * 4)  # of nobody known: intent is not bet on


def test_of_accounts_with_few_units_is_expected_what_is_fair_to_their_kind() -> None:
    means = np.array([[0.3] * 4, [1.0] * 4, *[[0.1] * 4] * 9, [0.7] * 4])
    kinds = ["judges"] * 11 + ["chats"]
    expected = expected_intent(means, np.array([10, *[1] * 10, 9]), kinds)
    assert expected[:, 0] == pytest.approx([0.3, *[0.19] * 10, np.nan], nan_ok=True)  # a unit each: their mean
    assert np.isnan(expected_intent(means, np.array([0, 9, *[0] * 10]), ["judges"] * 12)).all()


def test_the_baseline_that_is_fair_to_accounts_by_hand() -> None:
    """With a single bet, three accounts of two units and one of none: (1-b)^2 of 2/3 and (1 - b + b/m)^2 of 1/3 are 1
    at m = b / (sqrt(3 - 2 (1-b)^2) - 1 + b)."""
    found = fair_baseline(np.array([[1.0], [0.0], [0.0]]), np.array([2, 2, 2]), bets=(0.5,))
    assert found == pytest.approx([0.5 / (np.sqrt(2.5) - 0.5)])
    assert fair_baseline(np.ones((5, 1)), np.full(5, 3)) == pytest.approx([1.0])


def intent_evidence(x: NDArray[np.int64], m2: tuple[float, ...]) -> NDArray[np.float64]:
    """e of accounts with units of one day, and no match, as review sees it: levels of the first target, [A, units]."""
    hist = np.zeros((len(x), 4, LEVELS + 1), np.int64)
    hist[:, 1:, 0] = x.shape[1]
    hist[:, 0] = (x[:, :, None] == np.arange(LEVELS + 1)).sum(axis=1)
    calendar = make_calendar(np.arange(len(x)), np.zeros(len(x), np.int64))
    return np.exp(mean_over_targets(hedged(log_capital(calendar, level_factors(hist, m2)))))


@pytest.mark.parametrize(("units", "share"), [(1, 0.2), (3, 0.2), (9, 0.1)])
def test_honest_accounts_of_few_units_are_within_the_bound_of_review(units: int, share: float) -> None:
    """A share of them is misread in every unit, for certain: no kind of this mean can do worse. E[e] <= 1 over the
    accounts, which is what e-BH needs; to take nothing but the mean of their units would not do."""
    rng = np.random.default_rng(units)
    misread = np.repeat(rng.random((20_000, 1)) < share, units, axis=1) * LEVELS
    means = misread.mean(axis=1)[:, None] / LEVELS * np.eye(4)[0]
    expected = expected_intent(means, np.full(len(means), units), ["judges"] * len(means))
    e = intent_evidence(misread, intent_baselines(expected))
    assert e.mean() <= 1
    assert e_bh(np.log(e), len(e)) == 0
    by_mean = intent_evidence(misread, intent_baselines(np.broadcast_to(means.mean(axis=0), means.shape)))
    assert (by_mean.mean() > 1, e_bh(np.log(by_mean), len(e)) > REVIEW_ALPHA * len(e)) == (units > 3,) * 2


def test_the_bound_counts_everybody_once_and_whoever_is_unknown_at_the_worst() -> None:

    strata = [Stratum("people", 1000, 0, 0.003), Stratum("apps", 100, 0, 0.03)]

    def bound(**registered: int) -> float:
        return Certificate(BASELINES, strata, registered).bound(50, 1000)

    assert bound() == pytest.approx(0.01 + 0.03 * 1000 / 50)
    assert bound(people=900) == pytest.approx(0.01 + (0.003 * 900 + 0.03 * 100) / 50)
    assert bound(people=900, apps=100) == pytest.approx(0.01 + (0.003 * 900 + 0.03 * 100) / 50)
    assert bound(people=900, robots=100) == bound(people=900)  # nobody has seen a robot
    assert bound(people=2000) == pytest.approx(0.01 + 0.003 * 2000 / 50)
    assert Certificate(BASELINES, [], {"people": 1000}).bound(50, 1000) == 1.0
    told = Certificate(BASELINES, strata, {"people": 900})
    assert [told.adds(s, 50, 1000) for s in strata] == pytest.approx([0.003 * 900 / 50, 0.03 * 1000 / 50])
