"""Accounts as the console lists them: gravest first, a page at a time, filtered. Stands after `reading`.

An account's place in the list is its decision and its evidence, so a page is found by an index however many accounts
there are, and the next one by the place where this one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from classifier.online import evidence_of
from classifier.reachback import review_places
from classifier.types import Decision
from classifier.verdicts import Thresholds, judge
from service.store.context_sums import Mix, began
from service.store.reading import WHOLE, Known, decided, has_links, known_accounts
from service.store.schema import account_organisations, accounts, members, reviews, uses

ORDER = (Decision.FLAG, Decision.REVIEW, Decision.CLEAR, Decision.INSUFFICIENT_EVIDENCE)
"""Decisions, gravest first."""
CLOSING = ("confirmed", "dismissed", "exempted")
"""Reviews that say that nothing is left to decide, as long as they last."""
FEW = 1_000
"""Accounts that are looked up by their numbers; where more fulfil a condition, they are met soon."""
_CHUNK = 200


@dataclass(frozen=True)
class Place:
    """Where in the list an account stands: its section of ORDER, what orders it there, and its number."""

    section: int
    key: float
    account_no: int


@dataclass(frozen=True)
class Listing:
    """Which accounts are listed; None: any. Times in us; `search`: part of the id; `began`: the hour in which they
    were first seen, and their mix; `open_at`: without a closing review at that time."""

    decision: Decision | None = None
    capability: str | None = None
    family: str | None = None
    campaign_id: str | None = None
    seen_since: int | None = None
    search: str | None = None
    org_id: str | None = None
    began: tuple[int, Mix] | None = None
    open_at: int | None = None


@dataclass(frozen=True)
class Hits:
    """A condition on accounts, and the query for the numbers of those that fulfil it."""

    condition: ColumnElement[bool]
    numbers: Select[tuple[int]]


@dataclass(frozen=True)
class Ranked:
    """A page: accounts, and the place of the last one if more follow."""

    accounts: list[Known]
    following: Place | None


def read_ranked(connection: Connection, asked: Listing, thresholds: Thresholds, after: Place | None, n: int) -> Ranked:
    """At most n accounts, those after a place."""
    found: list[tuple[Place, Known]] = []
    walk = _Walk(connection, asked, thresholds)
    for pair in walk.after(after, n + 1):
        if len(found) == n:
            return Ranked([one for _, one in found], found[-1][0])
        found.append(pair)
    return Ranked([one for _, one in found], None)


def read_numbered(connection: Connection, numbers: Sequence[int]) -> list[Known]:
    """Accounts by their numbers, in that order; those that are there."""
    query = WHOLE.where(accounts.c.account_no.in_(numbers))
    found = {one.totals["account_no"]: one for one in known_accounts(connection, connection.execute(query).all())}
    return [found[number] for number in numbers if number in found]


class _Walk:
    """Accounts in the order of the list, read as they are asked for."""

    def __init__(self, connection: Connection, asked: Listing, thresholds: Thresholds) -> None:
        self._connection, self._asked, self._thresholds = connection, asked, thresholds
        self._has_links = has_links(connection)
        self._conditions = [self._narrowed(one) for one in _conditions(asked, connection.dialect.name)]

    def after(self, place: Place | None, n: int) -> Iterator[tuple[Place, Known]]:
        """Those after a place; n are read at once, unless the capability is asked, which a state alone tells."""
        size = max(n, _CHUNK) if self._asked.capability is not None else n
        for section in range(place.section if place is not None else 0, len(ORDER)):
            if not self._has(ORDER[section]):
                continue
            at = place if place is not None and place.section == section else None
            while chunk := self._section(section, at, size):
                for at, known in chunk:
                    if self._is_asked(known):
                        yield at, known
                if len(chunk) < size:
                    break

    def _has(self, decision: Decision) -> bool:
        """Whether accounts of a decision can be among those asked for."""
        judged = decision in (Decision.FLAG, Decision.REVIEW)
        return self._asked.decision in (None, decision) and (judged or self._asked.capability is None)

    def _is_asked(self, known: Known) -> bool:
        if self._asked.capability is None:
            return True
        found = review_places(judge(evidence_of(known.state), self._thresholds), {0: known.links})
        return self._asked.capability in found.capabilities[0]

    def _section(self, section: int, after: Place | None, n: int) -> list[tuple[Place, Known]]:
        decision, number = ORDER[section], accounts.c.account_no
        name = "log_review" if decision is Decision.REVIEW else "log_max_e"
        key, conditions = accounts.c[name], [decided(decision, self._thresholds, self._has_links), *self._conditions]
        if after is not None:
            conditions.append(tuple_(key, number) < tuple_(after.key, after.account_no))
        query = WHOLE.where(*conditions).order_by(key.desc(), number.desc()).limit(n)
        found = known_accounts(self._connection, self._connection.execute(query).all())
        return [(Place(section, one.totals[name], one.totals["account_no"]), one) for one in found]

    def _narrowed(self, hits: Hits) -> ColumnElement[bool]:
        """The condition as a list of numbers, if few accounts fulfil it: the list is then walked by these alone."""
        numbers = self._connection.execute(hits.numbers.limit(FEW + 1)).scalars().all()
        return accounts.c.account_no.in_(numbers) if len(numbers) <= FEW else hits.condition


def _conditions(asked: Listing, dialect: str) -> list[Hits]:
    """What is asked, but for what decides the section."""
    number, found = accounts.c.account_no, list[Hits]()
    if asked.family is not None:
        users = select(uses.c.account_no).distinct().where(uses.c.family == asked.family)
        found.append(Hits(number.in_(users), users))
    if asked.campaign_id is not None:
        own = select(members.c.account_no).where(members.c.campaign_id == asked.campaign_id)
        found.append(Hits(number.in_(own), own))
    if asked.org_id is not None:
        theirs = select(account_organisations.c.account_no).where(account_organisations.c.org_id == asked.org_id)
        found.append(Hits(number.in_(theirs), theirs))
    if asked.began is not None:
        found.append(_of(began(*asked.began)))
    if asked.seen_since is not None:
        found.append(_of(accounts.c.last_seen >= asked.seen_since))
    if asked.search is not None:
        contains = accounts.c.account_id.contains if dialect == "sqlite" else accounts.c.account_id.icontains
        found.append(_of(contains(asked.search, autoescape=True)))  # LIKE of SQLite knows no case, and is faster
    if asked.open_at is not None:
        open_ = number.not_in(_closed(asked.open_at))
        found.append(_of(open_))
    return found


def _of(condition: ColumnElement[bool]) -> Hits:
    return Hits(condition, select(accounts.c.account_no).where(condition))


def _closed(now: int) -> Select[tuple[int]]:
    """Numbers of the accounts whose newest standing review leaves nothing to decide."""
    standing = select(func.max(reviews.c.review_no)).where((reviews.c.until.is_(None)) | (reviews.c.until > now))
    newest = standing.group_by(reviews.c.account_no)
    return select(reviews.c.account_no).where(reviews.c.review_no.in_(newest), reviews.c.state.in_(CLOSING))
