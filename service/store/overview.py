"""Sums over all accounts, for the console's first page and its campaigns. Stands after `standing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, text

from classifier.online import STATE, States
from classifier.types import TARGETS, Decision
from classifier.verdicts import Thresholds
from service.store.schema import LEAST_LOG_M, LEAST_LOG_REVIEW

_SUMS = ", ".join(f"sum(t.n_{name}) AS n_{name}" for name in TARGETS) + ", sum(t.n_matched) AS n_matched"
_ALL_DAYS = text(f"SELECT t.day, {_SUMS} FROM day_totals t GROUP BY t.day ORDER BY t.day")
_FLAGGED = f"a.log_max_e >= {LEAST_LOG_M} AND a.log_max_e >= :m"
_FLAGGED_DAYS = text(
    f"SELECT t.day, {_SUMS} FROM accounts a JOIN traffic t ON t.account_no = a.account_no WHERE {_FLAGGED} "
    "GROUP BY t.day ORDER BY t.day"
)
_ACCOUNT_DAYS = text(f"SELECT t.day, {_SUMS} FROM traffic t WHERE t.account_no = :no GROUP BY t.day ORDER BY t.day")
_DECISIONS = text(
    f"SELECT (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM accounts a WHERE {_FLAGGED}) AS flag, "
    f"(SELECT count(*) FROM accounts a WHERE a.log_review >= {LEAST_LOG_REVIEW} AND a.log_review >= :review "
    "AND a.log_max_e < :m) AS review, "
    "(SELECT count(*) FROM accounts a WHERE a.n_units < :few AND a.log_review < :review AND a.log_max_e < :m) AS few"
)
_LINKED = text(
    "SELECT count(*) AS n, coalesce(sum(CASE WHEN a.n_units < :few THEN 1 ELSE 0 END), 0) AS few FROM accounts a "
    "WHERE a.account_no IN (SELECT account_no FROM links) AND a.log_max_e < :m AND a.log_review < :review"
)
_FLAGGED_STATES = text(f"SELECT s.state FROM accounts a JOIN states s ON s.account_no = a.account_no WHERE {_FLAGGED}")
_FAMILIES = text(
    "SELECT family, count(DISTINCT account_no) AS n_accounts, sum(n_prompts) AS n_prompts, min(first_seen) AS "
    "first_seen, max(last_seen) AS last_seen FROM uses GROUP BY family"
)
_MEMBER_USES = text(
    "SELECT a.account_id, u.family, sum(u.n_prompts) AS n_prompts, min(u.first_seen) AS first_seen FROM members m "
    "JOIN uses u ON u.account_no = m.account_no JOIN accounts a ON a.account_no = m.account_no "
    "WHERE m.campaign_id = :id GROUP BY a.account_id, u.family ORDER BY a.account_id, u.family"
)


@dataclass(frozen=True)
class DaySums:
    """Prompts of a day (since 1970) by what they ask for, in the order of TARGETS, and of them those that match."""

    day: int
    counts: tuple[int, ...]
    n_matched: int


@dataclass(frozen=True)
class FamilySums:
    """Who matched a family, how often, and when (us)."""

    n_accounts: int
    n_prompts: int
    first_seen: int
    last_seen: int


@dataclass(frozen=True)
class MemberUse:
    """Prompts of a campaign's account that match a family, and when the first one was sent (us)."""

    account_id: str
    family: str
    n_prompts: int
    first_seen: int


def read_days(connection: Connection) -> list[DaySums]:
    """Of all accounts, those erased since too, by day."""
    return _days(connection, _ALL_DAYS, {})


def read_flagged_days(connection: Connection, thresholds: Thresholds) -> list[DaySums]:
    """Of the flagged accounts, by day."""
    return _days(connection, _FLAGGED_DAYS, {"m": thresholds.log_flag})


def read_account_days(connection: Connection, account_no: int) -> list[DaySums]:
    """Of an account, by day."""
    return _days(connection, _ACCOUNT_DAYS, {"no": account_no})


def read_flagged_states(connection: Connection, thresholds: Thresholds) -> States:
    """States of the flagged accounts, in any order."""
    found = connection.execute(_FLAGGED_STATES, {"m": thresholds.log_flag}).scalars().all()
    return np.frombuffer(b"".join(found), STATE)


def count_decisions(connection: Connection, thresholds: Thresholds) -> dict[Decision, int]:
    """Accounts by decision."""
    given = {
        "m": thresholds.log_flag,
        "review": thresholds.log_review,
        "few": thresholds.minimum_units,
    }
    row, linked = connection.execute(_DECISIONS, given).one(), connection.execute(_LINKED, given).one()
    few = row.few - int(linked.few)
    review = row.review + linked.n
    return {
        Decision.FLAG: row.flag,
        Decision.REVIEW: review,
        Decision.CLEAR: row.accounts - row.flag - review - few,
        Decision.INSUFFICIENT_EVIDENCE: few,
    }


def read_families(connection: Connection) -> dict[str, FamilySums]:
    """Families that any account matched."""
    rows = connection.execute(_FAMILIES)
    return {one.family: FamilySums(one.n_accounts, int(one.n_prompts), one.first_seen, one.last_seen) for one in rows}


def read_member_uses(connection: Connection, campaign_id: str) -> list[MemberUse]:
    """What the accounts of a campaign matched, by account and family."""
    rows = connection.execute(_MEMBER_USES, {"id": campaign_id})
    return [MemberUse(one.account_id, one.family, int(one.n_prompts), one.first_seen) for one in rows]


def _days(connection: Connection, query: object, given: Mapping[str, object]) -> list[DaySums]:
    rows: Sequence[object] = connection.execute(query, dict(given)).all()  # type: ignore[call-overload]
    return [DaySums(int(row[0]), tuple(int(n) for n in row[1:-1]), int(row[-1])) for row in rows]  # type: ignore[index]
