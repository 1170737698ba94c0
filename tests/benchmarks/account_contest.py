"""Rivals and the product on the same worlds, at equal realised error.

worlds -> statistics of every method -> thresholds set on half of the worlds -> **contest** on the other half
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.eprocess import changes
from classifier.evidence import Baselines
from classifier.verdicts import flag_scale
from tests.benchmarks.account_outcomes import BAD, BENIGN, judge, play
from tests.benchmarks.account_pool import Pool
from tests.benchmarks.account_rivals import LEAST_WINDOW, SPRT, WALD, rivals, sprt, statistics
from tests.benchmarks.account_worlds import Cell, Menus, Traffic, bad_of, benign_of
from tests.worlds import bad_rows, log_evidence

FALSE_SHARE, FALSE_RATE = 0.01, 0.001
EDGE_ACCOUNTS, EDGE_UNITS, PER_DAY = 5000, 400, 26
OURS = "probewatch"
NARROW = {
    "one interest": ("one_interest", "heavy_coder", "student", "agent_user"),
    "applications, jobs": ("application", "job", "nightly_job", "judge", "evaluation"),
    "people, resellers": ("person", "low_volume", "author", "prompt_engineer", "reseller"),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """One method. `by_share`: power in each cell, its threshold set so that at most FALSE_SHARE of the flags of the
    tuning worlds are false; `realised`: share of flags of the other worlds that are false, at the worst of the cells;
    `by_rate`: power where FALSE_RATE of the benign accounts of the tuning worlds are flagged; `worst`: where none is.

    `own`: share of the benign accounts of each of NARROW with LEAST_WINDOW prompts or more that are flagged at the
    method's own threshold; empty where it has none."""

    name: str
    by_share: Sequence[float]
    realised: float
    by_rate: Sequence[float]
    worst: Sequence[float]
    own: Mapping[str, float]
    edge: float = np.nan
    """Share of EDGE_ACCOUNTS honest accounts that are flagged by it if each of their EDGE_UNITS distinct prompts
    matches with a chance of m1, as the null allows; NaN for methods that look at no matches."""


@dataclass(frozen=True)
class Contest:
    """`n`: bad accounts behind each power."""

    cells: Sequence[Cell]
    standings: Sequence[Standing]
    n: int


@dataclass(frozen=True)
class _Scores:
    """Statistics of one method: [worlds, accounts], benign and bad by cell; benign accounts flagged by its own rule."""

    benign: Floats
    bad: Sequence[Floats]
    flagged: NDArray[np.bool_] | None


def contest(pool: Pool, menus: Menus, cells: Sequence[Cell], worlds: int, accounts: tuple[int, int]) -> Contest:
    """`accounts`: benign and bad ones of a world."""
    benign = [benign_of(world, pool, menus, accounts[0]) for world in range(worlds)]
    bad = [[bad_of(world, pool, menus, cell, accounts[1]) for world in range(worlds)] for cell in cells]
    edge = edge_rates(pool.baselines, sum(accounts), accounts[1])
    standings = [_standing(OURS, _our_scores(pool, benign, bad), benign, edge[OURS])]
    for rival in rivals(pool, benign[0], np.random.default_rng(0)):
        scores = np.array([statistics(rival, traffic) for traffic in benign])
        theirs = [np.array([statistics(rival, traffic) for traffic in of_cell]) for of_cell in bad]
        flagged = scores >= rival.own if np.isfinite(rival.own) else None
        own = edge.get(rival.name, np.nan)
        standings.append(_standing(rival.name, _Scores(scores, theirs, flagged), benign, own))
    return Contest(cells, standings, bad[0][0].n_accounts * (worlds - worlds // 2))


def _our_scores(pool: Pool, benign: Sequence[Traffic], bad: Sequence[Sequence[Traffic]]) -> _Scores:
    """M of every account; flagged: in a world without bad accounts, where the threshold is highest, none else."""
    played = [play(pool, traffic, BENIGN) for traffic in benign]
    flagged = np.zeros((len(benign), benign[0].n_accounts), bool)
    for world, own in enumerate(played):
        others = play(pool, bad[0][world], BAD)
        verdicts = judge(pool, own, others).false_accounts
        flagged[world, verdicts] = True
    theirs = [np.array([play(pool, traffic, BAD).replayed.log_max_e for traffic in of_cell]) for of_cell in bad]
    return _Scores(np.array([own.replayed.log_max_e for own in played]), theirs, flagged)


def edge_rates(baselines: Baselines, population: int, n_flagged: int) -> dict[str, float]:
    """`Standing.edge` of SPRT and of ours, whose threshold is that of a world with so many others flagged."""
    rows = bad_rows(np.random.default_rng(0), baselines.m1, EDGE_ACCOUNTS, EDGE_UNITS, PER_DAY)
    log_m = log_evidence(rows, baselines, one_target=True).reshape(EDGE_ACCOUNTS, -1).max(axis=1)
    matched = np.where(changes(rows.account, rows.day), rows.hits, np.diff(rows.hits, prepend=0)) > 0
    ratios = np.array([sprt(row, baselines) for row in matched.reshape(EDGE_ACCOUNTS, -1)])
    ours = log_m >= flag_scale(population) - np.log(n_flagged)
    return {OURS: float(ours.mean()), SPRT: float((ratios >= WALD).mean())}


def _standing(name: str, scores: _Scores, benign: Sequence[Traffic], edge: float) -> Standing:
    half = len(benign) // 2
    tuning, tested = scores.benign[:half].ravel(), scores.benign[half:].ravel()
    by_share, realised = [], []
    for bad in scores.bad:
        threshold = threshold_of_false_share(tuning, bad[:half].ravel(), FALSE_SHARE)
        by_share.append(float((bad[half:] >= threshold).mean()))
        false, true = int((tested >= threshold).sum()), int((bad[half:] >= threshold).sum())
        realised.append(false / max(false + true, 1))
    rate, worst = (threshold_of_rate(tuning, share) for share in (FALSE_RATE, 0.0))
    return Standing(
        name=name,
        by_share=by_share,
        realised=max(realised),
        by_rate=[float((bad[half:] >= rate).mean()) for bad in scores.bad],
        worst=[float((bad[half:] >= worst).mean()) for bad in scores.bad],
        own={} if scores.flagged is None else _by_kind(scores.flagged, benign),
        edge=edge,
    )


def _by_kind(flagged: NDArray[np.bool_], benign: Sequence[Traffic]) -> dict[str, float]:
    kind = np.array([traffic.kind for traffic in benign])
    sent = np.array([np.bincount(traffic.account, minlength=traffic.n_accounts) for traffic in benign])
    chosen = {name: np.isin(kind, kinds) & (sent >= LEAST_WINDOW) for name, kinds in NARROW.items()}
    return {name: float(flagged[of].mean()) for name, of in chosen.items()}


def threshold_of_false_share(benign: Floats, bad: Floats, most: float) -> float:
    """Least threshold at which at most a share `most` of all that reach it is benign: just above some value seen; inf
    if there is none."""
    seen = np.concatenate([benign, bad])
    values = np.nextafter(np.unique(seen[np.isfinite(seen)]), np.inf)
    false = len(benign) - np.searchsorted(np.sort(benign), values)
    true = len(bad) - np.searchsorted(np.sort(bad), values)
    good = np.flatnonzero((false <= most * (false + true)) & (true > 0))
    return float(values[good[0]]) if len(good) else np.inf


def threshold_of_rate(benign: Floats, rate: float) -> float:
    """Least threshold above all but a share `rate` of benign accounts."""
    ranked = np.sort(benign)[::-1]
    return float(np.nextafter(ranked[int(rate * len(ranked))], np.inf))
