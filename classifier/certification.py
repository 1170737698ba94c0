"""Certification: how far honest conduct keeps to the baselines, from accounts that are known to be honest.

Beside the flow: an evaluation certifies a bundle with it (training), an operator his own accounts (service). Pure maths
on rates; DESIGN.md section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.bundle import Stratum, largest_epsilon
from classifier.eprocess import BETS
from classifier.evidence import Baselines
from classifier.types import LEVELS
from classifier.verdicts import fdr_bound

M2_MARGIN = 1.5
MOST_M2 = 0.9  # above this a bet could win nothing; the intent channel is then as good as off
_HALVINGS = 40
LEAST_UNITS = 10  # units whose mean is taken for what is to be expected of the next one
CONFIDENCE = 0.95
FAMILY_PART = 3
"""A family by which alone an honest account reaches m1 / FAMILY_PART is to be tightened, or made public."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Certificate:
    """The null that evidence is held against, and how far honest accounts of each kind were seen to keep to it.

    `registered`: how many registered accounts are of a stratum, where that is known. All others are taken to be of the
    one that least is known of.
    """

    baselines: Baselines
    strata: Sequence[Stratum]
    registered: Mapping[str, int]

    def bound(self, n_flagged: int, population: int) -> float:
        """min(1, alpha + sum eps N / R): what may be promised of R flags among a population."""
        known = [(s.epsilon, self.registered[s.stratum]) for s in self.strata if s.stratum in self.registered]
        rest = population - sum(n for _, n in known)
        return fdr_bound(n_flagged, [*known, (largest_epsilon(self.strata), max(rest, 0))])

    def adds(self, stratum: Stratum, n_flagged: int, population: int) -> float:
        """What a stratum alone adds to the bound; where it is not known how many are of it, if all were."""
        return fdr_bound(n_flagged, [(stratum.epsilon, self.registered.get(stratum.stratum, population))], alpha=0)


def expected_intent(means: Floats, n_units: Ints, kinds: Sequence[str]) -> Floats:
    """What intent [A, T] is to be expected of the next unit of honest accounts, from the means [A, T] of the `n_units`
    [A] that they have; NaN where too little is known.

    Of an account with LEAST_UNITS units, their mean. One or two units are draws of what is expected, not its measure,
    and the largest of many draws tells how far intent ranges: it is near 1 wherever anything is. But nor may they be
    passed over: many honest applications never have more, and of a kind that is misread, such as judges, most are. So
    an account with fewer is taken for any of its kind (a repository, an operator's stratum), and the null is asked of
    the kind: `fair_baseline` of such accounts, if they have LEAST_UNITS together. That is what the rate of false flags
    and reviews needs, which is one over accounts.
    """
    expected = np.where(n_units[:, None] >= LEAST_UNITS, means, np.nan)
    few, kind = (n_units > 0) & (n_units < LEAST_UNITS), np.array(kinds)
    for name in np.unique(kind[few]):
        of_kind = few & (kind == name)
        if n_units[of_kind].sum() >= LEAST_UNITS:
            expected[of_kind] = fair_baseline(means[of_kind], n_units[of_kind])
    return expected


def fair_baseline(means: Floats, n_units: Ints, bets: Sequence[float] = BETS) -> Floats:
    """Least m [T] with E[E2] <= 1 over accounts of a kind, drawn alike, of whom means [A, T] of `n_units` [A] are seen.

    E2 is taken at its largest for a mean, that of units all alike: mean over bets of (1 + b/m (mean - m))^n. With a
    unit each, m is their mean; the more units, the more does an account weigh that is misread in all of them.
    """
    b = np.array(bets)
    low, high = np.zeros(means.shape[1]), np.ones(means.shape[1])
    for _ in range(_HALVINGS):
        m = (low + high) / 2
        wealth = (1 - b + b * (means / m)[:, :, None]) ** n_units[:, None, None]
        fair = wealth.mean(axis=(0, 2)) <= 1
        low, high = np.where(fair, low, m), np.where(fair, m, high)
    return high


def intent_baselines(expected: Floats) -> tuple[float, ...]:
    """m2 from the intent [A, T] to be expected of honest accounts: M2_MARGIN times the largest, within what can be bet
    on; where nothing is known of any account, intent is not bet on."""
    known = expected[~np.isnan(expected).any(axis=1)]
    largest = known.max(axis=0) if len(known) else np.full(expected.shape[1], MOST_M2)
    return tuple(np.clip(M2_MARGIN * largest, 1 / LEVELS, MOST_M2).tolist())


def exceeds(match_rate: float, means: Floats, baselines: Baselines) -> bool:
    """Whether an account is above the baselines, by its rate of exclusive matches or the intent [T] to be expected of
    it, NaN if unknown."""
    return bool((means > np.array(baselines.m2)).any()) or match_rate > baselines.m1


def certify(stratum: str, above: Sequence[bool]) -> Stratum:
    """What honest accounts of one kind, each above the baselines or not, say of all such."""
    return Stratum(stratum, len(above), sum(above), clopper_pearson_upper(sum(above), len(above)))


def clopper_pearson_upper(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper limit of a proportion of which k of n were seen (Clopper & Pearson 1934); 1 - (1 - confidence)^(1/n) for k
    = 0."""
    from scipy.special import betaincinv  # takes longer to import than all the rest here, and a service hardly asks

    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))
