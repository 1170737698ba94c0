"""Campaigns: which accounts belong together, and what is shared among accounts but unknown.

    labels, units -> evidence -> verdicts -> **campaigns**

Family evidence (`families`) carries the guarantee of DESIGN.md section 7; grouping accounts and ranking unknown
scaffolds are descriptions and carry none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.eprocess import Bools, Ints, changes
from classifier.families import FAMILY_RATE, FamilyEvidence, Matches, Sightings, family_evidence
from classifier.types import CAMPAIGN_SCHEMA, DISCOVERED_SCHEMA, TARGETS
from classifier.units import DAY_US, microseconds

LINK_UNITS = 2
"""Distinct verified units of one flagged family that link an account to it: one may be a misread."""
GAP_DAYS = 14
"""Families at rest for longer than this, or apart by more, are different campaigns."""
CO_USE = 0.2
"""Families are one campaign's if they share at least this part of the accounts of the one with fewer. Exclusive
families of two operators share almost none; those of one operator do even where an account sends few of each."""
MIN_ACCOUNTS = 2
LINK_ACCOUNTS = 2
"""Accounts that two families must share, or all of them if fewer use one: one account may serve two operators'
customers."""
TARGET_SHARE = 0.1
"""Part of a campaign's matches that a target must have to be named: a payload here and there asks for something
else."""
MOST_SCAFFOLDS = 20
DISCOVER_ACCOUNTS = 5
"""Least accounts behind a discovered scaffold: one person's accounts and a passed-on prompt reach 2 or 3, and what an
analyst is shown should never be traceable to a single customer."""
MOST_DISCOVERED = 500
MOST_EXAMPLES = 5
WEEK_US = 7 * DAY_US
_TIMESTAMP = CAMPAIGN_SCHEMA.field("first_seen").type

CAMPAIGN_USE_SQL = f"""
SELECT campaign_id, technique, scaffolds[1] AS scaffold, GROUPING(technique) = 0 AS by_technique,
       GROUPING(scaffolds[1]) = 0 AS by_scaffold, count(*)::BIGINT AS n_prompts, max(timestamp) AS last_seen
FROM {{labels}} AS labels JOIN {{members}} AS members
  ON labels.account_id = members.account_id AND labels.template_family = members.family
GROUP BY GROUPING SETS ((campaign_id), (campaign_id, technique), (campaign_id, scaffolds[1]))
QUALIFY row_number() OVER (
    PARTITION BY campaign_id, by_technique, by_scaffold ORDER BY n_prompts DESC, technique, scaffold
) <= {MOST_SCAFFOLDS}
"""
"""DuckDB: `describe`'s `use` from labels, out of core; `members` holds `member_table`'s rows."""

SCAFFOLD_USE_SQL = """
WITH unexplained AS (
    SELECT * FROM {source} WHERE template_family IS NULL AND benign_app IS NULL
), often AS (
    SELECT scaffold FROM (SELECT unnest(scaffolds) AS scaffold FROM unexplained)
    GROUP BY scaffold HAVING count(*) >= {least_accounts}
), used AS (
    SELECT account_id, unnest(list_distinct(scaffolds)) AS scaffold, timestamp, event_id, p_extraction FROM unexplained
), grouped AS (
    SELECT account_id, scaffold, min({{'timestamp': timestamp, 'event_id': event_id, 'p': p_extraction}}) AS first_use,
           count(*)::BIGINT AS n_prompts, max(timestamp) AS last_seen
    FROM used SEMI JOIN often USING (scaffold) GROUP BY account_id, scaffold
), shared AS (
    SELECT scaffold FROM grouped GROUP BY scaffold HAVING count(*) >= {least_accounts}
)
SELECT account_id, scaffold, first_use.timestamp AS timestamp, first_use.event_id AS event_id,
       first_use.p AS p_extraction, n_prompts, last_seen
FROM grouped SEMI JOIN shared USING (scaffold)
"""
"""DuckDB: `discover`'s input from labels, `.format(source=..., least_accounts=DISCOVER_ACCOUNTS)`. What a known
template or benign application explains is left out."""


@dataclass(frozen=True)
class Campaigns:
    """`table`: CAMPAIGN_SCHEMA, largest first. `of_account`: campaign_id of every member by evidence, which the table
    counts. `of_linked`: of accounts that are shown with one and counted in none (see `reachback`)."""

    table: pa.Table
    of_account: dict[str, str]
    of_linked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Period:
    """The first and the last event of a run, us since 1970."""

    first_us: int
    last_us: int


@dataclass(frozen=True)
class Group:
    """The linked accounts of a campaign, sorted, their matches of its families, and what speaks for these."""

    campaign_id: str
    accounts: Sequence[str]
    families: Sequence[str]  # by matches, most first
    matches: Matches
    flagged_us: int
    log_max_e: float


def group_accounts(sightings: Sightings, n_families: int, rate: float = FAMILY_RATE) -> list[Group]:
    """Accounts that share flagged families at the same time, largest group first.

    Families are split where they rest, joined where the same accounts use them, and an account belongs where most of
    its matches are: so a reseller with customers in two campaigns does not make them one, nor does a public framework,
    which is no match here.
    """
    evidence = family_evidence(sightings, n_families, rate)
    linked = _linked(sightings.matches, evidence.flagged)
    cluster = _clusters(linked)
    home = _homes(linked.account, cluster, len(linked.accounts))
    at_home = cluster == home[linked.account]
    groups = [_group(linked.where(at_home & (cluster == c)), evidence) for c in np.unique(cluster[at_home])]
    large = (group for group in groups if len(group.accounts) >= MIN_ACCOUNTS)
    return sorted(large, key=lambda group: (-len(group.accounts), group.campaign_id))


def member_table(groups: Sequence[Group]) -> pa.Table:
    """Who belongs to which campaign by which families: campaign_id, account_id, family."""
    rows = [(group, account, family) for group in groups for account in group.accounts for family in group.families]
    columns = {
        "campaign_id": [group.campaign_id for group, _, _ in rows],
        "account_id": [account for _, account, _ in rows],
        "family": [family for _, _, family in rows],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def describe(groups: Sequence[Group], use: pa.Table) -> Campaigns:
    """Groups as a table. `use`: a campaign's prompts of its families, in all, by technique and by scaffold
    (CAMPAIGN_USE_SQL)."""
    rows = [_campaign_row(group, use.filter(pc.field("campaign_id") == group.campaign_id)) for group in groups]
    of_account = {account: group.campaign_id for group in groups for account in group.accounts}
    return Campaigns(pa.Table.from_pylist(rows, CAMPAIGN_SCHEMA), of_account)


def discover(uses: pa.Table, period: Period, least_accounts: int = DISCOVER_ACCOUNTS) -> pa.Table:
    """Shared scaffolds that no signature explains (DISCOVERED_SCHEMA), most suspicious first; no error guarantee.

    `uses`: one row per (account_id, scaffold), at its first event (timestamp, event_id, p_extraction), with n_prompts
    and last_seen (SCAFFOLD_USE_SQL); all rows of some scaffolds, since these are judged one by one. Ranked by accounts
    x intent x growth: intent is the median over accounts of the first event's, so volume does not count; growth is the
    new accounts of the busiest week of the period over those of the mean week.
    """
    uses = uses.sort_by([(name, "ascending") for name in ("scaffold", "timestamp", "event_id")]).combine_chunks()
    scaffold, us = uses["scaffold"].to_numpy(), microseconds(uses["timestamp"])
    starts = changes(scaffold)
    first, group = np.flatnonzero(starts), np.cumsum(starts) - 1
    n_accounts = np.bincount(group, minlength=len(first))
    last_seen = np.zeros(len(first), np.int64)
    np.maximum.at(last_seen, group, microseconds(uses["last_seen"]))
    intent, growth = _medians(group, uses["p_extraction"].to_numpy(), n_accounts), _growth(group, us, period)
    ranked = _most_suspicious(scaffold[first], n_accounts, intent, growth)
    ranked = ranked[n_accounts[ranked] >= least_accounts][:MOST_DISCOVERED]
    n_prompts = np.bincount(group, uses["n_prompts"].to_numpy(), len(first)).astype(np.int64)
    examples = [uses["event_id"].slice(first[g], min(n_accounts[g], MOST_EXAMPLES)).to_pylist() for g in ranked]
    columns = [
        pa.array(scaffold[first][ranked], pa.uint64()),
        pa.array(n_accounts[ranked]),
        pa.array(n_prompts[ranked]),
        pa.array(intent[ranked], pa.float32()),
        pa.array(growth[ranked], pa.float32()),
        pa.array(us[first][ranked], _TIMESTAMP),
        pa.array(last_seen[ranked], _TIMESTAMP),
        pa.array(examples, pa.list_(pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=DISCOVERED_SCHEMA)


def join_discovered(tables: Sequence[pa.Table]) -> pa.Table:
    """What was discovered among disjoint sets of scaffolds: the MOST_DISCOVERED most suspicious."""
    found = pa.concat_tables([DISCOVERED_SCHEMA.empty_table(), *tables]).combine_chunks()
    columns = (found[name].to_numpy() for name in ("scaffold", "n_accounts", "p_extraction", "growth"))
    return found.take(_most_suspicious(*columns)[:MOST_DISCOVERED])


def _most_suspicious(
    scaffold: NDArray[np.uint64], n_accounts: Ints, intent: NDArray[np.float32], growth: NDArray[np.float32]
) -> Ints:
    return np.lexsort((scaffold, -n_accounts * intent.astype(np.float64) * growth.astype(np.float64)))


# --- accounts ---------------------------------------------------------------------------------------------------------


def _linked(matches: Matches, flagged: Bools) -> Matches:
    """Matches of flagged families by linked accounts: those with LINK_UNITS of one of them."""
    own = matches.where(flagged[matches.family])
    pairs, counts = np.unique(own.account * len(own.families) + own.family, return_counts=True)
    accounts = pairs[counts >= LINK_UNITS] // max(len(own.families), 1)
    return own.where(np.isin(own.account, accounts))


def _clusters(matches: Matches) -> Ints:
    """Cluster of each match.

    A family's matches are one episode until it rests. Episodes that share accounts and time join, the closest two
    first; a joined one counts with all its accounts, so that thin overlaps form no chain.
    """
    episode = _episodes(matches)
    n = int(episode.max(initial=-1)) + 1
    used = np.zeros((n, len(matches.accounts)), np.float32)
    used[episode, matches.account] = 1
    begin, end = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    np.minimum.at(begin, episode, matches.us)
    np.maximum.at(end, episode, matches.us)
    shared, label = used @ used.T, np.arange(n)
    while n > 1:
        size = shared.diagonal()
        smaller = np.minimum.outer(size, size)
        apart = np.maximum.outer(begin, begin) - np.minimum.outer(end, end) > GAP_DAYS * DAY_US
        few = shared < np.minimum(smaller, LINK_ACCOUNTS)
        overlap = np.triu(np.where(few | apart, 0, shared / np.maximum(smaller, 1)), 1)
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        if overlap[i, j] < CO_USE:
            break
        used[i], begin[i], end[i] = np.maximum(used[i], used[j]), min(begin[i], begin[j]), max(end[i], end[j])
        used[j], label[label == j] = 0, i
        shared[i] = shared[:, i] = used @ used[i]
        shared[j] = shared[:, j] = 0
    return label[episode]


def _episodes(matches: Matches) -> Ints:
    """Number of each match's episode, in order of family, then time."""
    order = np.lexsort((matches.us, matches.family))
    rests = np.diff(matches.us[order], prepend=0) > GAP_DAYS * DAY_US
    episode = np.empty(len(order), np.int64)
    episode[order] = np.cumsum(changes(matches.family[order]) | rests) - 1
    return episode


def _homes(account: Ints, cluster: Ints, n_accounts: int) -> Ints:
    """Cluster [n_accounts] with most of an account's rows, the first of equals; -1 without rows."""
    width = int(cluster.max(initial=0)) + 1
    pairs, counts = np.unique(account * width + cluster, return_counts=True)
    owner, where = pairs // width, pairs % width
    order = np.lexsort((where, -counts, owner))
    best = order[changes(owner[order])]
    home = np.full(n_accounts, -1)
    home[owner[best]] = where[best]
    return home


def _group(matches: Matches, evidence: FamilyEvidence) -> Group:
    """The campaign that its accounts' matches of its families make."""
    of_family = np.bincount(matches.family, minlength=len(matches.families))
    families = [int(f) for f in np.argsort(-of_family, kind="stable") if of_family[f]]
    names = [matches.families[f] for f in families]
    return Group(
        campaign_id=_campaign_id(names, int(matches.us.min() // DAY_US)),
        accounts=[matches.accounts[i] for i in np.unique(matches.account)],
        families=names,
        matches=matches,
        flagged_us=int(evidence.flagged_at[families].min().astype(np.int64)),
        log_max_e=float(evidence.log_max_e[families].max()),
    )


def _campaign_row(group: Group, use: pa.Table) -> dict[str, object]:
    """Its row of CAMPAIGN_SCHEMA."""
    of_target = np.array([(group.matches.y >> c & 1).sum() for c in range(len(TARGETS))])
    least = max(1, TARGET_SHARE * of_target.sum())
    whole = use.filter(~pc.field("by_technique") & ~pc.field("by_scaffold"))
    return {
        "campaign_id": group.campaign_id,
        "n_accounts": len(group.accounts),
        "n_prompts": pc.sum(whole["n_prompts"], min_count=0).as_py(),
        "capabilities": [TARGETS[c] for c in np.argsort(-of_target, kind="stable") if of_target[c] >= least],
        "techniques": _most(use.filter(pc.field("by_technique")), "technique"),
        "template_families": group.families,
        "scaffolds": _most(use.filter(pc.field("by_scaffold")), "scaffold")[:MOST_SCAFFOLDS],
        "first_seen": int(group.matches.us.min()),
        "last_seen": int(max(group.matches.us.max(), microseconds(whole["last_seen"]).max(initial=0))),
        "flagged_at": group.flagged_us,
        "log10_e": group.log_max_e / math.log(10),
    }


def _campaign_id(families: Sequence[str], day: int) -> str:
    """The same whatever order events came in: of the families and the first day alone."""
    digest = blake2b("\x1f".join([*sorted(families), str(day)]).encode(), digest_size=6)
    return f"campaign-{digest.hexdigest()}"


def _most(use: pa.Table, column: str) -> list[object]:
    """Values of a column other than null, by prompts, most first."""
    ranked = use.sort_by([("n_prompts", "descending"), (column, "ascending")])
    return [value for value in ranked[column].to_pylist() if value is not None]


# --- scaffolds --------------------------------------------------------------------------------------------------------


def _medians(group: Ints, values: NDArray[np.float32], sizes: Ints) -> NDArray[np.float32]:
    """Lower median of each group's values; groups are 0, 1, ... of the given sizes, in order."""
    ranked = values[np.lexsort((values, group))]
    return np.asarray(ranked[np.cumsum(sizes) - sizes + (sizes - 1) // 2])


def _growth(group: Ints, us: Ints, period: Period) -> NDArray[np.float32]:
    """Rows of a group's busiest week over those of its mean week; weeks run from the first of the period to the
    last."""
    week, n_weeks = (us - period.first_us) // WEEK_US, (period.last_us - period.first_us) // WEEK_US + 1
    cells, counts = np.unique(group * n_weeks + week, return_counts=True)
    sizes = np.bincount(group)
    busiest = np.zeros(len(sizes), np.int64)
    np.maximum.at(busiest, cells // n_weeks, counts)
    return (busiest * n_weeks / sizes).astype(np.float32)
