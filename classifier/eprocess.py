"""The e-process of one channel: wealth spread over bets and start days, from integer counts. Plain functions on arrays.

Beneath `evidence` (accounts) and `campaigns` (families), which both bet by it. For one account, day s, and bets b_k:

    A[k] = (A[k] + (g(prev) - g(s)) / 7) * exp(D[k]);  prev = s;    E = sum_k A[k] + g(s)    (A = prev = 0 before)

D[k] is the day's log-factor, whose exponential has mean at most 1 under the null. Wealth 1 is spread over the bets and
over the day to start on, weights g(s-1) - g(s), which telescope to 1; so E is a nonnegative supermartingale from 1, and
P(E ever >= 1/a) <= a (Ville 1939). Dividing by the days seen instead, or taking the best start, is no e-process.

All factors come from integer counts of the day so far, so equal counts give equal floats, however rows were batched.
Natural logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.types import LEVELS

BETS = (0.002, 0.02, 0.05, 0.12, 0.25, 0.5, 0.8)
"""Shares of the wealth staked; the best one is about the share of extraction, whatever the baseline is. The smallest
one finds at volume whoever exceeds a baseline of 0.001 no more than two or three times."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Factors = Callable[[Ints], Floats]
"""Row numbers [n] -> log-factors [n, c, k] of the row's day so far, for each of c targets and k bets."""


@dataclass(frozen=True)
class Round:
    """The r-th active day of every account that has one: n rows, d days."""

    rows: Ints  # [n] row numbers
    day: Ints  # [n] position among the d days
    last: Ints  # [d] position in `rows` of the day's last row
    account: Ints  # [d]
    log_start: Floats  # [d] log (g(prev) - g(s)): of starting on this day or since the active day before
    log_rest: Floats  # [d] log g(s): of starting later


@dataclass(frozen=True)
class Calendar:
    """Rounds in order, and each account's last row [A]."""

    rounds: Sequence[Round]
    last_rows: Ints


@dataclass(frozen=True)
class Begun:
    """Where A accounts stand before the rows of a calendar: their first day [A], and s of the last active day before
    that of their first row [A], 0 without one."""

    first_day: Ints
    previous: Ints


def start_weight(s: Ints) -> Floats:
    """g(s): the share of the wealth that starts after day s; 1 at s = 0, falling to 0 slowly."""
    return np.asarray(1 / (1 + np.log2(1 + s)))


def make_calendar(account: Ints, day: Ints, begun: Begun | None = None) -> Calendar:
    """Arrange rows, sorted by account, then day, then time. s counts days from the account's first, which is 1; `begun`
    says where accounts stand that had rows before these.

    A day with rows in one channel only is a day of both: the other's D is 0 there, and since (g(p) - g(s)) + (g(s) -
    g(t)) = g(p) - g(t), a day with D = 0 changes neither its E nor any later one.
    """
    new_account, new_day = changes(account), changes(account, day)
    first_row = np.flatnonzero(new_day)
    row_owner = np.cumsum(new_account) - 1
    owner, date = row_owner[first_row], day[first_row]
    opens = np.flatnonzero(new_account[first_row])
    known = begun if begun is not None else Begun(date[opens], np.zeros(len(opens), np.int64))
    s = date - known.first_day[owner] + 1
    previous = np.where(new_account[first_row], known.previous[owner], np.roll(s, 1))
    if len(s) == len(opens):  # one day each, as where a few new events are folded: what follows would come to this
        last, log_rest = np.flatnonzero(np.append(new_account, True)[1:]), np.log(start_weight(s))
        log_start = np.log(start_weight(previous) - start_weight(s))
        return Calendar([Round(np.arange(len(account)), row_owner, last, owner, log_start, log_rest)], last)
    row_day = np.cumsum(new_day) - 1
    ordinal = (np.arange(len(s)) - opens[owner])[row_day]
    by_round = np.argsort(ordinal, kind="stable")
    rounds = []
    for rows in np.split(by_round, np.cumsum(np.bincount(ordinal))[:-1]):
        days, position = np.unique(row_day[rows], return_inverse=True)
        last = np.searchsorted(position, np.arange(len(days)), side="right") - 1
        log_start = np.log(start_weight(previous[days]) - start_weight(s[days]))
        rounds.append(Round(rows, position, last, owner[days], log_start, np.log(start_weight(s[days]))))
    return Calendar(rounds, np.flatnonzero(np.append(new_account, True)[1:]))


def log_capital(calendar: Calendar, factors: Factors, opening: Factors | None = None) -> Floats:
    """log E after each row, [rows, c]. `opening`: factors of the wealth that starts on the row's day, where they are
    not those of what started before."""
    width, n_bets = factors(np.zeros(0, np.int64)).shape[1:]
    log_a = np.full((len(calendar.last_rows), width, n_bets), -np.inf)
    log_e = np.empty((sum(len(part.rows) for part in calendar.rounds), width))
    for part in calendar.rounds:
        won, before = factors(part.rows), log_a[part.account]
        if opening is None:
            after = opened(before, part.log_start)[part.day] + won
        else:
            started = part.log_start[part.day, None, None] - np.log(n_bets)
            after = np.logaddexp(before[part.day] + won, started + opening(part.rows))
        log_e[part.rows] = np.logaddexp(log_sum(after), part.log_rest[part.day, None])
        log_a[part.account] = after[part.last]
    return log_e


def opened(log_a: Floats, log_start: Floats) -> Floats:
    """Wealth [n, c, k] with what starts on the day (`log_start` [n]) spread over the bets; all of it then has the day's
    factors."""
    return np.asarray(np.logaddexp(log_a, (log_start - np.log(log_a.shape[-1]))[:, None, None]))


def match_factors(n: Ints, hits: Ints, rate: float, bets: Sequence[float] = BETS) -> Factors:
    """hits log(1 + b/rate (1 - rate)) + (n - hits) log(1 - b), from day-so-far counts n [rows] and hits [rows, c].

    Null: each of the n is a hit with chance at most `rate`, given the past.
    """
    shares = np.array(bets)
    log_hit, log_miss = np.log1p(shares / rate * (1 - rate)), np.log1p(-shares)
    misses = n[:, None] - hits
    return lambda rows: hits[rows][..., None] * log_hit + misses[rows][..., None] * log_miss


def level_factors(hist: Ints, means: Sequence[float]) -> Factors:
    """sum_j hist[c, j] log(1 + b/means[c] (j/7 - means[c])), from day-so-far counts hist [rows, c, 8].

    Null: the mean of level / 7 is at most means[c], given the past.
    """
    m = np.array(means)[:, None, None]
    log_level = np.log1p(np.array(BETS) / m * (np.arange(LEVELS + 1)[None, :, None] / LEVELS - m))
    used = np.flatnonzero(hist.any(axis=(0, 1))).tolist()

    def factors(rows: Ints) -> Floats:
        total = np.zeros((len(rows), len(means), len(BETS)))
        for level in used:  # in a fixed order: BLAS would round differently with the number of rows
            total += hist[rows, :, level, None] * log_level[:, level]
        return total

    return factors


def log_sum(logs: Floats) -> Floats:
    """log of the sum of exponentials over the last axis, none of them infinite."""
    top = np.maximum.reduce(logs, axis=-1, initial=-np.inf)
    return np.asarray(top + np.log(np.add.reduce(np.exp(logs - top[..., None]), axis=-1)))


def changes(*columns: NDArray[np.generic]) -> Bools:
    """True in the first row, and where a row of the columns differs from the one before."""
    change = np.zeros(len(columns[0]), np.bool_)
    change[:1] = True
    for column in columns:
        change[1:] |= column[1:] != column[:-1]
    return change


def running(values: Ints, starts: Bools) -> Ints:
    """Running totals over rows, begun anew where `starts`, of the same type."""
    total = np.cumsum(values, axis=0, dtype=values.dtype)
    first = np.flatnonzero(starts)
    before = total[first] - values[first]
    total -= np.repeat(before, np.diff(first, append=len(values)), axis=0)
    return total


def record_rows(account: Ints, values: Floats) -> Ints:
    """Rows, sorted by account, whose value exceeds all earlier ones of the account."""
    distinct, rank = np.unique(values, return_inverse=True)
    best = np.maximum.accumulate(account * len(distinct) + rank)  # an account's numbers lie above all before it
    return np.flatnonzero(changes(best))
