"""The outbox of alerts: written in the transaction of what they tell of, and taken from it to be sent.

    news -> **outbox** (alerts, then messages of several) -> the worker that sends

An alert is announced once by its kind and subject. Alerts that wait are put into one message, which keeps its id over
all tries, so that a receiver can tell a repetition. Stands after `leases`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

MOST_ALERTS = 200
"""Alerts in one message."""

_ANNOUNCE = text(
    "INSERT INTO announced (kind, subject) VALUES (:kind, :subject) ON CONFLICT (kind, subject) DO NOTHING"
)
_ADD = text("INSERT INTO alerts (at, kind, subject, facts) VALUES (:at, :kind, :subject, :facts)")
_UNSENT = text("SELECT alert_no FROM alerts WHERE delivery_no IS NULL ORDER BY alert_no LIMIT :n")
_NEW_DELIVERY = text(
    "INSERT INTO deliveries (message_id, made, state, tries, next_try) "
    "VALUES (:id, :now, 'waiting', 0, :now) RETURNING delivery_no"
)
_PUT_INTO = text("UPDATE alerts SET delivery_no = :delivery WHERE delivery_no IS NULL AND alert_no <= :last")
_DUE = text(
    "SELECT delivery_no, message_id, made, tries FROM deliveries WHERE state = 'waiting' AND next_try <= :now "
    "ORDER BY next_try, delivery_no LIMIT 1"
)
_TRY = text(
    "UPDATE deliveries SET tries = tries + 1, next_try = :until "
    "WHERE delivery_no = :delivery AND tries = :tries AND state = 'waiting'"
)
_ALERTS = text("SELECT at, kind, subject, facts FROM alerts WHERE delivery_no = :delivery ORDER BY alert_no")
_SENT = text("UPDATE deliveries SET state = 'sent', done = :now, reason = NULL WHERE delivery_no = :delivery")
_AGAIN = text("UPDATE deliveries SET next_try = :at, reason = :reason WHERE delivery_no = :delivery")
_GIVE_UP = text("UPDATE deliveries SET state = 'failed', done = :now, reason = :reason WHERE delivery_no = :delivery")
_FAILING = text("SELECT count(*) FROM deliveries WHERE state = 'waiting' AND tries > 0 AND next_try > :now")
_REVIVE = text(
    "UPDATE deliveries SET state = 'waiting', tries = 0, next_try = :now, done = NULL WHERE state = 'failed'"
)
_LISTED = text(
    "SELECT d.*, (SELECT count(*) FROM alerts a WHERE a.delivery_no = d.delivery_no) AS n_alerts FROM deliveries d "
    "ORDER BY d.delivery_no DESC LIMIT :n"
)
_COUNTS = text(
    "SELECT (SELECT count(*) FROM alerts WHERE delivery_no IS NULL) AS unsent, "
    "(SELECT count(*) FROM alerts a JOIN deliveries d ON d.delivery_no = a.delivery_no WHERE d.state = 'waiting') "
    "AS retried, (SELECT count(*) FROM deliveries WHERE state = 'failed') AS failed"
)


class Kind(StrEnum):
    """What an alert tells of."""

    FLAG = "flag"
    CAMPAIGN = "campaign"
    TEMPLATE = "template"


@dataclass(frozen=True)
class News:
    """Something to tell of: its kind, what it is known by, and facts without prompts."""

    kind: Kind
    subject: str
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Alert:
    """An alert as stored; `at` in us."""

    at: int
    kind: Kind
    subject: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """Alerts that are sent together. `tries`: with the one that begins now; `made` in us."""

    number: int
    message_id: str
    made: int
    tries: int
    alerts: Sequence[Alert]


@dataclass(frozen=True)
class Listed:
    """A message as it is shown; times in us."""

    message_id: str
    state: str
    n_alerts: int
    made: int
    tries: int
    next_try: int
    done: int | None
    reason: str | None


@dataclass(frozen=True)
class Waiting:
    """How many alerts wait to be sent, and how many messages were given up."""

    n_waiting: int
    n_failed: int


def announce(connection: Connection, news: Sequence[News], now: int, silently: bool = False) -> int:
    """Note what is to be told of, what was announced before apart; how much is new. `silently`: tell of none of it."""
    n_new = 0
    for one in news:
        key = {"kind": str(one.kind), "subject": one.subject}
        if connection.execute(_ANNOUNCE, key).rowcount == 0:
            continue
        n_new += 1
        if not silently:
            connection.execute(_ADD, {**key, "at": now, "facts": json.dumps(one.facts)})
    return n_new


def compose(connection: Connection, now: int) -> bool:
    """Put alerts that wait into a message; whether there were any. The caller has the lease."""
    waiting = connection.execute(_UNSENT, {"n": MOST_ALERTS}).scalars().all()
    if not waiting:
        return False
    named = {"id": f"msg_{secrets.token_hex(16)}", "now": now}
    number = connection.execute(_NEW_DELIVERY, named).scalar_one()
    connection.execute(_PUT_INTO, {"delivery": number, "last": waiting[-1]})
    return True


def take(connection: Connection, now: int, until: int) -> Message | None:
    """The message whose turn it is, if one's is: nobody else takes it until a time (us), and this counts as a try."""
    row = connection.execute(_DUE, {"now": now}).one_or_none()
    if row is None:
        return None
    taken = {"delivery": row.delivery_no, "tries": row.tries, "until": until}
    if connection.execute(_TRY, taken).rowcount == 0:
        return None
    rows = connection.execute(_ALERTS, {"delivery": row.delivery_no})
    own = [Alert(one.at, Kind(one.kind), one.subject, json.loads(one.facts)) for one in rows]
    return Message(row.delivery_no, row.message_id, row.made, row.tries + 1, own)


def note_sent(connection: Connection, message: Message, now: int) -> None:
    connection.execute(_SENT, {"delivery": message.number, "now": now})


def note_failure(connection: Connection, message: Message, reason: str, next_try: int) -> None:
    """A try failed: there is another at a time (us)."""
    connection.execute(_AGAIN, {"delivery": message.number, "reason": reason, "at": next_try})


def give_up(connection: Connection, message: Message, reason: str, now: int) -> None:
    """No try is left: it stays to be seen, with the reason, until it is sent again by hand or its time is over."""
    connection.execute(_GIVE_UP, {"delivery": message.number, "reason": reason, "now": now})


def is_failing(connection: Connection, now: int) -> bool:
    """Whether a message waits for another try."""
    return bool(connection.execute(_FAILING, {"now": now}).scalar_one())


def revive(connection: Connection, now: int) -> int:
    """Have messages that were given up tried again; how many."""
    return connection.execute(_REVIVE, {"now": now}).rowcount


def read_messages(connection: Connection, n: int) -> list[Listed]:
    """The newest messages, newest first."""
    names = Listed.__dataclass_fields__
    rows = connection.execute(_LISTED, {"n": n})
    return [Listed(**{name: row._mapping[name] for name in names}) for row in rows]


def count_waiting(connection: Connection) -> Waiting:
    row = connection.execute(_COUNTS).one()
    return Waiting(row.unsent + row.retried, row.failed)
