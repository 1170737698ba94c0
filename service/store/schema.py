"""The tables. Sizes are thought of for 250,000 accounts and 100 million units.

Times are microseconds since 1970 UTC. Unit and scaffold keys are unsigned 64-bit hashes, which neither database has:
`codec` alone turns them into the signed numbers that are stored. No column holds a prompt, but for `excerpts`, where
the operator opted in.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT

from classifier.types import TARGETS

LEAST_LOG_M, LEAST_LOG_REVIEW = 4, 2
"""Accounts below both are no part of the indexes by which thresholds are found: no M below 1/ALPHA can flag, no e below
1/REVIEW_ALPHA can be for review, whatever the population."""

COUNTED = (*(f"n_{name}" for name in TARGETS), "n_matched")
"""Columns of `accounts`, `traffic` and `day_totals`: prompts by the capability that they ask for, and of them those
that match a known template. Those of a capability that the migrations do not know `upgrade` adds."""

metadata = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # the only type that SQLite numbers by itself
_TEXT = Text().with_variant(TEXT(collation="C"), "postgresql")  # compared by bytes, as Arrow and SQLite do


def _table(name: str, *columns: Column[Any], clustered: bool = False) -> Table:
    """`clustered`: rows lie in the order of the key, in SQLite; PostgreSQL has no such tables."""
    return Table(name, metadata, *columns, sqlite_with_rowid=not clustered)


def _index(name: str, column: Column[Any], where: str) -> Index:
    """Of the rows alone that a condition holds for."""
    return Index(name, column, sqlite_where=text(where), postgresql_where=text(where))


def _counts(default: int | None = None) -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False, default=default) for name in COUNTED]


accounts = _table(
    "accounts",
    Column("account_no", _NUMBER, primary_key=True),
    Column("account_id", _TEXT, nullable=False, unique=True),
    Column("n_prompts", BigInteger, nullable=False, default=0),
    *_counts(default=0),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("n_units", BigInteger, nullable=False, default=0),
    Column("log_max_e", Double, nullable=False, default=0.0),
    Column("log_review", Double, nullable=False, default=0.0),
)
_index("accounts_by_m", accounts.c.log_max_e, f"log_max_e >= {LEAST_LOG_M}")
_index("accounts_by_review", accounts.c.log_review, f"log_review >= {LEAST_LOG_REVIEW}")
Index("accounts_by_evidence", accounts.c.log_max_e, accounts.c.account_no)  # the order in which analysts list them
Index("accounts_by_last_seen", accounts.c.last_seen)

states = _table(
    "states",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("state", LargeBinary, nullable=False),  # one record of classifier.online.STATE
    Column("last_event", _TEXT, nullable=False),  # (time, event_id) of what is folded last orders what comes
)

events = _table(
    "events",
    Column("id_high", BigInteger, primary_key=True, autoincrement=False),  # a 128-bit digest of the event id
    Column("id_low", BigInteger, primary_key=True, autoincrement=False),
    Column("account_no", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False, index=True),
    clustered=True,
)

units = _table(
    "units",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("us", BigInteger, nullable=False),
    Column("event_id", _TEXT, nullable=False),
    Column("y", SmallInteger, nullable=False),
    Column("y_public", SmallInteger, nullable=False),
    Column("matched", SmallInteger, nullable=False),
    Column("levels", SmallInteger, nullable=False),  # 3 bits a target, the first one highest
    Column("family", _TEXT),
    clustered=True,
)
_index("units_verified", units.c.us, "y > 0")
_index("units_early", units.c.us, "matched > 0 AND y = 0 AND y_public = 0")  # before an approval

activity = _table(  # when an account became active on a day: what family evidence counts
    "activity",
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("us", BigInteger, nullable=False),
    clustered=True,
)

days = _table(  # a number that grows whenever activity or verified matches of a day change
    "days",
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
)

records = _table(  # when M of an account rose, as far as it decides when the account was flagged
    "records",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("us", BigInteger, primary_key=True, autoincrement=False),
    Column("log_max_e", Double, nullable=False),
    clustered=True,
)

uses = _table(  # prompts of an account that match a family
    "uses",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("family", _TEXT, primary_key=True),
    Column("technique", _TEXT, primary_key=True),  # empty where the signature names none
    Column("scaffold", BigInteger, primary_key=True, autoincrement=False),
    Column("n_prompts", BigInteger, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    clustered=True,
)

Index("uses_by_family", uses.c.family, uses.c.account_no, uses.c.n_prompts, uses.c.first_seen, uses.c.last_seen)


traffic = _table(  # an account's prompts by the day of the event
    "traffic",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    *_counts(),
    clustered=True,
)

day_totals = _table(  # the same of all accounts; `part` keeps those who write at once from waiting for one another
    "day_totals",
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    *_counts(),
)

account_models = _table(  # an account's prompts by day and model: context, never evidence
    "account_models",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("model", _TEXT, primary_key=True),
    Column("n_prompts", BigInteger, nullable=False),
    Column("n_matched", BigInteger, nullable=False),
    clustered=True,
)
_index("account_models_matched", account_models.c.day, "n_matched > 0")

model_days = _table(  # the same of all accounts; `part` as in day_totals
    "model_days",
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("model", _TEXT, primary_key=True),
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("n_prompts", BigInteger, nullable=False),
    Column("n_matched", BigInteger, nullable=False),
    clustered=True,
)

account_organisations = _table(
    "account_organisations",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("org_id", _TEXT, primary_key=True),
    Column("n_prompts", BigInteger, nullable=False),
    Column("n_matched", BigInteger, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    clustered=True,
)
Index("accounts_by_organisation", account_organisations.c.org_id, account_organisations.c.account_no)

end_users = _table(  # how many there are, not who: see service.store.sketch
    "end_users",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("sketch", LargeBinary, nullable=False),
    Column("n_users", BigInteger, nullable=False),  # about, by the sketch
)
Index("end_users_by_number", end_users.c.n_users)

excerpts = _table(  # opt-in: redacted beginnings of the strongest events, for a while
    "excerpts",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", _TEXT, primary_key=True),
    Column("kept", BigInteger, nullable=False, index=True),
    Column("strength", Double, nullable=False),
    Column("excerpt", Text, nullable=False),
    clustered=True,
)

publication = _table(  # one row: what was last published, and who is about to publish
    "publication",
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("claimed_until", BigInteger, nullable=False),
    Column("campaigns", Text, nullable=False),  # JSON
)

members = _table(
    "members",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign_id", _TEXT, nullable=False, index=True),
    Column("linked", SmallInteger, nullable=False, server_default="0"),  # 1: shown in it, and not counted
)

links = _table(  # what accounts sent of local families before these were approved: no evidence
    "links",
    Column("account_no", BigInteger, primary_key=True, autoincrement=False),
    Column("family", _TEXT, primary_key=True),
    Column("n_units", BigInteger, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("approved_us", BigInteger, nullable=False),
    Column("target", _TEXT),
    clustered=True,
)

reviews = _table(
    "reviews",
    Column("review_no", _NUMBER, primary_key=True),
    Column("account_no", BigInteger, nullable=False, index=True),
    Column("state", _TEXT, nullable=False),
    Column("reason", _TEXT, nullable=False),
    Column("author", _TEXT, nullable=False),
    Column("until", BigInteger),
    Column("at", BigInteger, nullable=False),
)

exemptions = _table(  # an account's matches of a family, up to a time, that count for nothing
    "exemptions",
    Column("account_id", _TEXT, primary_key=True),  # agreed upon before the account was seen, some of them
    Column("family", _TEXT, primary_key=True),
    Column("origin", _TEXT, primary_key=True),
    Column("who", _TEXT, nullable=False),
    Column("why", _TEXT, nullable=False),
    Column("until", BigInteger, nullable=False),
    clustered=True,
)

imports = _table(  # parts of labelled runs that were imported, and how many of their events so far
    "imports",
    Column("part", _TEXT, primary_key=True),
    Column("n_events", BigInteger, nullable=False),
)

api_keys = _table(
    "api_keys",
    Column("key_id", _TEXT, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("role", _TEXT, nullable=False),
    Column("name", _TEXT, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
)

audit = _table(
    "audit",
    Column("audit_no", _NUMBER, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", _TEXT, nullable=False),
    Column("action", _TEXT, nullable=False),
    Column("subject", _TEXT, nullable=False),
)

facts = _table(  # what the store was begun with, and must go on with
    "facts",
    Column("name", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
)

announced = _table(  # what was told of, so that it is told once: a flag by its account id, and so on
    "announced",
    Column("kind", _TEXT, primary_key=True),
    Column("subject", _TEXT, primary_key=True),
    clustered=True,
)

deliveries = _table(  # a message to the receiver of alerts, until it is sent or given up
    "deliveries",
    Column("delivery_no", _NUMBER, primary_key=True),
    Column("message_id", _TEXT, nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("state", _TEXT, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try", BigInteger, nullable=False),
    Column("done", BigInteger),
    Column("reason", _TEXT),  # why the last try failed
)
Index("deliveries_by_state", deliveries.c.state, deliveries.c.next_try)

alerts = _table(
    "alerts",
    Column("alert_no", _NUMBER, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", _TEXT, nullable=False),
    Column("subject", _TEXT, nullable=False),
    Column("facts", Text, nullable=False),  # JSON, without prompts
    Column("delivery_no", BigInteger),  # the message it goes with; NULL: not yet in one
)
Index("alerts_by_delivery", alerts.c.delivery_no)
Index("alerts_by_subject", alerts.c.kind, alerts.c.subject)

leases = _table(  # which process does what only one may do, and until when
    "leases",
    Column("name", _TEXT, primary_key=True),
    Column("holder", _TEXT, nullable=False),
    Column("until", BigInteger, nullable=False),
)
