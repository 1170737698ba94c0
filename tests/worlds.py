"""Worlds of accounts by counts alone: honest ones at the very edge of the null, and bad ones. For tests and benchmarks.

Accounts live day by day. Honest ones send as many units as their conduct says, which may depend on all that they did
before and, where it stops, on what they did that day; each unit matches, for every target, with the chance `m1`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from classifier.eprocess import (
    Bools,
    Floats,
    Ints,
    changes,
    level_factors,
    log_capital,
    make_calendar,
    match_factors,
    record_rows,
    running,
)
from classifier.evidence import Baselines, join_channels, mean_over_targets
from classifier.types import LEVELS
from classifier.units import DAY_US
from classifier.verdicts import by_step_up, flag_scale, flag_times

CLUSTER = 10
"""Accounts that do the same where conduct is dependent."""


@dataclass(frozen=True)
class Past:
    """What an adversary sees of A accounts in the morning: the day, and his matches on all days and on the last."""

    day: int
    matches: Ints
    yesterday: Ints


@dataclass(frozen=True)
class Conduct:
    """How honest accounts behave. `volume`: units of a day as multiples of the account's usual number.

    `stops`: the day ends with its first match. `dependent`: CLUSTER accounts at a time share all chance.
    """

    name: str
    volume: Callable[[np.random.Generator, Past], Floats]
    stops: bool = False
    dependent: bool = False


def _weekly(rng: np.random.Generator, past: Past) -> Floats:
    return rng.poisson(20 * (0.3 if past.day % 7 > 4 else 1), len(past.matches)) / 20


def _bursts(rng: np.random.Generator, past: Past) -> Floats:
    return rng.lognormal(-2, 2, len(past.matches)) * (rng.random(len(past.matches)) < 0.5)


def _chase(rng: np.random.Generator, past: Past) -> Floats:
    """Much on the day after a match, little before and nothing on most others."""
    return np.where(past.yesterday > 0, 5.0, np.where(rng.random(len(past.matches)) < 0.3, 0.5, 0))


def _ride(rng: np.random.Generator, past: Past) -> Floats:
    """Waits for a first match a little at a time, then sends all at once, and after two matches nothing."""
    return np.choose(np.minimum(past.matches, 2), [0.2, 6.0, 0.0])


def _steady(rng: np.random.Generator, past: Past) -> Floats:
    return np.ones(len(past.matches))


CONDUCTS = (
    Conduct("by the week", _weekly),
    Conduct("in bursts", _bursts),
    Conduct("ten accounts as one", _bursts, dependent=True),
    Conduct("stops at a match", _steady, stops=True),
    Conduct("chases its matches", _chase),
    Conduct("rides its luck", _ride, dependent=True),
)


@dataclass(frozen=True)
class Rows:
    """Whenever something may have changed, in order of account, then time: counts of the day so far. `hist` [n, 8]."""

    account: Ints
    day: Ints
    n: Ints
    hits: Ints
    hist: Ints

    @property
    def us(self) -> Ints:
        return self.day * DAY_US + self.n

    def where(self, rows: Ints | slice) -> Rows:
        return Rows(self.account[rows], self.day[rows], self.n[rows], self.hits[rows], self.hist[rows])

    def renumbered(self, account: Ints) -> Rows:
        return Rows(account, self.day, self.n, self.hits, self.hist)


def joined(a: Rows, b: Rows) -> Rows:
    """Rows of disjoint accounts."""
    both = (np.concatenate([getattr(part, field.name) for part in (a, b)]) for field in fields(Rows))
    account, day, n, hits, hist = both
    order = np.argsort(account, kind="stable")
    return Rows(account, day, n, hits, hist).where(order)


def honest_rows(
    rng: np.random.Generator, conduct: Conduct, m1: float, n_accounts: int, n_days: int, usual: Ints
) -> Rows:
    """Rows at every match and at the end of every day. `usual` [accounts]: units of a day of volume 1."""
    owner = np.arange(n_accounts) // CLUSTER if conduct.dependent else np.arange(n_accounts)
    drawn = int(owner[-1]) + 1
    total, yesterday = np.zeros(drawn, np.int64), np.zeros(drawn, np.int64)
    size = usual[::CLUSTER] if conduct.dependent else usual
    parts = []
    for day in range(n_days):
        units = (size * conduct.volume(rng, Past(day, total, yesterday))).astype(np.int64)
        events, units, yesterday = _day_of(rng, units, m1, conduct.stops)
        total = total + yesterday
        sent = np.flatnonzero(units)
        ends = np.stack([sent, units[sent], yesterday[sent]])
        parts += [np.insert(columns, 1, day, axis=0) for columns in (*events, ends)]
    table = np.concatenate(parts, axis=1)
    if conduct.dependent:
        table[0] *= CLUSTER
        table = np.concatenate([table + np.array([[c], [0], [0], [0]]) for c in range(CLUSTER)], axis=1)
    account, day, n, hits = table[:, np.lexsort((table[3], table[2], table[1], table[0]))]
    return Rows(account, day, n, hits, np.zeros((len(n), LEVELS + 1), np.int64))


def _day_of(rng: np.random.Generator, units: Ints, m1: float, stops: bool) -> tuple[list[Ints], Ints, Ints]:
    """The matches of a day, each [account, units so far, matches so far]; then units sent and matches of all [A]."""
    place, hits, events = np.zeros_like(units), np.zeros_like(units), []
    going = np.flatnonzero(units)
    while len(going):
        place[going] += rng.geometric(m1, len(going))
        going = going[place[going] <= units[going]]
        hits[going] += 1
        events.append(np.stack([going, place[going], hits[going]]))
        if stops:
            return events, np.where(hits > 0, place, units), hits
    return events, units, hits


def honest_units(rng: np.random.Generator, baselines: Baselines, n_accounts: int, n_days: int, per_day: int) -> Rows:
    """A row a unit, with intent: 1 or 0, mean m2, wherever nothing matched. After a match, the rest of the account's
    units come on the same day; ten accounts at a time share all chance."""
    drawn, depth = n_accounts // CLUSTER, n_days * per_day
    match = rng.random((drawn, depth)) < baselines.m1
    high = rng.random((drawn, depth)) < baselines.m2[0]
    after = np.pad(np.logical_or.accumulate(match, axis=1), ((0, 0), (1, 0)))[:, :-1]
    day = np.cumsum(~after & (np.arange(depth) % per_day == 0), axis=1)
    day, match, high = (np.repeat(column, CLUSTER, axis=0).ravel() for column in (day, match, high))
    account = np.repeat(np.arange(n_accounts), depth)
    hist = np.zeros((len(day), LEVELS + 1), np.int64)
    hist[:, LEVELS], hist[:, 0] = high & ~match, ~high & ~match
    starts = changes(account, day)
    ones = np.ones(len(day), np.int64)
    return Rows(account, day, running(ones, starts), running(match.astype(np.int64), starts), running(hist, starts))


def bad_rows(
    rng: np.random.Generator, share: float, n_accounts: int, n_units: int, per_day: int, clean: int = 0
) -> Rows:
    """A row a unit, of which a share match, after `clean` days on which none does."""
    depth = clean * per_day + n_units
    place = np.tile(np.arange(depth), n_accounts)
    account, day = np.repeat(np.arange(n_accounts), depth), place // per_day
    match = (rng.random(len(place)) < share) & (place >= clean * per_day)
    starts = changes(account, day)
    n, hits = running(np.ones_like(account), starts), running(match.astype(np.int64), starts)
    return Rows(account, day, n, hits, np.zeros((len(n), LEVELS + 1), np.int64))


def log_evidence(rows: Rows, baselines: Baselines, one_target: bool = False) -> Floats:
    """log e at each row. Matches are aimed at all targets, or at one of them; intent is for all alike."""
    calendar = make_calendar(np.cumsum(changes(rows.account)) - 1, rows.day)
    hits = np.stack([rows.hits, np.zeros_like(rows.hits)], axis=1) if one_target else rows.hits[:, None]
    log_e = log_capital(calendar, match_factors(rows.n, hits, baselines.m1))
    if rows.hist.any():
        log_e = join_channels(log_e, log_capital(calendar, level_factors(rows.hist[:, None], baselines.m2[:1])))
    return mean_over_targets(log_e[:, [0, 1, 1, 1]] if one_target else log_e[:, [0, 0, 0, 0]])


def most_false(rows: Rows, log_e: Floats, honest: Bools, population: int, alpha: float) -> float:
    """Largest share of false flags at any time, in a world of accounts 0 ... population - 1, `honest` [population]."""
    up = record_rows(rows.account, log_e)
    best = np.full(population, -np.inf)
    np.maximum.at(best, rows.account, log_e)
    n_flagged, scale = by_step_up(best, population, alpha), flag_scale(population, alpha)
    times = flag_times(rows.account[up], rows.us[up], log_e[up], population, n_flagged, scale)
    flagged = np.flatnonzero(~np.isnat(times))
    order = np.argsort(times[flagged], kind="stable")
    when, false = times[flagged][order], honest[flagged][order]
    shares = np.cumsum(false) / np.arange(1, len(false) + 1)
    last = np.append(when[1:] != when[:-1], True)[: len(when)]
    return float(shares[last].max(initial=0.0))
