"""Excerpts in the store: MOST an account, for a while, read only with a note in the audit log. After `recording`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from service.store.audit import write_audit
from service.store.schema import excerpts
from service.store.statements import upsert, write_many

MOST = 10
"""Kept of an account: the strongest ones."""
READ = "excerpts read"
_KEEP = upsert(excerpts)
_DROP = (
    "DELETE FROM excerpts WHERE account_no = ? AND event_id NOT IN (SELECT event_id FROM excerpts WHERE account_no = ? "
    f"ORDER BY strength DESC, kept DESC, event_id LIMIT {MOST})"
)
_OF_ACCOUNT = text(
    "SELECT event_id, kept, excerpt FROM excerpts WHERE account_no = :no ORDER BY strength DESC, kept DESC, event_id"
)


@dataclass(frozen=True)
class Excerpt:
    """The redacted beginning of an event's prompt, and when it came (us)."""

    event_id: str
    kept: int
    text: str


def keep_excerpts(connection: Connection, rows: Sequence[tuple[int, str, int, float, str]]) -> None:
    """Keep excerpts (account_no, event_id, kept, strength, text), and of every account the strongest alone."""
    write_many(connection, _KEEP, sorted(rows))
    numbers = sorted({row[0] for row in rows})
    write_many(connection, _DROP, [(number, number) for number in numbers])


def read_excerpts(connection: Connection, account_no: int, who: str, digest: str) -> list[Excerpt]:
    """Excerpts of an account, strongest first; that `who` read them is noted in the same transaction."""
    write_audit(connection, who, READ, digest)
    return [Excerpt(one.event_id, one.kept, one.excerpt) for one in connection.execute(_OF_ACCOUNT, {"no": account_no})]


def forget_excerpts(connection: Connection, before: int) -> int:
    """Delete what was kept before a time (us); how many."""
    return connection.execute(text("DELETE FROM excerpts WHERE kept < :before"), {"before": before}).rowcount
