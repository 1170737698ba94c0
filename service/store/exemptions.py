"""Exemptions: an account's matches of a family, up to a time, that were agreed to count for nothing.

Beneath `recording`, which asks here before it stores a unit; `reviews` makes them. What an exemption covers is stored
with y = 0, as `classifier.exceptions` has it: the unit stays, so that what is promised holds, and no bit of it comes
back when the exemption ends, since what was agreed upon then stays agreed upon.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from service.store.codec import Unit
from service.store.schema import exemptions
from service.store.statements import lookup, upsert, write_many

_KNOWN = (
    "SELECT e.account_no, e.family, e.until FROM {keys} "
    "JOIN exemptions e ON e.account_no = CAST(k.value ->> 0 AS BIGINT)"
)
_EXCUSE = text(
    "UPDATE units SET y = 0, y_public = 0 WHERE account_no = :no AND family = :family AND us < :until "
    "AND (y > 0 OR y_public > 0)"
)
_DAYS = text(
    "SELECT DISTINCT us / 86400000000 AS day FROM units WHERE account_no = :no AND family = :family AND us < :until "
    "AND y > 0"
)


def excused(connection: Connection, rows: Sequence[Unit]) -> Sequence[Unit]:
    """Units as they are to be stored: those that an exemption covers with y = 0."""
    matched = {(row.account_no,) for row in rows if row.family is not None and (row.y or row.y_public)}
    known = lookup(connection, _KNOWN, sorted(matched)) if matched else ()
    until = {(number, family): end for number, family, end in known}
    if not until:
        return rows
    return [
        row._replace(y=0, y_public=0) if row.us < until.get((row.account_no, row.family), 0) else row for row in rows
    ]


def exempt(connection: Connection, account_no: int, family: str, until: int) -> list[int]:
    """Agree that matches before a time (us) count for nothing, those of the past too; which days look different
    since. The caller replays the account."""
    of = {"no": account_no, "family": family, "until": until}
    write_many(connection, upsert(exemptions), [(account_no, family, until)])
    days = list(connection.execute(_DAYS, of).scalars())
    connection.execute(_EXCUSE, of)
    return days
