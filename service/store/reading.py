"""Accounts as analysts read them: lists by page, one with all that is held against it. Stands after `recording`.

Reading never changes a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, and_, false, or_, select, text

from classifier.online import STATE, States, empty_states
from classifier.reachback import Link
from classifier.types import Decision
from classifier.verdicts import Thresholds
from service.store.campaigns import links_by_account
from service.store.codec import Unit
from service.store.exemptions import Exempted, excused, read_exempted
from service.store.schema import LEAST_LOG_M, LEAST_LOG_REVIEW, accounts, links, members, reviews, states, uses
from service.store.statements import lookup

_USED = (
    "SELECT u.account_no, u.family, u.technique, u.n_prompts FROM {keys} "
    "JOIN uses u ON u.account_no = CAST(k.value ->> 0 AS BIGINT)"
)
_REVIEWED = (
    "SELECT r.* FROM {keys} JOIN reviews r ON r.account_no = CAST(k.value ->> 0 AS BIGINT) ORDER BY r.review_no DESC"
)

_LINKED = (
    "SELECT a.account_id, l.* FROM {keys} JOIN links l ON l.account_no = CAST(k.value ->> 0 AS BIGINT) "
    "JOIN accounts a ON a.account_no = l.account_no"
)

WHOLE: Select[Any] = (
    select(accounts, states.c.state, members.c.campaign_id, members.c.linked)
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
    """What the store knows of an account. `families`, `techniques`: by prompts, most first; `reviews`: newest first;
    `is_counted`: whether it is one of its campaign's accounts, or shown with them alone; `links`: what it sent of local
    families before they were approved; `exempted`: told by `read_account` alone."""

    totals: Mapping[str, Any]
    state: States  # [1]
    campaign_id: str | None
    families: Sequence[str]
    techniques: Sequence[str]
    reviews: Sequence[Review]
    is_counted: bool = False
    links: Sequence[Link] = ()
    exempted: Sequence[Exempted] = ()

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
        conditions.append(decided(asked.decision, thresholds, has_links(connection)))
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
    if not found:
        return None
    return replace(found[0], exempted=read_exempted(connection, found[0].totals["account_no"], account_id))


def read_units(connection: Connection, account_no: int) -> list[Unit]:
    """All units of an account, as they count."""
    rows = connection.execute(text("SELECT * FROM units WHERE account_no = :no"), {"no": account_no})
    return list(excused(connection, [Unit(*row) for row in rows]))


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


def has_links(connection: Connection) -> bool:
    """Whether any account is linked: then `decided` must ask."""
    return connection.execute(select(links.c.account_no).limit(1)).first() is not None


def decided(decision: Decision, thresholds: Thresholds, linked: bool) -> ColumnElement[bool]:
    """`judge` and `review_linked` in SQL, so that a page is found without reading all accounts; a test holds them
    together. `linked`: whether there are any links."""
    m, review = accounts.c.log_max_e, accounts.c.log_review
    flagged = m >= thresholds.log_flag
    reviewed = review >= thresholds.log_review
    few = accounts.c.n_units < thresholds.minimum_units
    is_linked = accounts.c.account_no.in_(select(links.c.account_no)) if linked else false()
    by_index = and_(text(f"accounts.log_review >= {LEAST_LOG_REVIEW}"), reviewed)
    return {
        Decision.FLAG: and_(text(f"accounts.log_max_e >= {LEAST_LOG_M}"), flagged),  # as the index has it
        Decision.REVIEW: and_(or_(by_index, is_linked), ~flagged) if linked else and_(by_index, ~flagged),
        Decision.CLEAR: and_(~flagged, ~reviewed, ~few, ~is_linked),
        Decision.INSUFFICIENT_EVIDENCE: and_(~flagged, ~reviewed, few, ~is_linked),
    }[decision]


def known_accounts(connection: Connection, rows: Sequence[Any]) -> list[Known]:
    keys = [(row.account_no,) for row in rows]
    used: dict[int, list[Any]] = {}
    for one in lookup(connection, _USED, keys) if rows else ():
        used.setdefault(one.account_no, []).append(one)
    reviewed: dict[int, list[Review]] = {}
    for one in lookup(connection, _REVIEWED, keys) if rows else ():
        reviewed.setdefault(one.account_no, []).append(Review(one.state, one.reason, one.author, one.until, one.at))
    linked = links_by_account(lookup(connection, _LINKED, keys) if rows else ())
    found = []
    for row in rows:
        totals = dict(row._mapping)
        state, campaign, is_linked = (totals.pop(name) for name in ("state", "campaign_id", "linked"))
        own = used.get(row.account_no, [])
        found.append(
            Known(
                totals=totals,
                state=np.frombuffer(state, STATE) if state is not None else empty_states(1),
                campaign_id=campaign,
                families=_most([(one.family, one.n_prompts) for one in own]),
                techniques=_most([(one.technique, one.n_prompts) for one in own if one.technique]),
                reviews=reviewed.get(row.account_no, []),
                is_counted=campaign is not None and not is_linked,
                links=linked.get(row.account_no, []),
            )
        )
    return found


def _most(counts: Sequence[tuple[str, int]]) -> list[str]:
    """Names by their sums, most first."""
    sums: dict[str, int] = {}
    for name, n in counts:
        sums[name] = sums.get(name, 0) + n
    return sorted(sums, key=lambda name: (-sums[name], name))
