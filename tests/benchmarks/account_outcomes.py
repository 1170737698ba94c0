"""What the product says of worlds: the kernel's own functions on each, and what came of it.

    worlds -> merge_units, replay, decide, group_accounts -> **outcomes** -> table

A world's benign accounts are replayed once; since accounts are replayed apart, they meet the bad ones of every cell as
shards of one run do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.campaigns import group_accounts
from classifier.evidence import Replay, concatenate, replay
from classifier.families import join_sightings, sightings_of
from classifier.types import TARGETS, Decision
from classifier.units import merge_units
from classifier.verdicts import Verdicts, decide, flag_scale
from tests.benchmarks.account_pool import UNKNOWN, Pool
from tests.benchmarks.account_worlds import Traffic

BENIGN, BAD = "b", "x"
REGISTERED = 250_000  # of a provider, for the threshold of a lone account
MAJORITY = 2 / 3
LEAST_KNOWN = 1 / 3

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Played:
    """Accounts with their merged units and what these amount to, in the order of the traffic's accounts."""

    traffic: Traffic
    units: pa.Table
    replayed: Replay


@dataclass(frozen=True)
class Outcome:
    """Of one world with the bad accounts of one cell; `bad_*` are [bad accounts].

    Attributes:
        false_share: the largest share of benign accounts among the flagged at any time.
        false_accounts: benign accounts flagged; `false_kinds`, `review_kinds`: kinds of those flagged, reviewed.
        unmatched: flagged accounts without a verified match.
        bad_lone: whether it would be flagged if no other were, among as many accounts, and among REGISTERED.
        prompts: until an account's flag, of those flagged.
        truth, named: index into TARGETS, UNKNOWN where the truth is mixed or not known, or nothing is named.
    """

    n_benign: int
    false_share: float
    false_accounts: Ints
    false_kinds: tuple[str, ...]
    review_kinds: tuple[str, ...]
    unmatched: int
    bad_flagged: Bools
    bad_reviewed: Bools
    bad_lone: Bools
    bad_lone_registered: Bools
    prompts: Ints
    truth: Ints
    named: Ints

    @property
    def n_flagged(self) -> int:
        return int(self.bad_flagged.sum()) + len(self.false_kinds)


@dataclass(frozen=True)
class Pairs:
    """Pairs of accounts: of one campaign in truth, put into one, and both. A benign account is in no true pair."""

    true: int
    found: int
    right: int


def play(pool: Pool, traffic: Traffic, prefix: str) -> Played:
    units = merge_units([traffic.units(pool, prefix)])
    return Played(traffic, units, replay(units, pool.baselines))


def judge(pool: Pool, benign: Played, bad: Played | None) -> Outcome:
    """Decide on a world; population: the accounts that there are."""
    sides = [benign] if bad is None else [benign, bad]
    replayed = concatenate([side.replayed for side in sides])
    n_benign, population = benign.traffic.n_accounts, len(replayed.account_ids)
    verdicts = decide(replayed, population, pool.baselines)
    reviewed = np.array([decision is Decision.REVIEW for decision in verdicts.decision])
    kinds = np.array(benign.traffic.kind)
    log_m = replayed.log_max_e[n_benign:]
    traffic = bad.traffic if bad is not None else None
    return Outcome(
        n_benign=n_benign,
        false_share=largest_false_share(verdicts, n_benign),
        false_accounts=np.flatnonzero(verdicts.flagged[:n_benign]),
        false_kinds=tuple(kinds[verdicts.flagged[:n_benign]]),
        review_kinds=tuple(kinds[reviewed[:n_benign]]),
        unmatched=int(verdicts.flagged.sum()) - _with_match(sides, verdicts),
        bad_flagged=verdicts.flagged[n_benign:],
        bad_reviewed=reviewed[n_benign:],
        bad_lone=log_m >= flag_scale(population),
        bad_lone_registered=log_m >= flag_scale(REGISTERED),
        prompts=prompts_to_flag(traffic, verdicts, n_benign) if traffic is not None else np.empty(0, np.int64),
        truth=truths(pool, traffic) if traffic is not None else np.empty(0, np.int64),
        named=np.array([TARGETS.index(names[0]) if names else UNKNOWN for names in verdicts.capabilities[n_benign:]]),
    )


def largest_false_share(verdicts: Verdicts, n_benign: int) -> float:
    """Largest share of benign accounts among those flagged by any time."""
    flagged = np.flatnonzero(verdicts.flagged)
    if not len(flagged):
        return 0.0
    at = verdicts.flagged_at[flagged]
    order = np.argsort(at, kind="stable")
    last = np.append(at[order][1:] != at[order][:-1], True)
    false = np.cumsum(flagged[order] < n_benign) / np.arange(1, len(flagged) + 1)
    return float(false[last].max())


def _with_match(sides: list[Played], verdicts: Verdicts) -> int:
    """Flagged accounts that have a verified match of an exclusive family."""
    flagged = verdicts.account_ids.filter(pa.array(verdicts.flagged))
    matched = [pc.unique(side.units.filter(pc.field("y") > 0)["account_id"]) for side in sides]
    return sum(int(pc.sum(pc.is_in(flagged, value_set=ids.cast(flagged.type))).as_py() or 0) for ids in matched)


def prompts_to_flag(traffic: Traffic, verdicts: Verdicts, n_benign: int) -> Ints:
    """Prompts that each flagged bad account had sent when it was."""
    at = verdicts.flagged_at[n_benign:].astype(np.int64)
    sent = np.bincount(traffic.account[traffic.us <= at[traffic.account]], minlength=traffic.n_accounts)
    return np.asarray(sent[verdicts.flagged[n_benign:]])


def truths(pool: Pool, traffic: Traffic) -> Ints:
    """What each account's extraction asks for: the target of MAJORITY of its prompts whose truth is known, which are
    LEAST_KNOWN of them at least."""
    truth = pool.facts["truth"].to_numpy()[traffic.row]
    cells = traffic.account[traffic.extraction] * (len(TARGETS) + 1) + truth[traffic.extraction] + 1
    counts = np.bincount(cells, minlength=traffic.n_accounts * (len(TARGETS) + 1)).reshape(-1, len(TARGETS) + 1)
    known, most = counts[:, 1:].sum(axis=1), counts[:, 1:].max(axis=1)
    clear = (most >= MAJORITY * known) & (known >= LEAST_KNOWN * counts.sum(axis=1)) & (known > 0)
    return np.where(clear, counts[:, 1:].argmax(axis=1), UNKNOWN)


def campaign_pairs(pool: Pool, benign: Played, bad: Played) -> Pairs:
    """How the product's campaigns agree with the true ones, on a world of both."""
    sightings = join_sightings([sightings_of(side.units) for side in (benign, bad)])
    groups = group_accounts(sightings, pool.n_families)
    found = {name: group.campaign_id for group in groups for name in group.accounts}
    names = [f"{BAD}{i:06d}" for i in range(bad.traffic.n_accounts)]
    of_bad = list(zip(bad.traffic.campaign.tolist(), map(found.get, names), strict=True))
    return Pairs(
        true=_pairs(campaign for campaign, _ in of_bad),
        found=_pairs(found.values()),
        right=_pairs(both for both in of_bad if both[1] is not None),
    )


def _pairs(groups: Iterable[Hashable]) -> int:
    """Pairs of equals."""
    return sum(n * (n - 1) // 2 for n in Counter(groups).values())
