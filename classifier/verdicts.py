"""Verdicts: from every account's evidence to its decision, the false discovery rate held. Plain functions on arrays.

    labels, units -> evidence -> **verdicts** -> campaigns

A flag is Benjamini-Yekutieli on 1/M, M an account's largest evidence so far, so the rate holds however often one looks
and whatever ties accounts together: E[sup over time of the false share among flags] <= ALPHA, for accounts whose
conduct is within the baselines. Review is e-BH (Wang & Ramdas 2022) on the current evidence. Natural logs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.eprocess import Bools, Floats, Ints, changes
from classifier.errors import UsageError
from classifier.evidence import Baselines, Evidence, Replay, minimum_units
from classifier.types import TARGETS, Basis, Decision

ALPHA = 0.01
REVIEW_ALPHA = 0.10
CAPABILITY_FACTOR = len(TARGETS)
"""A target is named if its own e is this many times the threshold: then the mean over targets passes by it alone."""

_GRAVITY = tuple(Decision)

Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Thresholds:
    """What all accounts together set for each of them. `n_flagged` is R; log thresholds are for M (flag) and e
    (review). `minimum_units`: with fewer, no evidence is not yet `clear`."""

    population: int
    n_flagged: int
    log_flag: float
    log_review: float
    minimum_units: int


@dataclass(frozen=True)
class Judgement:
    """Decisions on A accounts, in the order of their evidence. `capabilities`: what an account is flagged or reviewed
    for, strongest first, of TARGETS."""

    decision: Sequence[Decision]
    basis: Sequence[Basis | None]
    capabilities: Sequence[tuple[str, ...]]
    flagged: Bools


@dataclass(frozen=True)
class Verdicts(Judgement):
    """Decisions on A accounts, sorted by account, and what they were made by. `flagged_at` [A] datetime64[us], NaT for
    the others: event time at which the rule first held."""

    account_ids: pa.Array
    flagged_at: Times
    thresholds: Thresholds


def decide(replay: Replay, population: int, baselines: Baselines) -> Verdicts:
    """Judge all accounts of a run, held in memory together: `find_thresholds`, `flag_times` and `verdicts_of` in one.

    Raises UsageError if the run holds more accounts than the population.
    """
    found = find_thresholds(replay.log_max_e, replay.log_review, population, baselines)
    records = (replay.record_account, replay.record_us, replay.record_log_e)
    times = flag_times(*records, len(replay.account_ids), found.n_flagged, flag_scale(population))
    return verdicts_of(replay, found, times)


def find_thresholds(log_max_e: Floats, log_review: Floats, population: int, baselines: Baselines) -> Thresholds:
    """The thresholds that the evidence of all accounts sets: M and the current e of each. Those that no threshold can
    reach, M below 1/ALPHA and e below 1/REVIEW_ALPHA, may be left out.

    `population`: registered accounts, an upper bound fixed beforehand and never those "seen so far", which would break
    the rate. Raises UsageError if the run holds more accounts than that.
    """
    if population < len(log_max_e):
        raise UsageError(
            f"The population must be at least the {len(log_max_e)} accounts of the run, got {population}: give the "
            "number of registered accounts."
        )
    n_flagged = by_step_up(log_max_e, population)
    log_flag = flag_scale(population) - math.log(max(n_flagged, 1))
    return Thresholds(
        population=population,
        n_flagged=n_flagged,
        log_flag=log_flag,
        log_review=math.log(population / REVIEW_ALPHA / max(e_bh(log_review, population), 1)),
        minimum_units=minimum_units(log_flag, baselines.m1),
    )


def judge(evidence: Evidence, thresholds: Thresholds) -> Judgement:
    """Decide on accounts by thresholds that were found from all of them; each by its own evidence alone."""
    flagged = evidence.log_max_e >= thresholds.log_flag
    reviewed = ~flagged & (evidence.log_review >= thresholds.log_review)
    rank = (evidence.n_units >= thresholds.minimum_units).astype(np.int64)
    rank[reviewed], rank[flagged] = 2, 3
    return Judgement(
        decision=[_GRAVITY[i] for i in rank.tolist()],
        basis=_bases(evidence, flagged, reviewed, thresholds.log_review),
        capabilities=_capabilities(evidence, flagged, reviewed, thresholds),
        flagged=flagged,
    )


def verdicts_of(replay: Replay, thresholds: Thresholds, flagged_at: Times) -> Verdicts:
    """`judge`'s decisions on replayed accounts, with what they were made by; `flagged_at` [A] is `flag_times`'s."""
    judged = judge(replay, thresholds)
    return Verdicts(**vars(judged), account_ids=replay.account_ids, flagged_at=flagged_at, thresholds=thresholds)


def least_flag(population: int, n_accounts: int) -> float:
    """log M below which none of `n_accounts` accounts can be flagged, whatever the others do."""
    return flag_scale(population) - math.log(max(n_accounts, 1))


def may_be_judged(replay: Replay, population: int, n_accounts: int) -> Bools:
    """Accounts, of `n_accounts` in all, that some conduct of the others would have flagged or put up for review."""
    least_review = math.log(population / REVIEW_ALPHA / max(n_accounts, 1))
    return np.asarray((replay.log_max_e >= least_flag(population, n_accounts)) | (replay.log_review >= least_review))


def by_step_up(log_m: Floats, population: int, alpha: float = ALPHA) -> int:
    """R, the largest r with r values at M >= N H / (alpha r), H = 1 + ... + 1/N (Benjamini & Yekutieli 2001 on 1/M)."""
    return _step_up(log_m, flag_scale(population, alpha))


def e_bh(log_e: Floats, population: int, alpha: float = REVIEW_ALPHA) -> int:
    """The largest r with r values at e >= N / (alpha r) (Wang & Ramdas 2022)."""
    return _step_up(log_e, math.log(population / alpha))


def flag_scale(population: int, alpha: float = ALPHA) -> float:
    """log(N H / alpha), the threshold of a lone flag.

    N counts as at least 2: a flag of all of N accounts needs M >= H/alpha, which for N = 1 would be the cap of intent.
    """
    n = max(population, 2)
    return math.log(n * harmonic(n) / alpha)


def harmonic(n: int) -> float:
    """1 + 1/2 + ... + 1/n, within 1e-13 (Euler-Maclaurin above 1000)."""
    if n <= 1000:
        return math.fsum(1 / i for i in range(1, n + 1))
    return math.log(n) + float(np.euler_gamma) + 1 / (2 * n) - 1 / (12 * n**2)


def fdr_bound(n_flagged: int, strata: Iterable[tuple[float, int]], alpha: float = ALPHA) -> float:
    """min(1, alpha + sum eps N / R): promised of a population of strata (eps, N) with at most a share eps beyond the
    baselines."""
    return min(1.0, alpha + sum(share * accounts for share, accounts in strata) / max(n_flagged, 1))


def flag_times(account: Ints, us: Ints, log_m: Floats, n_accounts: int, n_flagged: int, scale: float) -> Times:
    """When the rule first held for each account [n_accounts], datetime64[us], NaT if it does not hold at the end.

    Records (account, us, log_m), sorted by account then time, say when an account's M rose and to what; n_flagged is R
    at the end. M only rises, so R(t) does too, and an account is flagged at the first t with M(t) >= N H / (alpha
    R(t)). Only records that suffice for the final R matter: nobody is flagged with less at any earlier time, nor counts
    towards an earlier R(t).
    """
    needed = _least_rank(log_m, scale, n_flagged)
    keep = changes(account, needed) & (needed <= n_flagged)
    account, us, needed = account[keep], us[keep], needed[keep]
    reached = _rank_times(account, us, needed, n_accounts, n_flagged)
    times = np.full(n_accounts, np.iinfo(np.int64).max)
    np.minimum.at(times, account, np.maximum(us, reached[needed]))
    times[times == np.iinfo(np.int64).max] = np.iinfo(np.int64).min  # how datetime64 spells NaT
    return times.view("datetime64[us]")


def _rank_times(account: Ints, us: Ints, needed: Ints, n_accounts: int, n_flagged: int) -> Ints:
    """First time [n_flagged + 1] at which R(t) >= r, for each r."""
    current = np.full(n_accounts, n_flagged + 1)
    slack = -np.arange(n_flagged + 1, dtype=np.int32)  # accounts that need at most rank r, less r
    reached = np.zeros(n_flagged + 1, np.int64)
    rank = 0
    for row in np.argsort(us, kind="stable"):
        new, old = needed[row], current[account[row]]
        slack[new:old] += 1
        current[account[row]] = new
        first = max(new, rank + 1)  # only where slack has just grown can R have grown
        attained = np.flatnonzero(slack[first:old] >= 0)
        if len(attained):
            reached[rank + 1 : first + attained[-1] + 1] = us[row]
            rank = first + attained[-1]
    return reached


def _least_rank(log_values: Floats, scale: float, limit: int) -> Ints:
    """Smallest r with value >= scale - log r; limit + 1 where none up to the limit will do."""
    thresholds = scale - np.log(np.arange(1, limit + 1))
    return np.searchsorted(-thresholds, -log_values, side="left") + 1


def _step_up(log_values: Floats, scale: float) -> int:
    n = len(log_values)
    enough = np.cumsum(np.bincount(_least_rank(log_values, scale, n), minlength=n + 2))[: n + 1]
    return int(np.flatnonzero(enough >= np.arange(n + 1))[-1])


def _capabilities(evidence: Evidence, flagged: Bools, reviewed: Bools, thresholds: Thresholds) -> list[tuple[str, ...]]:
    named: list[tuple[str, ...]] = [()] * len(flagged)
    rows = (flagged | reviewed).nonzero()[0]
    if not len(rows):
        return named
    strength = np.where(flagged[:, None], evidence.log_max_e_target, evidence.log_review_target)
    least = np.where(flagged, thresholds.log_flag, thresholds.log_review) + math.log(CAPABILITY_FACTOR)
    for i in rows:
        order = np.argsort(-strength[i], kind="stable")
        count = max(int((strength[i] >= least[i]).sum()), 1)
        named[i] = tuple(TARGETS[c] for c in order[:count])
    return named


def _bases(evidence: Evidence, flagged: Bools, reviewed: Bools, log_review: float) -> list[Basis | None]:
    """Signature if that channel alone suffices, as it does for every flag: intent is capped. Else what says most."""
    judged = flagged | reviewed
    if not judged.any():
        return [None] * len(judged)
    signature, public, intent = evidence.log_basis.T
    rank = np.select(
        [~judged, flagged | (signature >= log_review), intent >= public, public > signature],
        [0, 1, 2, 3],
        1,
    )
    choices = (None, Basis.SIGNATURE, Basis.INTENT, Basis.PUBLIC)
    return [choices[i] for i in rank]
