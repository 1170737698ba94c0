"""What is kept no longer than its time: event ids, accounts long unseen, alerts, excerpts. Stands after `erasure`.

An account is forgotten whole, or stays whole. It stays as long as anything is held against it or was agreed upon:
evidence that could flag or be for review in any population, a campaign, a review or an exemption that lasts. So no
verdict is lost but by erasure, and no flag moves the threshold of others by going. Of a forgotten account the days on
which it was active remain, under a number that is nobody's: family evidence counts accounts by day, and would grow if
only the harmless ones left.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from service.store.erasure import drop_account, forget_events
from service.store.excerpts import forget_excerpts
from service.store.schema import LEAST_LOG_M, LEAST_LOG_REVIEW

MOST_ACCOUNTS, MOST_MESSAGES = 50, 200
"""Forgotten in one transaction, so that none who writes waits for long."""

_UNSEEN = "FROM accounts a WHERE a.last_seen < :before AND"
_NOTHING_HELD = f"""
(a.log_max_e < {LEAST_LOG_M} AND a.log_review < {LEAST_LOG_REVIEW}
 AND NOT EXISTS (SELECT 1 FROM members m WHERE m.account_no = a.account_no)
 AND NOT EXISTS (SELECT 1 FROM links l WHERE l.account_no = a.account_no)
 AND NOT EXISTS (SELECT 1 FROM exemptions e WHERE e.account_id = a.account_id AND e.until > :now)
 AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.account_no = a.account_no AND (r.until IS NULL OR r.until > :now)))
"""
_FORGETTABLE, _HELD = f"{_UNSEEN} {_NOTHING_HELD}", f"{_UNSEEN} NOT {_NOTHING_HELD}"
_ANONYMOUS = text(
    "INSERT INTO activity (day, account_no, us) SELECT day, -account_no, us FROM activity WHERE account_no = :no "
    "ON CONFLICT (day, account_no) DO NOTHING"
)
_ACTIVITY = text("DELETE FROM activity WHERE account_no = :no")
_NEWEST = text("SELECT max(last_seen) FROM accounts")
_OLD = "FROM deliveries WHERE state <> 'waiting' AND done < :before"
_OF_OLD = f"DELETE FROM alerts WHERE delivery_no IN (SELECT delivery_no {_OLD} ORDER BY delivery_no LIMIT :n)"


@dataclass(frozen=True)
class Limits:
    """What is older than these times (us) goes. `accounts` None: they stay for good."""

    now: int
    events: int
    accounts: int | None
    messages: int
    excerpts: int


@dataclass(frozen=True)
class Pruned:
    """How much was forgotten."""

    n_events: int
    n_accounts: int
    n_messages: int
    n_excerpts: int

    def __str__(self) -> str:
        return (
            f"{self.n_events:,} event ids, {self.n_accounts:,} accounts, {self.n_messages:,} messages of alerts, "
            f"{self.n_excerpts:,} excerpts"
        )


@dataclass(frozen=True)
class Prunable:
    """How much would be forgotten, and how many accounts are past their time and stay, since something is held against
    them or agreed upon."""

    would: Pruned
    n_held: int


def prune_some(connection: Connection, limits: Limits) -> Pruned:
    """Forget what is past its time, so much at once as a transaction may hold up others."""
    n_events = forget_events(connection, limits.events)
    rows = _forgettable(connection, limits)
    for number, account_id in rows:
        connection.execute(_ANONYMOUS, {"no": number})
        connection.execute(_ACTIVITY, {"no": number})
        drop_account(connection, number, account_id)
    old = {"before": limits.messages, "n": MOST_MESSAGES}
    connection.execute(text(_OF_OLD), old)
    gone = text(
        f"DELETE FROM deliveries WHERE delivery_no IN (SELECT delivery_no {_OLD} ORDER BY delivery_no LIMIT :n)"
    )
    n_messages = connection.execute(gone, old).rowcount
    return Pruned(n_events, len(rows), n_messages, forget_excerpts(connection, limits.excerpts))


def count_prunable(connection: Connection, limits: Limits) -> Prunable:
    """What `prune_some` would forget, called until there is nothing left."""

    def count(source: str, **given: int) -> int:
        return int(connection.execute(text(f"SELECT count(*) {source}"), given).scalar_one())

    events = count("FROM events WHERE received < :before", before=limits.events)
    messages = count(_OLD, before=limits.messages)
    excerpts = count("FROM excerpts WHERE kept < :before", before=limits.excerpts)
    before = _before(connection, limits)
    if before is None:
        return Prunable(Pruned(events, 0, messages, excerpts), 0)
    forgotten, held = (count(source, before=before, now=limits.now) for source in (_FORGETTABLE, _HELD))
    return Prunable(Pruned(events, forgotten, messages, excerpts), held)


def _forgettable(connection: Connection, limits: Limits) -> list[tuple[int, str]]:
    before = _before(connection, limits)
    if before is None:
        return []
    query = f"SELECT a.account_no, a.account_id {_FORGETTABLE} ORDER BY a.last_seen LIMIT :n"
    if connection.dialect.name == "postgresql":  # whom an event has just come for stays
        query += " FOR UPDATE OF a SKIP LOCKED"
    rows = connection.execute(text(query), {"before": before, "now": limits.now, "n": MOST_ACCOUNTS})
    return [(row.account_no, row.account_id) for row in rows]


def _before(connection: Connection, limits: Limits) -> int | None:
    """Accounts last seen before this go: counted from the newest event, so that old traffic may be looked at too."""
    newest = connection.execute(_NEWEST).scalar()
    if limits.accounts is None or newest is None:
        return None
    return int(limits.accounts - limits.now + min(limits.now, newest))
