"""Who is on an imaginary provider's platform besides campaigns, and when each kind is awake: tables and their maths.

Kinds are those that must not be flagged, although some look like a campaign. Shares and volumes are assumptions, set so
that people are most accounts and machines send a large part of the requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MINUTES = 1440
QUANTILES = 1024
"""Steps in which a day is inverted: a step holds 1/1,024 of a day's requests."""

ZONES = np.array([-8, -7, -6, -5, -5, -4, -3, 0, 0, 1, 1, 1, 2, 2, 3, 5, 7, 8, 8, 9], np.int64)
"""Hours from UTC that accounts live at, one drawn for each."""


class Rhythm(IntEnum):
    """When an account is awake, in its own time zone."""

    PERSON = 0
    OFFICE = 1
    NIGHTLY = 2
    CUSTOMERS = 3
    CLOCK = 4


# Weight of each hour from 0 to 23 of a local day, and of each day from Monday to Sunday.
_HOURS: dict[Rhythm, list[float]] = {
    Rhythm.PERSON: [0.8, 0.3, 0.1, 0, 0, 0.1, 0.5, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 6, 7, 8, 9, 8, 5, 2.5],
    Rhythm.OFFICE: [0, 0, 0, 0, 0, 0, 0, 0.3, 3, 8, 9, 8, 5, 6, 9, 9, 8, 5, 1.5, 0.5, 0.3, 0.2, 0, 0],
    Rhythm.NIGHTLY: [0, 2, 8, 4, *[0.0] * 20],
    Rhythm.CUSTOMERS: [2, 1.5, 1.2, 1, 1, 1.2, 2, 3, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 5, 4, 3],
    Rhythm.CLOCK: [1.0] * 24,
}
_WEEK: dict[Rhythm, list[float]] = {
    Rhythm.PERSON: [1, 1, 1, 1, 0.9, 0.75, 0.8],
    Rhythm.OFFICE: [1, 1.05, 1.05, 1, 0.85, 0.08, 0.06],
    Rhythm.NIGHTLY: [1] * 7,
    Rhythm.CUSTOMERS: [1.1, 1, 1, 1, 1, 0.8, 0.7],
    Rhythm.CLOCK: [1] * 7,
}


@dataclass(frozen=True)
class Kind:
    """One kind of account.

    Attributes:
        share: of benign accounts.
        volume: mean requests, relative to the other kinds.
        spread: sigma of the log-normal volume; 1.6 gives the busiest 1 % about a quarter of all.
        pool: the menus of texts that its accounts choose from (`simulate_texts`).
        active: share of days on which an account sends anything.
        session: mean requests of a sitting; 1: requests come singly.
        resends: share of accounts whose client sends the earlier turns again with each new one.
        repeat: how many requests in a row carry one text, apart from slots drawn anew each time.
        cycle: after so many texts an account starts over with its first; 0: never.
    """

    name: str
    share: float
    volume: float
    spread: float
    rhythm: Rhythm
    pool: str
    active: float = 1.0
    session: float = 1.0
    resends: float = 0.0
    repeat: int = 1
    cycle: int = 0


KINDS = (
    Kind("person", 0.47, 1.0, 1.6, Rhythm.PERSON, "people", active=0.4, session=3, resends=0.25),
    Kind("one_interest", 0.16, 1.0, 1.2, Rhythm.PERSON, "interests", active=0.4, session=3, resends=0.25),
    Kind("low_volume", 0.14, 0.03, 0.8, Rhythm.PERSON, "people", active=0.1, session=2),
    Kind("heavy_coder", 0.08, 6.0, 1.0, Rhythm.PERSON, "coders", active=0.7, session=5, resends=0.3),
    Kind("student", 0.04, 1.0, 1.0, Rhythm.PERSON, "students", active=0.4, session=4, resends=0.3),
    Kind("author", 0.02, 2.0, 1.0, Rhythm.PERSON, "authors", active=0.5, session=5, resends=0.3),
    Kind("prompt_engineer", 0.01, 4.0, 1.0, Rhythm.OFFICE, "engineers", active=0.6, session=8, repeat=12),
    Kind("agent_user", 0.03, 8.0, 1.0, Rhythm.OFFICE, "agents", active=0.7, session=6, repeat=4),
    Kind("application", 0.02, 25.0, 1.6, Rhythm.CUSTOMERS, "applications"),
    Kind("job", 0.012, 25.0, 1.2, Rhythm.CLOCK, "applications"),
    Kind("nightly_job", 0.008, 10.0, 1.0, Rhythm.NIGHTLY, "applications"),
    Kind("evaluation", 0.004, 15.0, 0.8, Rhythm.NIGHTLY, "benchmarks", active=0.8, cycle=400),
    Kind("judge", 0.004, 15.0, 1.0, Rhythm.NIGHTLY, "judges"),
    Kind("reseller", 0.002, 120.0, 1.0, Rhythm.CUSTOMERS, "customers"),
)
MEMBER = Kind("campaign", 0.0, 1.0, 0.5, Rhythm.CLOCK, "customers")
"""An account of a campaign. What it sends besides extraction are the requests of ordinary customers, at any hour."""
ALL_KINDS = (*KINDS, MEMBER)


def week_weights(weekday: int) -> NDArray[np.float64]:
    """Weight of one day (0 is Monday) for each rhythm, [rhythms]."""
    return np.array([_WEEK[rhythm][weekday] for rhythm in Rhythm], np.float64)


@dataclass(frozen=True)
class DayCurves:
    """The course of a UTC day for each pair of rhythm and zone, as the share of the day's requests.

    Attributes:
        until: [pairs, 1441], share sent before each minute; 0 at the first, 1 at the last.
        minute: [pairs, 1025], its inverse: the minute by which each 1/1,024 was sent.
    """

    until: NDArray[np.float64]
    minute: NDArray[np.float64]

    def times(self, pair: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.int64]:
        """Microseconds into the day at which a share of the day's requests was sent, [n]."""
        place = share * QUANTILES
        step = np.minimum(place.astype(np.int64), QUANTILES - 1)
        low, high = self.minute[pair, step], self.minute[pair, step + 1]
        minutes: NDArray[np.float64] = low + (place - step) * (high - low)
        return (minutes * 60e6).astype(np.int64)


def curve_of(rhythm: NDArray[np.integer], zone: NDArray[np.integer]) -> NDArray[np.int64]:
    """Row of `DayCurves` for rhythms and hours from UTC, [n]."""
    rows: NDArray[np.int64] = rhythm.astype(np.int64) * 24 + zone.astype(np.int64) % 24
    return rows


def day_curves() -> DayCurves:
    """The curves of all rhythms, 24 zones each."""
    until = np.zeros((len(Rhythm) * 24, MINUTES + 1))
    for rhythm in Rhythm:
        local = np.repeat(np.array(_HOURS[rhythm], np.float64), 60)
        for zone in range(24):
            weights = np.roll(local, -60 * zone)
            until[rhythm * 24 + zone, 1:] = np.cumsum(weights) / weights.sum()
    until[:, -1] = 1.0
    steps = np.linspace(0, 1, QUANTILES + 1)
    minutes = np.arange(MINUTES + 1, dtype=np.float64)
    return DayCurves(until, np.stack([_inverse(steps, row, minutes) for row in until]))


def _inverse(steps: NDArray[np.float64], row: NDArray[np.float64], minutes: NDArray[np.float64]) -> NDArray[np.float64]:
    rising = np.concatenate([row[1:] > row[:-1], [True]])  # hours in which nothing is sent have no inverse
    return np.asarray(np.interp(steps, row[rising], minutes[rising]))
