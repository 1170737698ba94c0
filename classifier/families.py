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
from classifier.evidence import DAY_US, microseconds
from classifier.types import Channel
from classifier.verdicts import Times, by_step_up, flag_scale, flag_times

FAMILY_RATE = 1e-4
"""q: an honest account's chance to match a given exclusive family on a given day is at most this, as certified."""
FAMILY_BETS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.8)
"""Shares of the wealth staked; the best one is about the campaign's share of the active accounts."""
PARTS = 48
"""Half-hours of a day, at the beginning of each of which a bet on a family may start."""
PART_US = DAY_US // PARTS


@dataclass(frozen=True)
class FamilyEvidence:
    """The F families with a verified match, sorted; every field is [F]. `flagged_at`: datetime64[us], NaT if not."""

    families: Sequence[str]
    log_max_e: Floats
    flagged: Bools
    flagged_at: Times


@dataclass(frozen=True)
class Matches:
    """Verified matches of exclusive families, one row a unit: indices of account and family, us, and target bits."""

    accounts: Sequence[str]
    families: Sequence[str]
    account: Ints
    family: Ints
    us: Ints
    y: NDArray[np.uint8]

    def where(self, rows: Bools | Ints) -> Matches:
        return Matches(self.accounts, self.families, self.account[rows], self.family[rows], self.us[rows], self.y[rows])


@dataclass(frozen=True)
class FamilyRows:
    """When families are judged, in order of family, then time: at an account's first match of a day (`is_hit`), where
    `began` says when the account became active that day, and at the end of every day; us since 1970."""

    family: Ints
    us: Ints
    is_hit: Bools
    began: Ints


def family_evidence(units: pa.Table, n_families: int, rate: float = FAMILY_RATE) -> FamilyEvidence:
    """Judge the families that merged units match, by the rule that flags accounts.

    `n_families`: exclusive families in the index, fixed beforehand. s counts from the first day with any unit. Raises
    UsageError if more families match than that.
    """
    matches = verified_matches(units)
    n_matched = len(matches.families)
    if n_families < n_matched:
        raise UsageError(
            f"The index must hold at least the {n_matched} exclusive families that units match, got {n_families}: "
            "count those of the bundle and catalogue that labelled."
        )
    began = _activity(units)
    rows = _family_rows(matches, began)
    log_e = log_family_capital(rows, np.sort(began.us), rate)
    log_max = np.full(n_matched, -np.inf)
    np.maximum.at(log_max, rows.family, log_e)
    n_flagged, scale = by_step_up(log_max, n_families), flag_scale(n_families)
    up = record_rows(rows.family, log_e)
    times = flag_times(rows.family[up], rows.us[up], log_e[up], n_matched, n_flagged, scale)
    return FamilyEvidence(matches.families, log_max, ~np.isnat(times), times)


def verified_matches(units: pa.Table) -> Matches:
    """The verified matches among units; `accounts` and `families` are sorted."""
    verified = units.filter(
        (pc.field("channel") == Channel.SIGNATURE) & (pc.field("y") > 0) & pc.field("family").is_valid()
    )
    return Matches(
        accounts=sorted(pc.unique(verified["account_id"]).to_pylist()),
        families=sorted(pc.unique(verified["family"]).to_pylist()),
        account=string_ranks(verified["account_id"]),
        family=string_ranks(verified["family"]),
        us=microseconds(verified["timestamp"]),
        y=verified["y"].to_numpy(),
    )


def log_family_capital(rows: FamilyRows, began: Ints, rate: float) -> Floats:
    """log E of a family at each row. `began`: when every account, of any conduct, became active on each of its days,
    sorted."""
    day = rows.us // DAY_US
    starts = changes(rows.family, day)

    def factors_since(part: int) -> Factors:
        since = day * DAY_US + part * PART_US
        active = np.searchsorted(began, rows.us, side="right") - np.searchsorted(began, since)
        hits = running((rows.is_hit & (rows.began >= since)).astype(np.int64), starts)
        return match_factors(np.maximum(active, 0), hits[:, None], rate, FAMILY_BETS)

    whole = factors_since(0)
    everything = np.arange(len(day))
    by_part = np.full((len(day), 1, len(FAMILY_BETS)), -np.inf)
    for part in range(PARTS):
        by_part = np.logaddexp(by_part, factors_since(part)(everything))
    opening = np.logaddexp(whole(everything), by_part - np.log(PARTS)) - np.log(2)
    return log_capital(make_calendar(rows.family, day), whole, lambda chosen: np.asarray(opening[chosen]))[:, 0]


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


def _family_rows(matches: Matches, began: _Activity) -> FamilyRows:
    """Each account's first match of a day, and the end of every day with activity."""
    hits, n_families = _first_matches(matches), len(matches.families)
    days = np.unique(began.us // DAY_US)
    family = np.concatenate([hits.family, np.repeat(np.arange(n_families), len(days))])
    us = np.concatenate([hits.us, np.tile((days + 1) * DAY_US - 1, n_families)])
    of_hit = _began_of(hits, began)
    is_hit = np.arange(len(us)) < len(hits.us)
    order = np.lexsort((~is_hit, us, family))
    return FamilyRows(family[order], us[order], is_hit[order], np.append(of_hit, us[len(of_hit) :])[order])


def _began_of(hits: Matches, began: _Activity) -> Ints:
    """When the account of each hit became active that day."""
    place = pc.index_in(pa.array(hits.accounts, pa.string()), began.accounts).to_numpy().astype(np.int64)
    day, first_day = hits.us // DAY_US, began.us.min(initial=0) // DAY_US
    width = int(began.us.max(initial=0) // DAY_US - first_day) + 1
    known = began.account * width + began.us // DAY_US - first_day
    return np.asarray(began.us[np.searchsorted(known, place[hits.account] * width + day - first_day)])


def _first_matches(matches: Matches) -> Matches:
    """Each account's first match of each family on each day."""
    order = np.lexsort((matches.us, matches.account, matches.family))
    ordered = matches.where(order)
    return ordered.where(changes(ordered.family, ordered.account, ordered.us // DAY_US))


def string_ranks(column: pa.ChunkedArray) -> Ints:
    """Rank of each row's string among the distinct ones, sorted."""
    encoded = column.combine_chunks().dictionary_encode()
    rank = np.argsort(pc.sort_indices(encoded.dictionary).to_numpy())
    return np.asarray(rank[encoded.indices.to_numpy()], np.int64)
