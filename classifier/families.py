"""Families: the evidence that a known template family is at work across accounts.

Beneath `campaigns`. Prompts that share a scaffold are one observation of the classifier, so here the unit is the
account: each day, of n accounts active so far h have a verified match of the family, which is bet on as an account's
matches are (`eprocess`).

Null: whatever happened before, and whatever those who became active earlier that day do in all of it, an account that
becomes active matches the family that day with a chance of at most q. Then a product over accounts, taken in the order
in which they become active, has a mean of at most 1 wherever it is begun and stopped, and counting an account as a miss
until it matches can only lower it. So what starts on a day is staked half on all of the day's accounts and half,
evenly, on those that become active from each of its PARTS on: the many that were active before a campaign began would
outweigh it until midnight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.eprocess import (
    Bools,
    Factors,
    Floats,
    Ints,
    changes,
    log_capital,
    make_calendar,
    match_factors,
    record_rows,
    running,
)
from classifier.errors import UsageError
from classifier.types import Channel
from classifier.units import DAY_US, microseconds, string_ranks
from classifier.verdicts import Times, by_step_up, flag_scale, flag_times

FAMILY_RATE = 1e-4
"""q: an honest account's chance to match a given exclusive family on a given day is at most this, as certified."""
FAMILY_BETS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.8)
"""Shares of the wealth staked; the best one is about the campaign's share of the active accounts."""
PARTS = 48
"""Half-hours of a day, at the beginning of each of which a bet on a family may start."""
PART_US = DAY_US // PARTS
MOST_LOOKS = 256
"""First matches of a day at which a family's evidence is looked at; then again when the day ends, with all of them.
Whoever matches more often in a day is known by then, and where one looks is fixed beforehand, so nothing is gained."""


@dataclass(frozen=True)
class FamilyEvidence:
    """The F families with a verified match, sorted; every field is [F]. `flagged_at`: datetime64[us], NaT if not."""

    families: Sequence[str]
    log_max_e: Floats
    flagged: Bools
    flagged_at: Times


@dataclass(frozen=True)
class Matches:
    """Verified matches of exclusive families, one row a unit: indices of account and family, us, target bits, and when
    the account became active that day. `accounts` and `families` are sorted."""

    accounts: Sequence[str]
    families: Sequence[str]
    account: Ints
    family: Ints
    us: Ints
    y: NDArray[np.uint8]
    began: Ints

    def where(self, rows: Bools | Ints) -> Matches:
        columns = (getattr(self, name)[rows] for name in _MATCH_COLUMNS)
        return Matches(self.accounts, self.families, *columns)


_MATCH_COLUMNS = ("account", "family", "us", "y", "began")


@dataclass(frozen=True)
class Sightings:
    """What families are judged by: the verified matches of some accounts, and when they all, of any conduct, became
    active on each of their days (us since 1970, sorted)."""

    matches: Matches
    active: Ints


@dataclass(frozen=True)
class FamilyRows:
    """When families are judged, in order of family, then time: at an account's first match of a day (`is_hit`), where
    `began` says when the account became active that day, and at the end of every day; us since 1970."""

    family: Ints
    us: Ints
    is_hit: Bools
    began: Ints


def family_evidence(sightings: Sightings, n_families: int, rate: float = FAMILY_RATE) -> FamilyEvidence:
    """Judge the families that were seen, by the rule that flags accounts.

    `n_families`: exclusive families in the index, fixed beforehand. s counts from the first day with any unit. Raises
    UsageError if more families match than that.
    """
    matches, active = sightings.matches, sightings.active
    n_matched = len(matches.families)
    if n_families < n_matched:
        raise UsageError(
            f"The index must hold at least the {n_matched} exclusive families that units match, got {n_families}: "
            "count those of the bundle and catalogue that labelled."
        )
    rows = _family_rows(matches, active)
    log_e = log_family_capital(rows, active, rate)
    log_max = np.full(n_matched, -np.inf)
    np.maximum.at(log_max, rows.family, log_e)
    n_flagged, scale = by_step_up(log_max, n_families), flag_scale(n_families)
    up = record_rows(rows.family, log_e)
    times = flag_times(rows.family[up], rows.us[up], log_e[up], n_matched, n_flagged, scale)
    return FamilyEvidence(matches.families, log_max, ~np.isnat(times), times)


def sightings_of(units: pa.Table) -> Sightings:
    """What merged units, all of some accounts, say of families."""
    active = _activity(units)
    verified = units.filter(
        (pc.field("channel") == Channel.SIGNATURE) & (pc.field("y") > 0) & pc.field("family").is_valid()
    )
    us = microseconds(verified["timestamp"])
    matches = Matches(
        accounts=sorted(pc.unique(verified["account_id"]).to_pylist()),
        families=sorted(pc.unique(verified["family"]).to_pylist()),
        account=string_ranks(verified["account_id"]),
        family=string_ranks(verified["family"]),
        us=us,
        y=verified["y"].to_numpy(),
        began=_began_of(verified["account_id"], us, active),
    )
    return Sightings(matches, np.sort(active.us))


def join_sightings(parts: Sequence[Sightings]) -> Sightings:
    """Sightings of disjoint sets of accounts, given in order of account, as one."""
    matches = [part.matches for part in parts]
    families = sorted({name for part in matches for name in part.families})
    offsets = np.cumsum([0, *(len(part.accounts) for part in matches)])
    rank = {name: i for i, name in enumerate(families)}
    columns = {
        "account": [part.account + offset for part, offset in zip(matches, offsets, strict=False)],
        "family": [np.array([rank[name] for name in part.families], np.int64)[part.family] for part in matches],
        **{name: [getattr(part, name) for part in matches] for name in ("us", "y", "began")},
    }
    accounts = [name for part in matches for name in part.accounts]
    joined = (np.concatenate(columns[name]) for name in _MATCH_COLUMNS)
    return Sightings(Matches(accounts, families, *joined), np.sort(np.concatenate([part.active for part in parts])))


def log_family_capital(rows: FamilyRows, began: Ints, rate: float) -> Floats:
    """log E of a family at each row, -inf where it is not looked at. `began`: when every account, of any conduct,
    became active on each of its days, sorted."""
    day = rows.us // DAY_US
    starts = changes(rows.family, day)
    looks = np.flatnonzero(~rows.is_hit | (running(rows.is_hit.astype(np.int64), starts) <= MOST_LOOKS))
    until = np.searchsorted(began, rows.us[looks], side="right")

    def factors_since(part: int) -> Factors:
        since = day * DAY_US + part * PART_US
        active = until - np.searchsorted(began, since[looks])
        hits = running((rows.is_hit & (rows.began >= since)).astype(np.int64), starts)[looks]
        return match_factors(np.maximum(active, 0), hits[:, None], rate, FAMILY_BETS)

    whole = factors_since(0)
    everything = np.arange(len(looks))
    by_part = np.full((len(looks), 1, len(FAMILY_BETS)), -np.inf)
    for part in range(PARTS):
        by_part = np.logaddexp(by_part, factors_since(part)(everything))
    opening = np.logaddexp(whole(everything), by_part - np.log(PARTS)) - np.log(2)
    log_e = np.full(len(day), -np.inf)
    calendar = make_calendar(rows.family[looks], day[looks])
    log_e[looks] = log_capital(calendar, whole, lambda chosen: np.asarray(opening[chosen]))[:, 0]
    return log_e


@dataclass(frozen=True)
class _Activity:
    """When each account became active on each of its days, in order of account, then day."""

    accounts: pa.Array
    account: Ints
    us: Ints


def _activity(units: pa.Table) -> _Activity:
    active = units.filter(pc.field("channel") == Channel.SIGNATURE)
    account, us = string_ranks(active["account_id"]), microseconds(active["timestamp"])
    order = np.lexsort((us, account))
    account, us = account[order], us[order]
    first = changes(account, us // DAY_US)
    return _Activity(pc.unique(active["account_id"]).sort(), account[first], us[first])


def _family_rows(matches: Matches, active: Ints) -> FamilyRows:
    """Each account's first match of a day, and the end of every day with activity."""
    hits, n_families = _first_matches(matches), len(matches.families)
    ends = (np.unique(active // DAY_US) + 1) * DAY_US - 1
    family = np.concatenate([hits.family, np.repeat(np.arange(n_families), len(ends))])
    us, began = (np.concatenate([of_hits, np.tile(ends, n_families)]) for of_hits in (hits.us, hits.began))
    is_hit = np.arange(len(us)) < len(hits.us)
    order = np.lexsort((~is_hit, us, family))
    return FamilyRows(family[order], us[order], is_hit[order], began[order])


def _began_of(accounts: pa.ChunkedArray, us: Ints, active: _Activity) -> Ints:
    """When the account of each match became active on the day of it."""
    place = pc.index_in(accounts, active.accounts).to_numpy().astype(np.int64)
    day, first_day = us // DAY_US, active.us.min(initial=0) // DAY_US
    width = int(active.us.max(initial=0) // DAY_US - first_day) + 1
    known = active.account * width + active.us // DAY_US - first_day
    return np.asarray(active.us[np.searchsorted(known, place * width + day - first_day)])


def _first_matches(matches: Matches) -> Matches:
    """Each account's first match of each family on each day."""
    order = np.lexsort((matches.us, matches.account, matches.family))
    ordered = matches.where(order)
    return ordered.where(changes(ordered.family, ordered.account, ordered.us // DAY_US))
