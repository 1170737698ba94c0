"""Evidence: what an account's distinct observations say against the null. Pure maths on columns.

    labels, units -> **evidence** -> verdicts -> campaigns

Units (UNIT_SCHEMA) merge by set union; all else depends on the merged set alone, never on order, split or retries.

    e_c = E1_c * min(1/2 + E2_c/2, CAP)      e = mean over c of e_c      M = running maximum of e by event time

E1 is the e-process (`eprocess`) of verified matches, the signature channel; E2 that of the extraction intent of what no
signature matched, the intent channel. Their product is one too, since intent bets only on units that are no match; of
two channels that bet on the same units it would not be. Under the null of DESIGN.md section 6, P(M >= 1/a) <= a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.eprocess import (
    Bools,
    Floats,
    Ints,
    changes,
    level_factors,
    log_capital,
    log_sum,
    make_calendar,
    match_factors,
    record_rows,
    running,
)
from classifier.errors import BundleError
from classifier.types import COUNT_SCHEMA, LEVELS, TARGETS, Channel
from classifier.units import DAY_US, EVENT_ORDER, in_event_order, microseconds, starts_of

CAP = 100
"""Most that intent may multiply an account's evidence by: with it, intent alone cannot reach a flag."""
BLOCK_UNITS = 200_000
"""Units replayed at once, give or take an account: bounds memory, changes nothing else."""
MOST_UNITS = 10_000
"""Where `minimum_units` stops looking."""


@dataclass(frozen=True)
class Baselines:
    """The null: a unit matches with a chance of at most `m1`, and its mean intent for c is at most `m2[c]`."""

    m1: float
    m2: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.m2) != len(TARGETS) or not all(0 < m < 1 for m in (self.m1, *self.m2)):
            raise BundleError(
                f"Baselines must be m1 and {len(TARGETS)} values of m2, each above 0 and below 1, got m1={self.m1} and "
                f"m2={self.m2}: calibrate the bundle again."
            )


@dataclass(frozen=True)
class Evidence:
    """What is held against A accounts, in any order; natural logs.

    `log_e*` are current values, `log_max_e*` maxima over the events replayed; `*_target` are [A, 4], a column a target.
    `log_review*` is the current e with public matches counted as matches and intent uncapped, so at least `log_e`. It
    is for review only and carries no guarantee: m1 is not certified for public families. `log_basis` [A, 3] is the mean
    over targets of what the signature channel, the same with public matches, and the intent channel say alone.
    """

    n_units: Ints
    log_e: Floats
    log_max_e: Floats
    log_e_target: Floats
    log_max_e_target: Floats
    log_review: Floats
    log_review_target: Floats
    log_basis: Floats


@dataclass(frozen=True)
class Replay(Evidence):
    """What A accounts' units say, sorted by account.

    `record_*`: whenever an account's e exceeded all before, in (account, time) order: index of the account, us since
    1970, new M; only those of at least the `least_record` that was asked for.
    """

    account_ids: pa.Array
    record_account: Ints
    record_us: Ints
    record_log_e: Floats


def count_days(units: pa.Table) -> pa.Table:
    """Integer counts of merged units per account and event-time UTC day (COUNT_SCHEMA), sorted by both."""
    units = in_event_order(units)
    account, day = _account_indices(units), microseconds(units["timestamp"]) // DAY_US
    starts = changes(account, day)
    tally = _tally(units, np.cumsum(starts) - 1, int(starts.sum()))
    columns = [
        units["account_id"].filter(pa.array(starts)).combine_chunks(),
        pa.array(day[starts], pa.int32()),
        pa.array(tally.n1),
        pa.array(tally.matched),
        pa.FixedSizeListArray.from_arrays(pa.array(tally.hits.ravel()), len(TARGETS)),
        pa.array(tally.n2),
        pa.FixedSizeListArray.from_arrays(pa.array(tally.hist.ravel()), len(TARGETS) * (LEVELS + 1)),
    ]
    return pa.Table.from_arrays(columns, schema=COUNT_SCHEMA)


def replay(units: pa.Table, baselines: Baselines, least_record: float = -math.inf) -> Replay:
    """Run the e-process over merged units (rows in any order) by event time; the units of one event count at once."""
    units = in_event_order(units)
    first_rows = np.flatnonzero(starts_of(units, ("account_id",)))
    multiples = np.arange(0, units.num_rows, BLOCK_UNITS)
    bounds = [*np.unique(first_rows[np.searchsorted(first_rows, multiples, side="right") - 1]), units.num_rows]
    blocks = pairwise(bounds) if units.num_rows else [(0, 0)]
    return concatenate(
        [_replay_block(units.slice(a, b - a).combine_chunks(), baselines, least_record) for a, b in blocks]
    )


def concatenate(replays: Sequence[Replay]) -> Replay:
    """One replay of disjoint sets of accounts, given in order of account: evidence can be replayed shard by shard."""
    sizes = [len(part.account_ids) for part in replays]
    offsets = np.cumsum([0, *sizes[:-1]])
    joined = {
        name: np.concatenate([getattr(part, name) for part in replays])
        for name in (field.name for field in fields(Replay))
        if name not in ("account_ids", "record_account")
    }
    return Replay(
        account_ids=pa.concat_arrays([part.account_ids for part in replays]),
        record_account=np.concatenate([part.record_account + by for part, by in zip(replays, offsets, strict=True)]),
        **joined,
    )


def log_e_from_counts(counts: pa.Table, baselines: Baselines) -> Floats:
    """Current log e [A], sorted by account, from COUNT_SCHEMA rows, one an account and day: equals
    `replay(...).log_e`."""
    counts = counts.sort_by([("account_id", "ascending"), ("day", "ascending")])
    calendar = make_calendar(_account_indices(counts), counts["day"].to_numpy().astype(np.int64))
    hits = _lists(counts["hits"], len(TARGETS))
    hist = _lists(counts["hist"], len(TARGETS) * (LEVELS + 1)).reshape(-1, len(TARGETS), LEVELS + 1)
    signature = log_capital(calendar, match_factors(counts["n1"].to_numpy(), hits, baselines.m1))
    intent = log_capital(calendar, level_factors(hist, baselines.m2))
    return mean_over_targets(join_channels(signature, intent))[calendar.last_rows]


def minimum_units(log_threshold: float, m1: float, share: float = 0.5) -> int:
    """Units on a first day by which half of the accounts with this share of matches, all of one target, reach the
    threshold.

    The median of Binomial(n, share) is taken as floor((n + 1) share), exact at 1/2. MOST_UNITS + 1 if they do not reach
    it.
    """
    reached = _first_day(m1, share) >= log_threshold
    return int(reached.argmax()) + 1 if reached.any() else MOST_UNITS + 1


@lru_cache(16)
def _first_day(m1: float, share: float) -> Floats:
    """log e [MOST_UNITS] after 1, 2, ... units of a first day, as `minimum_units` has it. A service asks for every
    publication, and it takes a thousand times as long as to search it."""
    n = np.arange(1, MOST_UNITS + 1)
    hits = np.zeros((len(n), len(TARGETS)), np.int64)
    hits[:, 0] = np.floor((n + 1) * share)
    calendar = make_calendar(n - 1, np.zeros_like(n))
    log_e = mean_over_targets(log_capital(calendar, match_factors(n, hits, m1)))
    log_e.flags.writeable = False
    return log_e


def join_channels(signature: Floats, intent: Floats) -> Floats:
    """log e_c from log E1_c and log E2_c, of any shape."""
    return np.asarray(signature + np.minimum(hedged(intent), np.log(CAP)))


def hedged(intent: Floats) -> Floats:
    """log(1/2 + E2/2): half of the wealth never bets on intent."""
    return np.asarray(np.logaddexp(0, intent) - np.log(2))


def mean_over_targets(log_targets: Floats) -> Floats:
    """log e from log e_c, the targets on the last axis."""
    return np.asarray(log_sum(log_targets) - np.log(len(TARGETS)))


# --- from units to rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tally:
    """Counts of g groups of units; `hits_any` counts public matches too."""

    n1: Ints  # [g]
    matched: Ints  # [g]
    hits: Ints  # [g, 4]
    hits_any: Ints  # [g, 4]
    n2: Ints  # [g]
    hist: Ints  # [g, 4, 8]

    def within(self, starts: Bools) -> _Tally:
        """Running totals over groups, begun anew where `starts`."""
        return _Tally(**{name: running(getattr(self, name), starts) for name in (field.name for field in fields(self))})


def _tally(units: pa.Table, group: Ints, n: int) -> _Tally:
    """Count units by group [rows] in 0..n-1."""
    signature = units["channel"].to_numpy() == Channel.SIGNATURE
    own, theirs = group[signature], group[~signature]
    y, y_public, matched = (units[name].to_numpy()[signature] for name in ("y", "y_public", "matched"))

    def bits(values: Ints) -> Ints:
        return np.stack([np.bincount(own[(values >> c & 1) == 1], minlength=n) for c in range(len(TARGETS))], axis=1)

    def levels(name: str) -> Ints:
        cells = theirs * (LEVELS + 1) + units[name].to_numpy()[~signature]
        return np.bincount(cells, minlength=n * (LEVELS + 1)).reshape(n, LEVELS + 1)

    return _Tally(
        n1=np.bincount(own, minlength=n),
        matched=np.bincount(own[matched > 0], minlength=n),
        hits=bits(y),
        hits_any=bits(y | y_public),
        n2=np.bincount(theirs, minlength=n),
        hist=np.stack([levels(f"level_{target}") for target in TARGETS], axis=1),
    )


def _replay_block(units: pa.Table, baselines: Baselines, least_record: float) -> Replay:
    """`replay` of whole accounts whose rows are in event order."""
    row_account, row_us = _account_indices(units), microseconds(units["timestamp"])
    starts = starts_of(units, EVENT_ORDER)
    account, us = row_account[starts], row_us[starts]
    day = us // DAY_US
    tally = _tally(units, np.cumsum(starts) - 1, len(account)).within(changes(account, day))
    calendar = make_calendar(account, day)
    last, first = calendar.last_rows, np.flatnonzero(changes(account))
    signature = _match_capital(account, day, tally.n1, tally.hits, baselines.m1)
    public = signature.copy()
    also = _of_any(account, np.any(tally.hits_any != tally.hits, axis=1))
    public[also] = _match_capital(account[also], day[also], tally.n1[also], tally.hits_any[also], baselines.m1)
    intent = log_capital(calendar, level_factors(tally.hist, baselines.m2))
    log_e_target = join_channels(signature, intent)
    log_e, log_review_target = mean_over_targets(log_e_target), public[last] + hedged(intent[last])
    records = record_rows(account, log_e)
    records = records[log_e[records] >= least_record]
    signature_rows = units["channel"].to_numpy() == Channel.SIGNATURE
    return Replay(
        account_ids=pc.unique(units["account_id"]).cast(pa.string()),
        n_units=np.bincount(row_account[signature_rows], minlength=len(last)),
        log_e=log_e[last],
        log_max_e=np.maximum.reduceat(log_e, first) if len(first) else log_e,
        log_e_target=log_e_target[last],
        log_max_e_target=np.maximum.reduceat(log_e_target, first) if len(first) else log_e_target,
        log_review=mean_over_targets(log_review_target),
        log_review_target=log_review_target,
        log_basis=np.stack(
            [
                mean_over_targets(signature[last]),
                mean_over_targets(public[last]),
                mean_over_targets(hedged(intent[last])),
            ],
            axis=1,
        ),
        record_account=account[records],
        record_us=us[records],
        record_log_e=log_e[records],
    )


def _match_capital(account: Ints, day: Ints, n: Ints, hits: Ints, rate: float) -> Floats:
    """log E [rows, 4] of the signature channel. An account without a match, as nearly all are, has one for all
    targets."""
    log_e, matched = np.empty(hits.shape), _of_any(account, np.any(hits, axis=1))
    for rows, targets in ((matched, len(TARGETS)), (~matched, 1)):
        calendar = make_calendar(account[rows], day[rows])
        log_e[rows] = log_capital(calendar, match_factors(n[rows], hits[rows, :targets], rate))
    return log_e


def _of_any(account: Ints, holds: Bools) -> Bools:
    """Rows of the accounts (0, 1, ...) of which some row holds."""
    return np.asarray(np.bincount(account, holds) > 0)[account]


def _account_indices(table: pa.Table) -> Ints:
    """Index of each row's account among the table's, which is sorted by account."""
    return np.cumsum(starts_of(table, ("account_id",))) - 1


def _lists(column: pa.ChunkedArray, width: int) -> Ints:
    return np.asarray(column.combine_chunks().flatten().to_numpy()).reshape(-1, width)
