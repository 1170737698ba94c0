"""When each account sends which of its texts: events in the order of time, a slice of a day at a time.

    scenario -> accounts -> **events** -> texts -> files

An account's requests are numbered. How many it has sent by an instant is its volume times the share of its life's
activity until then, rounded down after one random shift, so that totals are exact and memory does not grow with the
traffic. What a number stands for is a hash of it, so a request can be made again without those before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.simulate_accounts import Accounts
from training.simulate_draws import Keys, Purpose, below, draws, event_keys, scaled, units
from training.simulate_kinds import ALL_KINDS, DayCurves, day_curves, week_weights
from training.simulate_scenario import Scenario
from training.simulate_texts import Texts

DAY = 86_400_000_000
SLICE_EVENTS, SLICES = 2_000_000, (1, 2, 3, 4, 6, 8, 12)
"""A day with more events than the first is made in slices, in one of these numbers: none is under two hours."""
MOST_TURNS = 12
SHORTEST, LONGEST = 35_000_000, 540_000_000
"""Microseconds between two requests of a sitting."""
RETRY_RATE = 0.004
LONGEST_RETRY = 20_000_000
IDLE = 1e-4
"""What an idle day weighs: an account that is never awake still sends what it must."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """n events as columns [n].

    Attributes:
        account: row in `Accounts`.
        ordinal: number of the request among the account's, from 0; a retry has that of what it repeats.
        wording: number of the text among the account's: equal ones are equal texts, slots drawn anew apart.
        shape: row in the texts' shapes.
        time: microseconds since 1970.
        turn: how many earlier turns are sent again with it.
        retry: whether an event before it has the same id and content.
    """

    account: NDArray[np.int32]
    ordinal: NDArray[np.int32]
    wording: NDArray[np.int32]
    shape: NDArray[np.int32]
    time: Ints
    turn: NDArray[np.int8]
    retry: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.account)

    def rows(self, chosen: Ints | slice) -> Events:
        """Some of them, in the order chosen."""
        return Events(*(getattr(self, name)[chosen] for name in Events.__dataclass_fields__))

    @staticmethod
    def join(parts: list[Events]) -> Events:
        """All events of several, in order."""
        return Events(*(np.concatenate([getattr(p, name) for p in parts]) for name in Events.__dataclass_fields__))


class Calendar:
    """How active each account is on each day, and what extraction is made with."""

    def __init__(self, scenario: Scenario, accounts: Accounts, texts: Texts) -> None:
        self.scenario, self.accounts, self.texts = scenario, accounts, texts
        self.curves: DayCurves = day_curves()
        self._ramps = np.array([0, *(campaign.ramp_days for campaign in scenario.campaigns)])[accounts.campaign + 1]
        starts = np.array([0, *(campaign.first_day for campaign in scenario.campaigns)])[accounts.campaign + 1]
        self._ramp_start = np.where(accounts.turn_day > 0, 0, starts)
        self._rhythm = accounts.curve // 24
        self._awake = np.array([kind.active for kind in ALL_KINDS])[accounts.kind]
        self._shift = units(accounts.keys, Purpose.SHIFT)
        self._total = np.zeros(len(accounts))
        for day in range(scenario.days):
            self._total += self.weights(day)

    def weights(self, day: int) -> Floats:
        """Activity of each account on a day, [accounts]; 0 outside its life."""
        accounts = self.accounts
        days = event_keys(~accounts.key & (2**64 - 1), np.arange(len(accounts)), np.full(len(accounts), day + 1))
        awake = units(days, Purpose.ACTIVE) < self._awake
        busy = 0.3 + 1.4 * units(days, Purpose.BUSY) ** 2
        week = week_weights((self.scenario.start.weekday() + day) % 7)[self._rhythm]
        full = np.minimum(1, (day - self._ramp_start + 1) / np.maximum(self._ramps, 1))
        alive = (accounts.first_day <= day) & (day < accounts.end_day)
        return np.where(alive, np.maximum(awake * busy * week * full, IDLE), 0.0)

    def sent(self, activity: Floats) -> Ints:
        """Requests that each account has sent once it has had so much activity, [accounts]."""
        share = np.minimum(activity / self._total, 1)
        return np.floor(self.accounts.volume * share + self._shift).astype(np.int64)

    def menus_of_extraction(self, day: int) -> list[Ints]:
        """Shapes of each campaign's extraction requests on a day."""
        return [self.texts.family_shapes(campaign.families_on(day)) for campaign in self.scenario.campaigns]


def make_events(scenario: Scenario, accounts: Accounts, texts: Texts) -> Iterator[Events]:
    """Every event in the order of time, in pieces that only the scenario decides."""
    calendar = Calendar(scenario, accounts, texts)
    activity = np.zeros(len(accounts))
    for day in range(scenario.days):
        weights = calendar.weights(day)
        n_events = int((calendar.sent(activity + weights) - calendar.sent(activity)).sum())
        n_slices = next((n for n in SLICES if n * SLICE_EVENTS >= n_events), SLICES[-1])
        for number in range(n_slices):
            yield _slice_events(calendar, _Slice(day, number, n_slices), activity, weights)
        activity += weights


@dataclass(frozen=True)
class _Slice:
    """One of `parts` equal parts of a day."""

    day: int
    number: int
    parts: int

    @property
    def begin(self) -> int:
        """Microseconds into the day."""
        return self.number * DAY // self.parts

    @property
    def end(self) -> int:
        return (self.number + 1) * DAY // self.parts


def _slice_events(calendar: Calendar, part: _Slice, activity: Floats, weights: Floats) -> Events:
    accounts, curves = calendar.accounts, calendar.curves
    shares = [curves.until[accounts.curve, edge // 60_000_000] for edge in (part.begin, part.end)]
    before, after = (calendar.sent(activity + weights * share) for share in shares)
    count = after - before
    account = np.repeat(np.arange(len(accounts)), count)
    within = np.arange(len(account)) - np.repeat(np.cumsum(count) - count, count)
    ordinal = before[account] + within
    keys = accounts.event_keys(account, ordinal)
    retry = _retries(keys, within)
    first = _begins_sitting(accounts, account, ordinal, within, keys) | np.roll(retry, 1)
    time = _times(calendar, part, shares, account, keys, first)
    turn = np.where(accounts.resends[account], _places(first), 0)
    # A retry is the request before it once more, some seconds later.
    source = np.arange(len(account)) - retry
    delay = np.where(retry, 1_000_000 + below(keys, Purpose.DELAY, LONGEST_RETRY), 0)
    time = np.minimum(time[source] + delay, part.end - 1)
    wording, shape = _contents(calendar, part.day, account, ordinal)
    midnight = int(np.datetime64(calendar.scenario.start, "us").astype(np.int64)) + part.day * DAY
    order = np.argsort(time, kind="stable")
    source = source[order]
    return Events(
        account=account[order].astype(np.int32),
        ordinal=ordinal[source].astype(np.int32),
        wording=wording[source].astype(np.int32),
        shape=shape[source].astype(np.int32),
        time=midnight + time[order],
        turn=turn[source].astype(np.int8),
        retry=retry[order],
    )


def _begins_sitting(accounts: Accounts, account: Ints, ordinal: Ints, within: Ints, keys: Keys) -> NDArray[np.bool_]:
    """Which requests begin a sitting: an account's first in a slice, and others by chance."""
    chance = np.array([1 / kind.session for kind in ALL_KINDS])[accounts.kind][account]
    first: NDArray[np.bool_] = (within == 0) | (ordinal % MOST_TURNS == 0) | (units(keys, Purpose.SESSION) < chance)
    return first


def _places(first: NDArray[np.bool_]) -> Ints:
    """Place of each event in its sitting, from 0."""
    places = np.arange(len(first))
    return places - np.maximum.accumulate(np.where(first, places, 0))


def _times(
    calendar: Calendar, part: _Slice, shares: list[Floats], account: Ints, keys: Keys, first: NDArray[np.bool_]
) -> Ints:
    """Microseconds into the day: sittings begin by the account's rhythm, requests follow by minutes."""
    if not len(account):
        return np.zeros(0, np.int64)
    gaps = np.where(first, 0, SHORTEST + below(keys, Purpose.GAP, LONGEST - SHORTEST))
    upto = np.cumsum(gaps)
    begins = np.flatnonzero(first)
    sitting = np.cumsum(first) - 1
    span = upto[np.append(begins[1:], len(first)) - 1] - upto[begins]
    who = account[begins]
    low, high = (share[who] for share in shares)
    drawn = low + units(keys[begins], Purpose.START) * (high - low)
    start = calendar.curves.times(calendar.accounts.curve[who], drawn)
    start = np.clip(start, part.begin, part.end - 1 - span)
    return np.asarray(start[sitting] + upto - upto[begins][sitting])


def _retries(keys: Keys, within: Ints) -> NDArray[np.bool_]:
    """Which events are the one before them sent again, as if no answer had come: never two in a row."""
    chosen = units(keys, Purpose.RETRY) < RETRY_RATE
    return np.asarray(chosen & ~np.roll(chosen, 1) & (within > 0))


def _contents(calendar: Calendar, day: int, account: Ints, ordinal: Ints) -> NDArray[np.int64]:
    """Wording and shape of each request, [2, n]: extraction for the account's share of them, else from its menu."""
    accounts = calendar.accounts
    keys = accounts.event_keys(account, ordinal)
    extraction = (units(keys, Purpose.EXTRACTION) < accounts.share[account]) & (accounts.turn_day[account] <= day)
    wording = np.where(extraction, ordinal, wordings(accounts, account, ordinal))
    shape = ordinary_shapes(calendar.texts, accounts, account, wording)
    for number, menu in enumerate(calendar.menus_of_extraction(day)):
        rows = np.flatnonzero(extraction & (accounts.campaign[account] == number))
        shape[rows] = menu[below(keys[rows], Purpose.SHAPE, len(menu))]
    return np.stack([wording, shape])


def wordings(accounts: Accounts, account: NDArray[np.integer], ordinal: NDArray[np.integer]) -> Ints:
    """Which of its texts an account sends as its request of this number, if it is no extraction, [n]."""
    repeat, cycle = (np.array([getattr(kind, name) for kind in ALL_KINDS]) for name in ("repeat", "cycle"))
    kind = accounts.kind[account]
    wording = ordinal // repeat[kind]
    return np.asarray(np.where(cycle[kind] > 0, wording % np.maximum(cycle[kind], 1), wording))


def ordinary_shapes(
    texts: Texts, accounts: Accounts, account: NDArray[np.integer], wording: NDArray[np.integer]
) -> Ints:
    """The shape of an account's text of this number, from the account's menu, [n]."""
    menu = accounts.menu[account]
    bits = draws(accounts.event_keys(account, wording), Purpose.SHAPE)
    return np.asarray(texts.menu_shapes[texts.menu_start[menu] + scaled(bits, texts.menu_size[menu])])
