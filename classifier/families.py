"""Families: the evidence that a known template family is at work across accounts.

Beneath `campaigns`. Prompts that share a scaffold are one observation of the classifier, so here the unit is the
account: each day, of n accounts active so far h have a verified match of the family, which is bet on as an account's
matches are (`eprocess`). Null: whatever has happened, an account matches it that day with a chance of at most q.
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
class _FamilyRows:
    """log E of families over time, in order of both."""

    family: Ints
    us: Ints
    log_e: Floats


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
    rows = _family_process(units, matches, rate)
    log_max = np.full(n_matched, -np.inf)
    np.maximum.at(log_max, rows.family, rows.log_e)
    n_flagged, scale = by_step_up(log_max, n_families), flag_scale(n_families)
    up = record_rows(rows.family, rows.log_e)
    times = flag_times(rows.family[up], rows.us[up], rows.log_e[up], n_matched, n_flagged, scale)
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


def _family_process(units: pa.Table, matches: Matches, rate: float) -> _FamilyRows:
    """log E of every family after each account's first match of a day, and at the end of every day with units."""
    active = units.filter(pc.field("channel") == Channel.SIGNATURE)
    began = _firsts(string_ranks(active["account_id"]), microseconds(active["timestamp"]))
    days, first = np.unique(began // DAY_US, return_index=True)
    hits = _first_matches(matches)
    family = np.concatenate([hits.family, np.repeat(np.arange(len(matches.families)), len(days))])
    us = np.concatenate([hits.us, np.tile((days + 1) * DAY_US - 1, len(matches.families))])
    is_hit = np.arange(len(us)) < len(hits.us)
    order = np.lexsort((~is_hit, us, family))
    family, us, is_hit = family[order], us[order], is_hit[order]
    opened = first[np.searchsorted(days, us // DAY_US)] if len(us) else us
    n = np.searchsorted(began, us, side="right") - opened
    h = running(is_hit.astype(np.int64), changes(family, us // DAY_US))
    log_e = log_capital(make_calendar(family, us // DAY_US), match_factors(n, h[:, None], rate))[:, 0]
    return _FamilyRows(family, us, log_e)


def _firsts(account: Ints, us: Ints) -> Ints:
    """Times of each account's first row of each day, sorted."""
    order = np.lexsort((us, account))
    account, us = account[order], us[order]
    return np.sort(us[changes(account, us // DAY_US)])


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
