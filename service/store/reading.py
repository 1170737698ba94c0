"""Accounts as analysts read them: lists by page, one with all that is held against it. Stands after `recording`.

Reading never changes a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, and_, select, text

from classifier.online import STATE, States, empty_states
from classifier.types import Decision
from classifier.verdicts import Thresholds
from service.store.codec import Unit
from service.store.schema import LEAST_LOG_M, LEAST_LOG_REVIEW, accounts, members, reviews, states, uses
from service.store.statements import lookup

_USED = (
    "SELECT u.account_no, u.family, u.technique, u.n_prompts FROM {keys} "
    "JOIN uses u ON u.account_no = CAST(k.value ->> 0 AS BIGINT)"
)
_REVIEWED = (
    "SELECT r.account_no, r.state, r.reason, r.author, r.until, r.at "
    "FROM {keys} JOIN reviews r ON r.account_no = CAST(k.value ->> 0 AS BIGINT) ORDER BY r.review_no DESC"
)

WHOLE: Select[Any] = (
    select(accounts, states.c.state, members.c.campaign_id)
    .outerjoin(states, states.c.account_no == accounts.c.account_no)
    .outerjoin(members, members.c.account_no == accounts.c.account_no)
)


@dataclass(frozen=True)
class Review:
    """What an analyst concluded of an account; times in us, `until` None: for good."""

    state: str
    reason: str
    author: str
    until: int | None
    at: int


@dataclass(frozen=True)
class Known:
    """What the store knows of an account. `families`, `techniques`: by prompts, most first; `reviews`: newest first."""

    totals: Mapping[str, Any]
    state: States  # [1]
    campaign_id: str | None
    families: Sequence[str]
    techniques: Sequence[str]
    reviews: Sequence[Review]

    def review_state(self, now: int) -> str | None:
        """The newest review's that has not ended."""
        return next((one.state for one in self.reviews if one.until is None or one.until > now), None)


@dataclass(frozen=True)
class Filter:
    """Which accounts are listed; None: any. `seen_since` in us."""

    decision: Decision | None = None
    campaign_id: str | None = None
    family: str | None = None
    seen_since: int | None = None


def read_page(connection: Connection, asked: Filter, thresholds: Thresholds, after: str, n: int) -> list[Known]:
    """Accounts by id, at most n, those after an id."""
    conditions: list[ColumnElement[bool]] = [accounts.c.account_id > after]
    if asked.decision is not None:
        conditions.append(decided(asked.decision, thresholds))
    if asked.campaign_id is not None:
        conditions.append(members.c.campaign_id == asked.campaign_id)
    if asked.family is not None:
        conditions.append(accounts.c.account_no.in_(select(uses.c.account_no).where(uses.c.family == asked.family)))
    if asked.seen_since is not None:
        conditions.append(accounts.c.last_seen >= asked.seen_since)
    query = WHOLE.where(*conditions).order_by(accounts.c.account_id).limit(n)
    return known_accounts(connection, connection.execute(query).all())


def read_account(connection: Connection, account_id: str) -> Known | None:
    """One account; None if it was never seen."""
    query = WHOLE.where(accounts.c.account_id == account_id)
    found = known_accounts(connection, connection.execute(query).all())
    return found[0] if found else None


def read_units(connection: Connection, account_no: int) -> list[Unit]:
    """All units of an account."""
    rows = connection.execute(text("SELECT * FROM units WHERE account_no = :no"), {"no": account_no})
    return [Unit(*row) for row in rows]


def read_campaign_accounts(connection: Connection, campaign_id: str) -> list[str]:
    """Ids of a campaign's accounts, sorted."""
    query = (
        select(accounts.c.account_id)
        .join(members, members.c.account_no == accounts.c.account_no)
        .where(members.c.campaign_id == campaign_id)
        .order_by(accounts.c.account_id)
    )
    return list(connection.execute(query).scalars())


def add_review(connection: Connection, account_no: int, review: Review) -> None:
    connection.execute(reviews.insert(), {"account_no": account_no, **vars(review)})


def decided(decision: Decision, thresholds: Thresholds) -> ColumnElement[bool]:
    """`judge` in SQL, so that a page is found without reading all accounts; a test holds them together."""
    m, review = accounts.c.log_max_e, accounts.c.log_review
    flagged = m >= thresholds.log_flag
    reviewed = review >= thresholds.log_review
    few = accounts.c.n_units < thresholds.minimum_units
    return {
        Decision.FLAG: and_(text(f"accounts.log_max_e >= {LEAST_LOG_M}"), flagged),  # as the index has it
        Decision.REVIEW: and_(text(f"accounts.log_review >= {LEAST_LOG_REVIEW}"), reviewed, ~flagged),
        Decision.CLEAR: and_(~flagged, ~reviewed, ~few),
        Decision.INSUFFICIENT_EVIDENCE: and_(~flagged, ~reviewed, few),
    }[decision]


def known_accounts(connection: Connection, rows: Sequence[Any]) -> list[Known]:
    keys = [(row.account_no,) for row in rows]
    used: dict[int, list[tuple[str, str, int]]] = {}
    for number, *use in lookup(connection, _USED, keys) if rows else ():
        used.setdefault(number, []).append((use[0], use[1], use[2]))
    reviewed: dict[int, list[Review]] = {}
    for number, *review in lookup(connection, _REVIEWED, keys) if rows else ():
        reviewed.setdefault(number, []).append(Review(*review))
    found = []
    for row in rows:
        totals = dict(row._mapping)
        state, campaign = totals.pop("state"), totals.pop("campaign_id")
        own = used.get(row.account_no, [])
        found.append(
            Known(
                totals=totals,
                state=np.frombuffer(state, STATE) if state is not None else empty_states(1),
                campaign_id=campaign,
                families=_most([(family, n) for family, _, n in own]),
                techniques=_most([(technique, n) for _, technique, n in own if technique]),
                reviews=reviewed.get(row.account_no, []),
            )
        )
    return found


def _most(counts: Sequence[tuple[str, int]]) -> list[str]:
    """Names by their sums, most first."""
    sums: dict[str, int] = {}
    for name, n in counts:
        sums[name] = sums.get(name, 0) + n
    return sorted(sums, key=lambda name: (-sums[name], name))
