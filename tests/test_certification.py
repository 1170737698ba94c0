"""classifier/certification.py: limits by hand, and what counts as above the baselines."""

from __future__ import annotations

import numpy as np
import pytest

from classifier.bundle import Stratum, largest_epsilon
from classifier.certification import Certificate, certify, clopper_pearson_upper, exceeds, intent_baselines
from classifier.evidence import Baselines

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
    assert intent_baselines(np.zeros((0, 4))) == pytest.approx((1 / 7,) * 4)


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
