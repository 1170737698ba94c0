"""Rival detectors on the same worlds, written from their papers: one number an account, larger is more suspicious.

    worlds -> **rivals** (statistics of accounts) -> thresholds set on half of the worlds -> power on the other half

Each is given more than it asks for: the whole sequence at once, embeddings of the product's own static encoder, and
thresholds set on benign traffic of the very kind it is judged on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import shapiro

from classifier.evidence import Baselines
from tests.benchmarks.account_pool import Pool
from tests.benchmarks.account_worlds import Traffic

WINDOW, LEAST_WINDOW, MOST_WINDOWS = 100, 20, 5
REFERENCE = 1500
POOLED_RATE = 0.003
"""Share of windows of pooled benign traffic above the threshold of MMD: what its paper reports."""
MOST_PROMPTS = 500  # of an account that PRADA and SEAT look at, the first ones
NEAR = (0.8, 0.9, 0.95)
PRADA_DELTA = 0.9
SPRT, SPRT_SHARE, SPRT_ALPHA, SPRT_BETA = "SPRT on verified matches", 0.1, 0.01, 0.05
WALD = float(np.log((1 - SPRT_BETA) / SPRT_ALPHA))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rival:
    """`statistic`: rows of the pool that an account sends, in order, -> a number. `own`: the threshold that its paper
    or habit gives, NaN where there is none."""

    name: str
    statistic: Callable[[Ints], float]
    own: float


def rivals(pool: Pool, tuning: Traffic, rng: np.random.Generator) -> list[Rival]:
    """All of them; MMD's reference and pooled threshold are of `tuning`, benign traffic."""
    mmd = Mmd(pool, rng.permutation(tuning.row)[:REFERENCE])
    windows = rng.permutation(tuning.row)[: len(tuning.row) // WINDOW * WINDOW].reshape(-1, WINDOW)[:2000]
    pooled = float(np.quantile([mmd.of_window(window) for window in windows], 1 - POOLED_RATE, method="higher"))
    matched = pool.signature["y"].to_numpy() > 0
    return [
        Rival("MMD over windows", mmd, pooled),
        Rival("PRADA", lambda rows: prada(pool, rows), 1 - PRADA_DELTA),
        *(Rival(f"SEAT, near at {near}", lambda rows, near=near: seat(pool, rows, near), np.nan) for near in NEAR),
        Rival("mean extraction probability", lambda rows: float(pool.p_extraction[rows].mean()), 0.5),
        Rival(SPRT, lambda rows: sprt(matched[rows], pool.baselines), WALD),
    ]


def statistics(rival: Rival, traffic: Traffic) -> Floats:
    """Of every account, [n_accounts]."""
    order = np.lexsort((traffic.us, traffic.account))
    bounds = np.searchsorted(traffic.account[order], np.arange(1, traffic.n_accounts))
    return np.array([rival.statistic(rows) for rows in np.split(traffic.row[order], bounds)])


class Mmd:
    """Largest unbiased MMD^2 of an account's windows of WINDOW embeddings against pooled benign traffic, RBF kernel,
    median heuristic (Gretton et al. 2012; for distillation arXiv 2606.05725, whose windows are of 1,500)."""

    def __init__(self, pool: Pool, reference: Ints) -> None:
        self.embeddings = pool.embeddings.astype(np.float64)
        own = self.embeddings[reference]
        squared = 2 - 2 * own @ own.T
        self.gamma = 1 / float(np.median(squared[np.triu_indices(len(own), 1)]))
        kernel = np.exp(-self.gamma * squared)
        self.benign = float((kernel.sum() - np.trace(kernel)) / (len(own) * (len(own) - 1)))
        self.across = np.exp(-self.gamma * (2 - 2 * self.embeddings @ own.T)).mean(axis=1)

    def __call__(self, rows: Ints) -> float:
        if len(rows) < LEAST_WINDOW:
            return -np.inf
        windows = [rows[i : i + WINDOW] for i in range(0, min(len(rows), WINDOW * MOST_WINDOWS), WINDOW)]
        return max(self.of_window(window) for window in windows if len(window) >= LEAST_WINDOW)

    def of_window(self, rows: Ints) -> float:
        own, n = self.embeddings[rows], len(rows)
        kernel = np.exp(-self.gamma * (2 - 2 * own @ own.T))
        within = (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
        return float(within + self.benign - 2 * self.across[rows].mean())


def prada(pool: Pool, rows: Ints) -> float:
    """1 - W of Shapiro and Wilk on the least distances of each prompt to those before it of the same named class,
    outliers beyond three deviations left out (Juuti et al., arXiv 1805.02628); attacks are far from normal."""
    rows = rows[:MOST_PROMPTS]
    near = _nearest_before(pool, rows, same_class=True)
    distances = np.sqrt(np.maximum(2 - 2 * near[np.isfinite(near)], 0))
    if len(distances) < LEAST_WINDOW or np.ptp(distances) == 0:
        return 0.0
    kept = distances[np.abs(distances - distances.mean()) <= 3 * distances.std()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant input
        return 1 - float(shapiro(kept).statistic)


def seat(pool: Pool, rows: Ints, near: float) -> float:
    """Share of prompts that are near one before them, but for exact copies (Zhang et al., doi 10.1145/3474369.3486863,
    count such pairs)."""
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])][:MOST_PROMPTS]
    found = _nearest_before(pool, rows, same_class=False)
    return float((found >= near).mean()) if len(rows) >= LEAST_WINDOW else 0.0


def _nearest_before(pool: Pool, rows: Ints, *, same_class: bool) -> Floats:
    """Largest cosine of each row's embedding with one before it, -inf for the first, [n]."""
    own, named = pool.embeddings[rows].astype(np.float64), pool.capability[rows]
    similar = own @ own.T
    allowed = np.tri(len(rows), k=-1, dtype=bool)
    if same_class:
        allowed &= named[:, None] == named
    return np.asarray(np.where(allowed, similar, -np.inf).max(axis=1))


def sprt(matched: NDArray[np.bool_], baselines: Baselines) -> float:
    """Largest log-likelihood ratio of a share of SPRT_SHARE matches against m1 so far (Wald 1945)."""
    hit, miss = np.log(SPRT_SHARE / baselines.m1), np.log((1 - SPRT_SHARE) / (1 - baselines.m1))
    return float(np.cumsum(np.where(matched, hit, miss)).max())
