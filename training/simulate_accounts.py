"""Who is there: one row an account, with its kind, life, volume and texts. Second step of the simulator.

    scenario -> **accounts** -> events -> texts -> files

Benign accounts come first, then the members of each campaign in order. Ids are shuffled, so that they say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.simulate_draws import Keys, Purpose, below, event_keys, seed_key, units
from training.simulate_kinds import ALL_KINDS, KINDS, MEMBER, ZONES, curve_of
from training.simulate_scenario import Campaign, Scenario
from training.simulate_texts import Texts

NEW_SHARE = 0.25
"""Of benign accounts, those that sign up while the simulation runs."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Accounts:
    """All n accounts as columns [n].

    Attributes:
        key: 64 bits that stand for the seed.
        ids: names, distinct.
        keys: 64 random bits for each.
        kind: place in `ALL_KINDS`.
        campaign: place in the scenario's campaigns, -1 for benign accounts.
        curve: row of `DayCurves`.
        menu: row of the texts' menus; system: place in the texts' systems.
        first_day, end_day: life; it may send from the first up to the day before the end.
        turn_day: from which it sends extraction, if it is a member.
        volume: requests in all, at least 1.
        share: of its requests that are extraction, once it has turned.
        resends: whether its client sends earlier turns again.
    """

    key: int
    ids: pa.StringArray
    keys: Keys
    kind: Ints
    campaign: Ints
    curve: Ints
    menu: Ints
    system: Ints
    first_day: Ints
    end_day: Ints
    turn_day: Ints
    volume: Ints
    share: Floats
    resends: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    def event_keys(self, account: NDArray[np.integer], number: NDArray[np.integer]) -> Keys:
        """A key of its own for each pair of an account and a number, [n]."""
        return event_keys(self.key, account, number)


@dataclass(frozen=True)
class _Group:
    """Accounts that belong together: everybody benign, or the members of a campaign. Columns [n], as in `Accounts`."""

    kind: Ints
    first_day: Ints
    end_day: Ints
    turn_day: Ints
    volume: Ints


def make_accounts(scenario: Scenario, texts: Texts) -> Accounts:
    """Everybody of a scenario, with the texts that each has to choose from."""
    keys = _account_keys(scenario)
    groups, at = [_benign(scenario, keys[: scenario.n_benign])], scenario.n_benign
    for campaign in scenario.campaigns:
        groups.append(_members(scenario, campaign, keys[at : at + campaign.accounts]))
        at += campaign.accounts
    columns = [np.concatenate([getattr(group, name) for group in groups]) for name in _Group.__dataclass_fields__]
    kind, first_day, end_day, turn_day, volume = columns
    sizes = [scenario.n_benign, *(campaign.accounts for campaign in scenario.campaigns)]
    member = np.repeat(np.arange(-1, len(scenario.campaigns)), sizes)
    shares = np.array([0.0, *(each.share for each in scenario.campaigns)])
    menu, system = _choices(texts, kind, keys)
    return Accounts(
        key=seed_key(scenario.seed),
        ids=_names(keys),
        keys=keys,
        kind=kind,
        campaign=member,
        curve=curve_of(_of_kind("rhythm")[kind], ZONES[below(keys, Purpose.ZONE, len(ZONES))]),
        menu=menu,
        system=system,
        first_day=first_day,
        end_day=end_day,
        turn_day=turn_day,
        volume=volume,
        share=shares[member + 1],
        resends=units(keys, Purpose.CLIENT) < _of_kind("resends")[kind],
    )


def _account_keys(scenario: Scenario) -> Keys:
    places = np.arange(scenario.accounts, dtype=np.uint64)
    return event_keys(~seed_key(scenario.seed) & (2**64 - 1), places, np.zeros_like(places))


def _names(keys: Keys) -> pa.StringArray:
    """`acct_` and a number, in an order that tells nothing of the kinds."""
    numbers, width = np.argsort(keys, kind="stable"), len(str(len(keys)))
    return pa.array([f"acct_{number:0{width}d}" for number in numbers.tolist()])


def _of_kind(name: str) -> NDArray[np.float64]:
    """A field of every kind, [kinds]."""
    return np.array([getattr(kind, name) for kind in ALL_KINDS], np.float64)


def _benign(scenario: Scenario, keys: Keys) -> _Group:
    kind = _kinds(keys)
    joined = units(keys, Purpose.FIRST_DAY)
    first_day = np.where(joined < NEW_SHARE, joined / NEW_SHARE * scenario.days, 0).astype(np.int64)
    days = np.full(len(keys), scenario.days)
    return _Group(
        kind, first_day, days, days, _volumes(keys, kind, scenario.benign_exchanges, scenario.days - first_day)
    )


def _kinds(keys: Keys) -> Ints:
    """Kinds in their shares, each at least once where there are accounts enough, in random order."""
    counts = _split(len(keys), np.array([kind.share for kind in KINDS]))
    if len(keys) >= 4 * len(KINDS):
        missing = counts == 0
        counts[missing] = 1
        counts[0] -= missing.sum()
    kind = np.empty(len(keys), np.int64)
    kind[np.argsort(units(keys, Purpose.KIND), kind="stable")] = np.repeat(np.arange(len(KINDS)), counts)
    return kind


def _members(scenario: Scenario, campaign: Campaign, keys: Keys) -> _Group:
    """Those that turn late first, then those that take turns."""
    end, turning = campaign.end(scenario.days), campaign.n_turning
    kind = np.full(len(keys), ALL_KINDS.index(MEMBER))
    first_day, end_day, turn_day = np.zeros(len(keys), np.int64), np.full(len(keys), end), np.zeros(len(keys), np.int64)
    turn_day[:turning] = campaign.turn_day if campaign.turn_day is not None else 0
    first_day[turning:], end_day[turning:] = _turns(campaign, keys[turning:], end)
    exchanges = scenario.campaign_exchanges(campaign)
    return _Group(kind, first_day, end_day, turn_day, _volumes(keys, kind, exchanges, end_day - first_day))


def _turns(campaign: Campaign, keys: Keys, end: int) -> NDArray[np.int64]:
    """First day and end of accounts that replace one another, [2, n]: on each day `live` of them are there.

    Account i has slot i % live and is its (i // live)-th holder. A slot's days are cut evenly, slots out of step.
    """
    n, days = len(keys), end - campaign.first_day
    live = campaign.live if campaign.live is not None else n
    slot, turn = np.arange(n) % max(live, 1), np.arange(n) // max(live, 1)
    holders = np.bincount(slot, minlength=live)[slot]
    phase = units(keys[slot], Purpose.PHASE) if n else np.zeros(0)

    def cut(number: Ints) -> Ints:
        """Day on which a slot's holder with this number begins: an account lives a day at least."""
        length = (days - holders) / holders
        places = np.floor((number - np.where(number < holders, phase, 0)) * length).astype(np.int64)
        return np.asarray(np.where(number == 0, 0, places + number))

    return campaign.first_day + np.stack([cut(turn), cut(turn + 1)])


def _volumes(keys: Keys, kind: Ints, total: int, life: Ints) -> Ints:
    """Requests of each account, at least one, `total` in all: log-normal by kind, in proportion to life."""
    spread, mean = _of_kind("spread")[kind], _of_kind("volume")[kind]
    normal = _normal(keys)
    weights = mean * np.exp(spread * normal - spread**2 / 2) * life
    return 1 + _split(total - len(keys), weights)


def _normal(keys: Keys) -> Floats:
    """Standard normal by Box and Muller (1958), [n]."""
    radius = np.sqrt(-2 * np.log1p(-units(keys, Purpose.VOLUME)))
    normal: Floats = radius * np.cos(2 * np.pi * units(keys, Purpose.NORMAL))
    return normal


def _split(total: int, weights: Floats) -> Ints:
    """`total` in whole numbers in proportion to weights, [n], rounded so that the sum is exact."""
    if not len(weights):
        return np.zeros(0, np.int64)
    upto = np.cumsum(weights)
    marks = np.rint(upto / upto[-1] * total).astype(np.int64)
    parts: Ints = np.diff(marks, prepend=0)
    return parts


def _choices(texts: Texts, kind: Ints, keys: Keys) -> NDArray[np.int64]:
    """Menu and system text of each account, [2, n]."""
    pools = [texts.pools[kind.pool] for kind in ALL_KINDS]
    start, size = (np.array([pool[part] for pool in pools])[kind] for part in (0, 1))
    menu = start + below(keys, Purpose.MENU, size)
    system = texts.menu_systems[menu, 0] + below(keys, Purpose.SYSTEM, texts.menu_systems[menu, 1])
    return np.stack([menu, system])
