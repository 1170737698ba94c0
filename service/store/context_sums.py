"""Context summed up for the console: models, organisations, and accounts that began together. Never evidence.

Stands after `context` and `overview`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from sqlalchemy import ColumnElement, Connection, Text, and_, bindparam, case, func, select, text

from classifier.units import DAY_US
from classifier.verdicts import Thresholds
from service.store.schema import accounts, end_users
from service.store.sketch import count, merged

HOUR_US = 3_600_000_000
MIX_STEPS = 4
"""Shares of a capability mix are rounded to quarters."""
LEAST_PROMPTS = 10
"""Prompts of an account whose capability mix says something."""
LEAST_TOGETHER, TIMES_USUAL = 5, 5
"""Accounts that begin in one hour with one mix are shown from so many on, and from so many times the usual."""
SHOWN = 50
BEFORE_DAYS, AFTER_DAYS = 7, 2
"""Around the first day of a model: where accounts sent extraction before, and where they did from that day on."""

_MODEL_DAYS = text(
    "SELECT day, model, sum(n_prompts) AS n_prompts, sum(n_matched) AS n_matched FROM model_days GROUP BY day, model "
    "ORDER BY day, model"
)
_ACCOUNT_MODELS = text(
    "SELECT model, sum(n_prompts) AS n_prompts, sum(n_matched) AS n_matched, min(day) AS first_day, max(day) AS "
    "last_day FROM account_models WHERE account_no = :no GROUP BY model ORDER BY min(day), model"
)
_ACCOUNT_ORGANISATIONS = text(
    "SELECT org_id, n_prompts, n_matched FROM account_organisations WHERE account_no = :no "
    "ORDER BY n_prompts DESC, org_id LIMIT 20"
)
_ORGANISATIONS = text(
    "SELECT o.org_id, count(*) AS n_accounts, sum(o.n_prompts) AS n_prompts, sum(o.n_matched) AS n_matched FROM "
    "account_organisations o GROUP BY o.org_id ORDER BY count(*) DESC, o.org_id LIMIT :n"
)
_FLAGGED = text(
    "SELECT o.org_id, count(*) AS n_flagged FROM accounts a JOIN account_organisations o "
    "ON o.account_no = a.account_no WHERE a.log_max_e >= 4 AND a.log_max_e >= :m GROUP BY o.org_id"
)
_SKETCHES = text(
    "SELECT o.org_id, e.sketch FROM account_organisations o JOIN end_users e ON e.account_no = o.account_no "
    "WHERE o.org_id IN :names"
).bindparams(bindparam("names", type_=Text(), expanding=True))
_MOVES = text(
    "SELECT account_no, "
    "sum(CASE WHEN day >= :day AND model = :model THEN n_matched ELSE 0 END) AS here, "
    "sum(CASE WHEN day >= :day AND model <> :model THEN n_matched ELSE 0 END) AS elsewhere "
    "FROM account_models WHERE n_matched > 0 AND day >= :before AND day < :end GROUP BY account_no "
    "HAVING sum(CASE WHEN day < :day AND model <> :model THEN n_matched ELSE 0 END) > 0"
)


@dataclass(frozen=True)
class ModelDay:
    """Prompts to a model on a day (since 1970), and of them those that match a known template."""

    day: int
    model: str
    n_prompts: int
    n_matched: int


@dataclass(frozen=True)
class ModelUse:
    """An account's use of a model, from its first to its last day."""

    model: str
    n_prompts: int
    n_matched: int
    first_day: int
    last_day: int


@dataclass(frozen=True)
class Organisation:
    """Accounts of an organisation, those flagged of them, what they sent, and about how many end users they have."""

    org_id: str
    n_accounts: int
    n_flagged: int
    n_prompts: int
    n_matched: int
    n_users: int


@dataclass(frozen=True)
class Mix:
    """Shares of coding, agentic reasoning and planning among an account's prompts, in quarters."""

    coding: int
    agentic_reasoning: int
    long_horizon_planning: int


@dataclass(frozen=True)
class Beginning:
    """Accounts that were first seen in the same hour (since 1970) with the same mix, from a first to a last one (us);
    `usual`: how many of that mix begin in an hour."""

    hour: int
    mix: Mix
    n_accounts: int
    n_flagged: int
    usual: float
    first: int
    last: int
    n_prompts: int
    n_matched: int


@dataclass(frozen=True)
class ContextSums:
    """Of all accounts."""

    models: Sequence[ModelDay]
    organisations: Sequence[Organisation]
    beginnings: Sequence[Beginning]


@dataclass(frozen=True)
class Moves:
    """Accounts that sent extraction to other models in the BEFORE_DAYS before a model's first day, and of them those
    that sent at least half of theirs to it within AFTER_DAYS from that day on, by number."""

    n_before: int
    moved: Sequence[int]


def read_context_sums(connection: Connection, thresholds: Thresholds) -> ContextSums:
    """Takes a second at scale."""
    days = [
        ModelDay(one.day, one.model, int(one.n_prompts), int(one.n_matched)) for one in connection.execute(_MODEL_DAYS)
    ]
    return ContextSums(days, _organisations(connection, thresholds), _beginnings(connection, thresholds))


def read_moves(connection: Connection, model: str, first_day: int) -> Moves:
    """Who moved extraction to a model when it came."""
    given = {"model": model, "day": first_day, "before": first_day - BEFORE_DAYS, "end": first_day + AFTER_DAYS}
    rows = connection.execute(_MOVES, given).all()
    return Moves(len(rows), [one.account_no for one in rows if one.here and one.here >= one.elsewhere])


def read_account_models(connection: Connection, account_no: int) -> list[ModelUse]:
    """Models of an account, in the order in which it came to them."""
    rows = connection.execute(_ACCOUNT_MODELS, {"no": account_no})
    return [ModelUse(one.model, int(one.n_prompts), int(one.n_matched), one.first_day, one.last_day) for one in rows]


def read_account_organisations(connection: Connection, account_no: int) -> list[str]:
    """Organisations of an account, those that it sent most for first."""
    return [one.org_id for one in connection.execute(_ACCOUNT_ORGANISATIONS, {"no": account_no})]


def read_n_users(connection: Connection, numbers: Sequence[int]) -> dict[int, int]:
    """About how many end users accounts have, by number; those with any."""
    rows = connection.execute(
        select(end_users.c.account_no, end_users.c.n_users).where(end_users.c.account_no.in_(numbers))
    )
    return {one.account_no: one.n_users for one in rows}


def read_most_users(connection: Connection, n: int) -> list[int]:
    """Numbers of the accounts with most end users; no account with one alone."""
    query = select(end_users.c.account_no).where(end_users.c.n_users > 1).order_by(end_users.c.n_users.desc()).limit(n)
    return list(connection.execute(query).scalars())


def began(hour: int, mix: Mix) -> ColumnElement[bool]:
    """Accounts of a `Beginning`."""
    shares = zip(_shares(), (mix.coding, mix.agentic_reasoning, mix.long_horizon_planning), strict=True)
    first = accounts.c.first_seen
    return and_(
        *(first >= hour * HOUR_US, first < (hour + 1) * HOUR_US, accounts.c.n_prompts >= LEAST_PROMPTS),
        *(share == value for share, value in shares),
    )


def _shares() -> list[ColumnElement[int]]:
    """Coding, agentic reasoning and planning, each in quarters of an account's prompts."""
    names = ("n_coding", "n_agentic_reasoning", "n_long_horizon_planning")
    n = accounts.c.n_prompts
    return [(MIX_STEPS * accounts.c[name] + n // 2) // n for name in names]


def _organisations(connection: Connection, thresholds: Thresholds) -> list[Organisation]:
    rows = connection.execute(_ORGANISATIONS, {"n": SHOWN}).all()
    flagged = {one.org_id: one.n_flagged for one in connection.execute(_FLAGGED, {"m": thresholds.log_flag})}
    sketches: dict[str, list[bytes]] = {}
    for one in connection.execute(_SKETCHES, {"names": [row.org_id for row in rows]}):
        sketches.setdefault(one.org_id, []).append(one.sketch)
    found = [
        Organisation(
            one.org_id,
            one.n_accounts,
            flagged.get(one.org_id, 0),
            int(one.n_prompts),
            int(one.n_matched),
            count(merged(sketches.get(one.org_id, []))),
        )
        for one in rows
    ]
    return sorted(found, key=lambda one: (-one.n_flagged, -one.n_accounts, one.org_id))


def _beginnings(connection: Connection, thresholds: Thresholds) -> list[Beginning]:
    hour = (accounts.c.first_seen // HOUR_US).label("hour")
    keys = [hour, *(share.label(f"share_{i}") for i, share in enumerate(_shares()))]
    flagged = func.sum(case((accounts.c.log_max_e >= thresholds.log_flag, 1), else_=0)).label("n_flagged")
    sums = [
        *(func.count().label("n"), flagged),
        *(func.min(accounts.c.first_seen).label("first"), func.max(accounts.c.first_seen).label("last")),
        *(func.sum(accounts.c.n_prompts).label("n_prompts"), func.sum(accounts.c.n_matched).label("n_matched")),
    ]
    rows = connection.execute(select(*keys, *sums).where(accounts.c.n_prompts >= LEAST_PROMPTS).group_by(*keys)).all()
    if not rows:
        return []
    start, of_mix = min(row.hour for row in rows), dict[Mix, int]()
    for row in rows:
        of_mix[_mix(row)] = of_mix.get(_mix(row), 0) + row.n
    n_hours = max(row.hour for row in rows) - start + 1
    found = [
        Beginning(
            *(row.hour, _mix(row), row.n, int(row.n_flagged), of_mix[_mix(row)] / n_hours),
            *(row.first, row.last, int(row.n_prompts), int(row.n_matched)),
        )
        for row in rows
        if row.hour * HOUR_US >= start * HOUR_US + DAY_US  # on the first day everybody begins
    ]
    together = [one for one in found if one.n_accounts >= max(LEAST_TOGETHER, TIMES_USUAL * one.usual)]
    return sorted(together, key=lambda one: -one.n_accounts * log(one.n_accounts / one.usual))[:SHOWN]


def _mix(row: object) -> Mix:
    return Mix(*(int(getattr(row, f"share_{i}")) for i in range(3)))
