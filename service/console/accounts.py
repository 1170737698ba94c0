"""The list of accounts: gravest first, filtered, by pages, and as CSV. Stands after `pages`."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from classifier.types import CAPABILITIES, OTHER, TARGETS, Decision
from service.console.pages import PageRoute, page
from service.console.standing import Standing, standing_of
from service.http.access import service_of
from service.http.problems import Problem
from service.http.service import Service
from service.report_types import Account
from service.report_view import account_views
from service.store.context_sums import Mix
from service.store.ranking import Listing, Place, read_ranked

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PAGE = 50
CSV_PAGE = 500
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TARGET_FIELDS = ("log10_e_targets", "shares")
_LEFT_OUT = ("reasons", "evidence_event_ids")


@dataclass(frozen=True)
class Asked:
    """The filter as the form has it, all text; empty: any."""

    search: str = ""
    decision: str = ""
    capability: str = ""
    family: str = ""
    campaign: str = ""
    since: str = ""
    organisation: str = ""
    began: str = ""
    undecided: str = ""

    def listing(self) -> Listing:
        """Raises Problem 422 for what is no choice."""
        return Listing(
            decision=Decision(_choice("decision", self.decision, list(Decision))) if self.decision else None,
            capability=_choice("capability", self.capability, TARGETS) if self.capability else None,
            family=self.family if self.family else None,
            campaign_id=self.campaign if self.campaign else None,
            seen_since=_day("since", self.since) if self.since else None,
            org_id=self.organisation if self.organisation else None,
            began=_beginning(self.began) if self.began else None,
            search=self.search if self.search else None,
            open_at=time.time_ns() // 1000 if self.undecided else None,
        )


@router.get("/accounts")
def show_accounts(request: Request) -> Response:
    """A page of accounts."""
    asked = _asked(request.query_params)
    service, standing = service_of(request), standing_of(request)
    after = _place(request.query_params.get("after", ""))
    with service.store.reading() as connection:
        ranked = read_ranked(connection, asked.listing(), standing.thresholds, after, PAGE)
    rows = account_views(standing.accounts_of(ranked.accounts), "row", {})
    return page(
        request,
        "accounts",
        asked=asked,
        given={name: value for name, value in vars(asked).items() if value},
        rows=rows,
        is_first=after is None,
        following=_cursor(ranked.following) if ranked.following is not None else None,
        families=sorted(standing.snapshot().families),
        campaigns=[one.campaign_id for one in standing.campaigns],
        decisions=list(reversed(Decision)),
        capabilities=(*CAPABILITIES, OTHER),
    )


@router.get("/accounts.csv")
def export_accounts(request: Request) -> Response:
    """All accounts of the filter as CSV that no spreadsheet takes for formulas."""
    listing = _asked(request.query_params).listing()
    lines = _csv(service_of(request), standing_of(request), listing)
    headers = {"content-disposition": 'attachment; filename="accounts.csv"'}
    return StreamingResponse(lines, headers=headers, media_type="text/csv; charset=utf-8")


def _csv(service: Service, standing: Standing, listing: Listing) -> Iterator[str]:
    plain = [one.name for one in fields(Account) if one.name not in (*_TARGET_FIELDS, *_LEFT_OUT)]
    header = [*plain, *(f"log10_e_{name}" for name in TARGETS), *(f"share_{name}" for name in TARGETS)]
    yield _line(header)
    after: Place | None = None
    while True:
        with service.store.reading() as connection:
            ranked = read_ranked(connection, listing, standing.thresholds, after, CSV_PAGE)
        for one in standing.accounts_of(ranked.accounts):
            yield _line([*(getattr(one, name) for name in plain), *one.log10_e_targets, *one.shares])
        if ranked.following is None:
            return
        after = ranked.following


def _line(values: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return buffer.getvalue()


def _cell(value: object) -> object:
    """As a spreadsheet may show it: text that it would compute gets a quote before it."""
    if isinstance(value, datetime):
        return value.isoformat()
    text = " ".join(value) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text


def _asked(given: Mapping[str, str]) -> Asked:
    return Asked(**{one.name: given.get(one.name, "").strip()[:500] for one in fields(Asked)})


def _choice(name: str, value: str, known: list[Decision] | tuple[str, ...]) -> str:
    if value not in list(known):
        raise Problem(422, "bad-filter", f"{name} cannot be this: expected one of {', '.join(known)}.")
    return value


def _day(name: str, text: str) -> int:
    """The beginning of a day, us."""
    try:
        return round(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1e6)
    except ValueError:
        raise Problem(422, "bad-filter", f"{name} is no date: expected one such as 2027-01-31.") from None


def _beginning(text: str) -> tuple[int, Mix]:
    """The hour and mix of accounts that began together, as `beginning_key` wrote them."""
    try:
        hour, *shares = (int(part) for part in text.split("."))
        if not 0 <= hour < 10**7 or len(shares) != len(CAPABILITIES):
            raise ValueError
        return hour, tuple(shares)
    except ValueError:
        raise Problem(422, "bad-filter", "began cannot be this: follow a link of the page /beginnings.") from None


def _cursor(place: Place) -> str:
    return f"{place.section}_{place.key!r}_{place.account_no}"


def _place(text: str) -> Place | None:
    if not text:
        return None
    try:
        section, key, number = text.split("_")
        return Place(min(max(int(section), 0), 3), float(key), int(number))
    except ValueError:
        raise Problem(422, "bad-cursor", "This page of the list is not there: begin with the first.") from None
