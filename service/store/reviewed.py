"""Reviewed accounts with what they sent, in counts: what `probewatch store reviews` writes. Stands after `reading`."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, text

from classifier.reviews import STATES, Reviewed
from classifier.types import LEVELS, TARGETS, Channel
from service.store.codec import levels_of
from service.store.reading import read_units

_NEWEST = text(
    "SELECT a.account_no, a.account_id, r.state, r.author "
    "FROM reviews r JOIN accounts a ON a.account_no = r.account_no "
    "WHERE r.review_no = (SELECT max(n.review_no) FROM reviews n WHERE n.account_no = r.account_no "
    f"AND n.state IN ({', '.join(repr(state) for state in STATES)}) AND (n.until IS NULL OR n.until > :now)) "
    "ORDER BY a.account_id"
)


def read_reviewed(connection: Connection, now: int) -> list[Reviewed]:
    """Accounts with a review in force at a time (us), by the newest of them; exemptions are none of these."""
    rows = connection.execute(_NEWEST, {"now": now}).all()
    return [_reviewed(connection, *row) for row in rows]


def _reviewed(connection: Connection, account_no: int, account_id: str, state: str, author: str) -> Reviewed:
    units = read_units(connection, account_no)
    own = [unit for unit in units if unit.channel == Channel.SIGNATURE]
    levels = [levels_of(unit) for unit in units if unit.channel == Channel.INTENT]
    sums = [sum(column) for column in zip(*levels, strict=True)] if levels else [0] * len(TARGETS)
    return Reviewed(
        account_id=account_id,
        state=state,
        author=author,
        n_units=len(own),
        matches=dict(sorted(Counter(unit.family for unit in own if unit.y and unit.family is not None).items())),
        n_intent=len(levels),
        intent=tuple(total / LEVELS / max(len(levels), 1) for total in sums),
    )
