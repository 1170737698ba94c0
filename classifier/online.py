"""Evidence kept up to date: an account's state, and what new units make of it. Pure maths on arrays.

    eprocess, evidence -> **online** -> the service's store

A state is all that `replay` of an account's units would have come to, and what it takes to go on from there. Folding
units in event order gives what replaying them all gives (a property test); what arrives late does not fold, and its
account is replayed. A state is one record of STATE, so n accounts are an array [n], and a stored one is its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from classifier.eprocess import (
    BETS,
    Begun,
    Bools,
    Floats,
    Ints,
    changes,
    level_factors,
    log_sum,
    make_calendar,
    match_factors,
    opened,
    record_rows,
    running,
    start_weight,
)
from classifier.evidence import CAP, Baselines, Evidence, hedged, join_channels, mean_over_targets
from classifier.types import LEVELS, TARGETS
from classifier.units import DAY_US

_N = len(TARGETS)
N1, HITS, HITS_ANY, HIST = 0, slice(1, 1 + _N), slice(1 + _N, 1 + 2 * _N), slice(1 + 2 * _N, None)
"""Columns of counts [n, COUNTS]: units of the signature channel, their hits without and with public families, and the
levels of the intent channel, [4 targets][8 levels] row-major."""
COUNTS = 1 + 2 * _N + _N * (LEVELS + 1)
PROCESSES = 3
"""E-processes of an account: of verified matches, of those and public ones, and of intent."""

STATE = np.dtype(
    [
        ("first_day", "<i8"),
        ("day", "<i8"),  # the day of its last event; of it `counts` are
        ("previous", "<i8"),  # s of the active day before, 0 without one
        ("us", "<i8"),  # time of its last event
        ("n_units", "<i8"),
        ("counts", "<i4", COUNTS),
        ("log_a", "<f8", (PROCESSES, _N, len(BETS))),  # wealth by bet before the day
        ("log_e", "<f8"),
        ("log_max_e", "<f8"),
        ("log_e_target", "<f8", _N),
        ("log_max_e_target", "<f8", _N),
        ("log_review", "<f8"),
        ("log_review_target", "<f8", _N),
        ("log_basis", "<f8", 3),
    ]
)
"""An account as its units left it. The last seven are the fields of `Evidence`."""

States = NDArray[np.void]


@dataclass(frozen=True)
class Steps:
    """Events that bring new units, sorted by account (0, 1, ..., none missing), then (time, event_id): account [n], us
    since 1970 [n], and counts [n, COUNTS] of each event's units."""

    account: Ints
    us: Ints
    counts: Ints


@dataclass(frozen=True)
class Folded:
    """States after steps, and `record_*` as in `Replay`: whenever M rose, account, time and to what."""

    states: States
    record_account: Ints
    record_us: Ints
    record_log_e: Floats


def empty_states(n: int) -> States:
    """States of n accounts without units."""
    states = np.zeros(n, STATE)
    states["day"] = -1
    states["log_a"] = states["log_max_e"] = states["log_max_e_target"] = -np.inf
    return states


def stack_states(states: Sequence[States]) -> States:
    """States [n] of n arrays of one; NumPy's own way compares all fields of each pair."""
    return np.frombuffer(b"".join(one.tobytes() for one in states), STATE)


def fold(states: States, steps: Steps, baselines: Baselines) -> Folded:
    """What steps make of states [n]; every account has a step, and none before the last event of its state."""
    if len(steps.us) == len(states):
        return _fold_one_each(states, steps, baselines)
    day = steps.us // DAY_US
    states = _reopened(states, day[changes(steps.account)], baselines)
    starts = changes(steps.account, day)
    same_day = (states["day"][steps.account] == day)[:, None]
    counts = running(steps.counts, starts) + np.where(same_day, states["counts"][steps.account], 0)
    calendar = make_calendar(steps.account, day, Begun(states["first_day"], states["previous"]))
    factors = _factors(counts, baselines)
    log_a = states["log_a"].reshape(len(states), -1, len(BETS))
    log_e = np.empty((len(day), PROCESSES * _N))
    for part in calendar.rounds:
        won = factors[part.rows]
        before = log_a[part.account]
        after = opened(before, part.log_start)[part.day] + won
        log_e[part.rows] = np.logaddexp(log_sum(after), part.log_rest[part.day, None])
        open_day = calendar.last_rows[part.account] == part.rows[part.last]
        log_a[part.account] = np.where(open_day[:, None, None], before, after[part.last])
    states["log_a"] = log_a.reshape(states["log_a"].shape)
    _note_days(states, steps, starts)
    return _outcome(states, steps, counts, log_e.reshape(-1, PROCESSES, _N), calendar.last_rows)


def _fold_one_each(states: States, steps: Steps, baselines: Baselines) -> Folded:
    """The same where every account has one step, as nearly all turns of a service have it: no calendar, no running
    totals."""
    day = steps.us // DAY_US
    states = _reopened(states, day, baselines)
    same_day = states["day"] == day
    known = states["counts"]
    counts = steps.counts + (known if same_day.all() else np.where(same_day[:, None], known, 0))
    weights = start_weight(np.stack([states["previous"], day - states["first_day"] + 1]))
    log_start, log_rest = np.log(weights[0] - weights[1]), np.log(weights[1])
    after = _opened(states, log_start)
    after += _factors(counts, baselines)
    log_e = np.logaddexp(log_sum(after), log_rest[:, None])
    states["day"] = day
    states["n_units"] += steps.counts[:, N1]
    _stand(states, steps.us, counts, log_e.reshape(-1, PROCESSES, _N))
    records = (states["log_e"] > states["log_max_e"]).nonzero()[0]
    for now, highest in (("log_e", "log_max_e"), ("log_e_target", "log_max_e_target")):
        states[highest] = np.maximum(states[highest], states[now])
    return Folded(states, records, steps.us[records], states["log_e"][records])


def _opened(states: States, log_start: Floats) -> Floats:
    """`opened` of the wealth of states [n, PROCESSES * 4, 7]; before the first day is over there is none to add to."""
    after = np.empty((len(states), PROCESSES * _N, len(BETS)))
    after[:] = (log_start - np.log(len(BETS)))[:, None, None]
    rows = states["previous"].nonzero()[0]
    if len(rows):
        after[rows] = opened(states["log_a"][rows].reshape(len(rows), -1, len(BETS)), log_start[rows])
    return after


def evidence_of(states: States) -> Evidence:
    """What is held against the accounts of states, in their order."""
    return Evidence(**{name: states[name] for name in Evidence.__dataclass_fields__})


def _reopened(states: States, next_day: Ints, baselines: Baselines) -> States:
    """A copy, in which the day of those whose next step is on a later one is closed, and new accounts have begun."""
    states = states.copy()
    last_day = states["day"]
    fresh = last_day < 0
    if fresh.any():
        states["first_day"][fresh] = next_day[fresh]
    rows = (~fresh & (last_day < next_day)).nonzero()[0]
    if len(rows):
        own = states[rows]
        s = own["day"] - own["first_day"] + 1
        won = _factors(own["counts"], baselines)
        log_start = np.log(start_weight(own["previous"]) - start_weight(s))
        after = opened(own["log_a"].reshape(won.shape), log_start) + won
        states["log_a"][rows] = after.reshape(own["log_a"].shape)
        states["previous"][rows] = s
    return states


def _factors(counts: Ints, baselines: Baselines) -> Floats:
    """Log-factors [n, PROCESSES * 4, 7] of counts [n, COUNTS] of days so far: `match_factors` and `level_factors`, by
    what a hit, a miss and a level come to, found once."""
    log_hit, log_miss, log_level = _log_factors(baselines)
    hits = counts[:, HITS.start : HITS_ANY.stop, None]
    factors = np.empty((len(counts), PROCESSES * _N, len(BETS)))
    matches = np.multiply(hits, log_hit, out=factors[:, : 2 * _N])
    matches += (counts[:, N1, None, None] - hits) * log_miss
    levels = counts[:, HIST].reshape(-1, _N, LEVELS + 1, 1) * log_level
    np.add.reduce(levels, axis=2, initial=0.0, out=factors[:, 2 * _N :])
    return factors


@lru_cache(16)
def _log_factors(baselines: Baselines) -> tuple[Floats, Floats, Floats]:
    """Log-factors of one hit [7], one miss [7] and one unit at each level [4, 8, 7]."""
    one = np.ones((1, 1), np.int64)
    none = np.zeros((1, 1), np.int64)
    hit, miss = (match_factors(one[0], hits, baselines.m1)(one[0] * 0)[0, 0] for hits in (one, none))
    each = np.eye(LEVELS + 1, dtype=np.int64)[:, None, :].repeat(_N, axis=1)
    return hit, miss, level_factors(each, baselines.m2)(np.arange(LEVELS + 1)).swapaxes(0, 1)


def _note_days(states: States, steps: Steps, starts: Bools) -> None:
    """Note the last active day of each account, and the one before it if there are several among the steps."""
    opening = np.flatnonzero(starts)
    owner, date = steps.account[opening], steps.us[opening] // DAY_US
    last = np.flatnonzero(np.append(changes(owner)[1:], True))
    several = np.flatnonzero(np.diff(last, prepend=-1) > 1)
    states["previous"][several] = date[last[several] - 1] - states["first_day"][several] + 1
    states["day"] = date[last]


def _outcome(states: States, steps: Steps, counts: Ints, log_e: Floats, last: Ints) -> Folded:
    """States with what `log_e` [rows, PROCESSES, 4] comes to."""
    of_target = join_channels(log_e[:, 0], log_e[:, 2])
    total, first = mean_over_targets(of_target), np.flatnonzero(changes(steps.account))
    records = record_rows(steps.account, total)
    records = records[total[records] > states["log_max_e"][steps.account[records]]]
    states["n_units"] += np.add.reduceat(steps.counts[:, N1], first)
    _stand(states, steps.us[last], counts[last], log_e[last])
    for name, values in (("log_max_e", total), ("log_max_e_target", of_target)):
        states[name] = np.maximum(states[name], np.maximum.reduceat(values, first))
    return Folded(states, steps.account[records], steps.us[records], total[records])


def _stand(states: States, us: Ints, counts: Ints, log_e: Floats) -> None:
    """Have states stand where their last events left them, `log_e` [n, PROCESSES, 4]."""
    signature, public = log_e[:, 0], log_e[:, 1]
    intent = hedged(log_e[:, 2])
    of_target = signature + np.minimum(intent, np.log(CAP))
    review = public + intent
    means = mean_over_targets(np.stack([of_target, review, signature, public, intent]))
    states["us"], states["counts"] = us, counts
    states["log_e_target"], states["log_review_target"] = of_target, review
    states["log_e"], states["log_review"] = means[:2]
    states["log_basis"] = means[2:].T
