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
from classifier.evidence import Baselines
from classifier.types import LEVELS
from classifier.verdicts import fdr_bound

M2_MARGIN = 1.5
MOST_M2 = 0.9  # above this a bet could win nothing; the intent channel is then as good as off
CONFIDENCE = 0.95
FAMILY_PART = 3
"""A family by which alone an honest account reaches m1 / FAMILY_PART is to be tightened, or made public."""

Floats = NDArray[np.float64]


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


def intent_baselines(means: Floats) -> tuple[float, float, float, float]:
    """m2 from the mean intent [n, 4] of honest accounts: M2_MARGIN times the largest, within what can be bet on."""
    m2 = np.clip(M2_MARGIN * means.max(axis=0, initial=0.0), 1 / LEVELS, MOST_M2)
    return float(m2[0]), float(m2[1]), float(m2[2]), float(m2[3])


def exceeds(match_rate: float, means: Floats, baselines: Baselines) -> bool:
    """Whether an account is above the baselines, by its rate of exclusive matches or its mean intent [4]."""
    return bool((means > np.array(baselines.m2)).any()) or match_rate > baselines.m1


def certify(stratum: str, above: Sequence[bool]) -> Stratum:
    """What honest accounts of one kind, each above the baselines or not, say of all such."""
    return Stratum(stratum, len(above), sum(above), clopper_pearson_upper(sum(above), len(above)))


def clopper_pearson_upper(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper limit of a proportion of which k of n were seen (Clopper & Pearson 1934); 1 - (1 - confidence)^(1/n) for k
    = 0."""
    from scipy.special import betaincinv  # takes longer to import than all the rest here, and a service hardly asks

    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))
