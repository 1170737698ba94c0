"""Certification: how far honest conduct keeps to the baselines, from accounts that are known to be honest.

Beside the flow: an evaluation certifies a bundle with it (training), an operator his own accounts (service). Pure maths
on rates; DESIGN.md section 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from classifier.bundle import Stratum
from classifier.evidence import Baselines
from classifier.types import LEVELS

M2_MARGIN = 1.5
MOST_M2 = 0.9  # above this a bet could win nothing; the intent channel is then as good as off
CONFIDENCE = 0.95
FAMILY_PART = 3
"""A family by which alone an honest account reaches m1 / FAMILY_PART is to be tightened, or made public."""

Floats = NDArray[np.float64]


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
    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))
