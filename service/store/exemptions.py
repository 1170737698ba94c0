"""Exemptions: an account's matches of a family, up to a time, that were agreed to count for nothing.

Beneath `recording` and `reading`, which ask here when they count units; `reviewing` makes them. Units are stored as
they were observed, and what an exemption covers is counted with y = 0, as `classifier.exceptions` has it: so a match
comes back when an exemption is withdrawn, and one that was agreed upon beforehand holds for an account's first prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, text

from classifier.exceptions import AgreedException
from classifier.types import Channel
from service.store.codec import Unit
from service.store.schema import exemptions
from service.store.statements import lookup, upsert, write_many

REVIEWED, FILED = "review", "file"
"""Where an exemption was agreed upon: in a review, or in the file of the settings. Each withdraws its own alone."""

_KNOWN = (
    "SELECT a.account_no, e.family, e.until FROM {keys} JOIN accounts a ON a.account_no = CAST(k.value ->> 0 AS BIGINT)"
    " JOIN exemptions e ON e.account_id = a.account_id"
)
_OF_ACCOUNTS = (
    "SELECT e.* FROM {keys} JOIN exemptions e ON e.account_id = CAST(k.value ->> 0 AS TEXT) "
    "ORDER BY e.account_id, e.family, e.origin"
)
_OF_FILE = text("SELECT * FROM exemptions WHERE origin = :origin")
_DELETE = "DELETE FROM exemptions WHERE account_id = ? AND family = ? AND origin = ?"
_COVERED = text(
    "SELECT count(*) FROM units WHERE account_no = :no AND channel = :channel AND family = :family AND us < :until "
    "AND (y > 0 OR y_public > 0)"
)


@dataclass(frozen=True)
class Exempted:
    """An exemption in force. `origin`: REVIEWED or FILED; `n_units`: distinct prompts that it has count for nothing."""

    agreed: AgreedException
    origin: str
    n_units: int


def excused(connection: Connection, rows: Sequence[Unit]) -> Sequence[Unit]:
    """Units as they count: those that an exemption covers with y = 0."""
    matched = {(row.account_no,) for row in rows if row.family is not None and (row.y or row.y_public)}
    until: dict[tuple[int, str | None], int] = {}
    for one in lookup(connection, _KNOWN, sorted(matched)) if matched else ():
        until[one.account_no, one.family] = max(one.until, until.get((one.account_no, one.family), 0))
    if not until:
        return rows
    return [
        row._replace(y=0, y_public=0) if row.us < until.get((row.account_no, row.family), 0) else row for row in rows
    ]


def read_agreed(connection: Connection, account_ids: Iterable[str]) -> list[AgreedException]:
    """What was agreed upon for accounts, by account and family."""
    return [_agreed(row) for row in lookup(connection, _OF_ACCOUNTS, [(name,) for name in account_ids])]


def read_exempted(connection: Connection, account_no: int, account_id: str) -> list[Exempted]:
    """The exemptions of an account, by family."""
    rows = lookup(connection, _OF_ACCOUNTS, [(account_id,)])
    of = {"no": account_no, "channel": int(Channel.SIGNATURE)}
    return [
        Exempted(
            _agreed(row),
            row.origin,
            connection.execute(_COVERED, {**of, "family": row.family, "until": row.until}).scalar_one(),
        )
        for row in rows
    ]


def agree(connection: Connection, agreed: AgreedException, origin: str) -> None:
    """Have an exemption hold, in place of an earlier one of the same origin. The caller has the account recounted."""
    row = (agreed.account, agreed.family, origin, agreed.who, agreed.why, end_of(agreed.until))
    write_many(connection, upsert(exemptions), [row])


def withdraw(connection: Connection, account_id: str, family: str) -> bool:
    """Have what a review exempted count again; whether there was such an exemption."""
    before = [one for one in lookup(connection, _OF_ACCOUNTS, [(account_id,)]) if one.family == family]
    write_many(connection, _DELETE, [(account_id, family, REVIEWED)])
    return any(one.origin == REVIEWED for one in before)


def settle_file(connection: Connection, agreed: Sequence[AgreedException]) -> set[str]:
    """Have the exceptions of a file hold, and none that stood in it before; accounts for which that is a change."""
    before = {_place(one): one for one in map(_agreed, connection.execute(_OF_FILE, {"origin": FILED}))}
    after = {_place(one): one for one in agreed}
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    write_many(connection, _DELETE, [(*place, FILED) for place in sorted(changed & before.keys())])
    for place in sorted(changed & after.keys()):
        agree(connection, after[place], FILED)
    return {account for account, _ in changed}


def end_of(day: date) -> int:
    """The end of a day (UTC), us."""
    end = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1)
    return round(end.timestamp() * 1e6)


def last_day(end: int) -> date:
    """The day that ends at a time (us)."""
    return datetime.fromtimestamp((end - 1) // 1_000_000, UTC).date()


def _agreed(row: object) -> AgreedException:
    of: Mapping[str, object] = row._mapping  # type: ignore[attr-defined]
    account, family, who, why = (str(of[name]) for name in ("account_id", "family", "who", "why"))
    return AgreedException(account, family, who, why, last_day(int(str(of["until"]))))


def _place(one: AgreedException) -> tuple[str, str]:
    return one.account, one.family
