"""Erasing an account, and forgetting event ids after their time. Stands after `recording`."""

from __future__ import annotations

from hashlib import blake2b

from sqlalchemy import Connection, text

from service.store.audit import write_audit

_OF_ACCOUNT = (
    *("units", "states", "activity", "records", "uses", "traffic", "members", "links", "reviews", "events"),
    *("account_models", "account_organisations", "end_users", "excerpts"),
    "accounts",
)
_DAYS = text("SELECT DISTINCT day FROM activity WHERE account_no = :no")
_MATCHED = text("SELECT DISTINCT us / 86400000000 AS day FROM units WHERE account_no = :no AND y > 0")
_CHANGED = text("UPDATE days SET changes = changes + 1 WHERE day = :day")
_EMPTY_MESSAGES = text(
    "DELETE FROM deliveries WHERE state = 'waiting' AND NOT EXISTS "
    "(SELECT 1 FROM alerts a WHERE a.delivery_no = deliveries.delivery_no)"
)
_FORGET = text(
    "DELETE FROM events WHERE (id_high, id_low) IN "
    "(SELECT id_high, id_low FROM events WHERE received < :before ORDER BY received LIMIT :n)"
)
MOST_FORGOTTEN = 2_000
"""Event ids forgotten in one transaction, so that none who writes waits for long."""


def erase_account(connection: Connection, account_id: str, who: str, hash_key: bytes) -> bool:
    """Delete all that is known of an account; False if there is nothing. The audit log names it by a keyed digest."""
    number = connection.execute(
        text("SELECT account_no FROM accounts WHERE account_id = :id"), {"id": account_id}
    ).scalar()
    if number is None:
        return False
    drop_account(connection, number, account_id)
    write_audit(connection, who, "account erased", account_digest(account_id, hash_key))
    return True


def drop_account(connection: Connection, number: int, account_id: str) -> None:
    """Delete the rows of an account, and what was or is to be told of it."""
    days = {row.day for query in (_DAYS, _MATCHED) for row in connection.execute(query, {"no": number})}
    for name in _OF_ACCOUNT:
        connection.execute(text(f"DELETE FROM {name} WHERE account_no = :no"), {"no": number})
    for name in ("alerts", "announced"):
        connection.execute(text(f"DELETE FROM {name} WHERE kind = 'flag' AND subject = :id"), {"id": account_id})
    connection.execute(_EMPTY_MESSAGES)
    connection.execute(text("DELETE FROM exemptions WHERE account_id = :id"), {"id": account_id})
    for day in sorted(days):
        connection.execute(_CHANGED, {"day": day})


def account_digest(account_id: str, hash_key: bytes) -> str:
    """By which whoever knows the key and the account finds its erasure; nobody else learns the account."""
    key = blake2b(hash_key, digest_size=32).digest()
    return blake2b(account_id.encode(), key=key, digest_size=16).hexdigest()


def forget_events(connection: Connection, before: int) -> int:
    """Forget ids of events received before a time (us), MOST_FORGOTTEN at most: their retries would count; how many."""
    return connection.execute(_FORGET, {"before": before, "n": MOST_FORGOTTEN}).rowcount
