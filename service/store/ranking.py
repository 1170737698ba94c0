"""Accounts as the console lists them: gravest first, a page at a time, filtered. Stands after `reading`.

An account's place in the list is its decision and its evidence, so a page is found by an index however many accounts
there are, and the next one by the place where this one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from classifier.online import evidence_of, stack_states
from classifier.types import Decision
from classifier.verdicts import Thresholds, judge
from service.store.reading import WHOLE, Known, decided, known_accounts
from service.store.schema import accounts, members, reviews, uses

ORDER = (Decision.FLAG, Decision.REVIEW, Decision.CLEAR, Decision.INSUFFICIENT_EVIDENCE)
"""Decisions, gravest first."""
CLOSING = ("confirmed", "dismissed", "exempted")
"""Reviews that say that nothing is left to decide, as long as they last."""
_CHUNK = 200


@dataclass(frozen=True)
class Place:
    """Where in the list an account stands: its section of ORDER, what orders it there, and its number."""

    section: int
    key: float
    account_no: int


@dataclass(frozen=True)
class Listing:
    """Which accounts are listed; None: any. Times in us; `search`: part of the id; `open_at`: without a closing review
    at that time."""

    decision: Decision | None = None
    capability: str | None = None
    family: str | None = None
    campaign_id: str | None = None
    seen_since: int | None = None
    search: str | None = None
    open_at: int | None = None


@dataclass(frozen=True)
class Ranked:
    """A page: accounts, and the place of the last one if more follow."""

    accounts: list[Known]
    following: Place | None


def read_ranked(connection: Connection, asked: Listing, thresholds: Thresholds, after: Place | None, n: int) -> Ranked:
    """At most n accounts, those after a place."""
    found: list[tuple[Place, Known]] = []
    for pair in _walk(connection, asked, thresholds, after, n + 1):
        if len(found) == n:
            return Ranked([one for _, one in found], found[-1][0])
        found.append(pair)
    return Ranked([one for _, one in found], None)


def read_numbered(connection: Connection, numbers: Sequence[int]) -> list[Known]:
    """Accounts by their numbers, in that order; those that are there."""
    query = WHOLE.where(accounts.c.account_no.in_(numbers))
    found = {one.totals["account_no"]: one for one in known_accounts(connection, connection.execute(query).all())}
    return [found[number] for number in numbers if number in found]


def _walk(
    connection: Connection, asked: Listing, thresholds: Thresholds, after: Place | None, n: int
) -> Iterator[tuple[Place, Known]]:
    """Accounts in the order of the list, read as they are asked for."""
    for section in range(after.section if after is not None else 0, len(ORDER)):
        decision = ORDER[section]
        judged = decision in (Decision.FLAG, Decision.REVIEW)
        if (asked.decision is not None and asked.decision is not decision) or (asked.capability and not judged):
            continue
        place = after if after is not None and after.section == section else None
        size = _CHUNK if asked.capability is not None else n
        while True:
            chunk = _section(connection, asked, thresholds, decision, place, size)
            for one in chunk:
                place = Place(section, one.totals[_key(decision)], one.totals["account_no"])
                if asked.capability is None or asked.capability in _capabilities(one, thresholds):
                    yield place, one
            if len(chunk) < size:
                break


def _section(
    connection: Connection, asked: Listing, thresholds: Thresholds, decision: Decision, after: Place | None, n: int
) -> list[Known]:
    key = accounts.c[_key(decision)]
    conditions = [decided(decision, thresholds), *_conditions(asked)]
    if after is not None:
        conditions.append(tuple_(key, accounts.c.account_no) < tuple_(after.key, after.account_no))
    query = WHOLE.where(*conditions).order_by(key.desc(), accounts.c.account_no.desc()).limit(n)
    return known_accounts(connection, connection.execute(query).all())


def _key(decision: Decision) -> str:
    return "log_review" if decision is Decision.REVIEW else "log_max_e"


def _conditions(asked: Listing) -> list[ColumnElement[bool]]:
    number = accounts.c.account_no
    found: list[ColumnElement[bool]] = []
    if asked.family is not None:
        found.append(number.in_(select(uses.c.account_no).where(uses.c.family == asked.family)))
    if asked.campaign_id is not None:
        found.append(number.in_(select(members.c.account_no).where(members.c.campaign_id == asked.campaign_id)))
    if asked.seen_since is not None:
        found.append(accounts.c.last_seen >= asked.seen_since)
    if asked.search is not None:
        hits = select(accounts.c.account_no).where(accounts.c.account_id.icontains(asked.search, autoescape=True))
        found.append(number.in_(hits))
    if asked.open_at is not None:
        found.append(number.not_in(_closed(asked.open_at)))
    return found


def _closed(now: int) -> ColumnElement[bool]:
    """Numbers of the accounts whose newest standing review leaves nothing to decide."""
    standing = select(func.max(reviews.c.review_no)).where((reviews.c.until.is_(None)) | (reviews.c.until > now))
    newest = standing.group_by(reviews.c.account_no)
    closing = select(reviews.c.account_no).where(reviews.c.review_no.in_(newest), reviews.c.state.in_(CLOSING))
    return closing  # type: ignore[return-value]


def _capabilities(known: Known, thresholds: Thresholds) -> tuple[str, ...]:
    return judge(evidence_of(stack_states([known.state])), thresholds).capabilities[0]
