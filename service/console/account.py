"""One account: its verdict and why, what it sent and when, what it belongs to, and its reviews. After `pages`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from classifier.types import LEVELS, TARGETS, Channel
from classifier.units import DAY_US
from service.console.evidence_path import EvidencePath, evidence_path
from service.console.pages import PageRoute, page, who_of
from service.console.plots import day_counts, path_figure
from service.console.review_words import EFFECTS, ending_words, verdict_sentence
from service.console.signature_rows import FamilyFacts, families_of
from service.console.standing import Standing, moment_of, standing_of
from service.http.access import service_of
from service.http.accounts_view import account_detail
from service.http.problems import Problem
from service.http.service import Service
from service.report_plots import activity, activity_figure
from service.report_types import Account
from service.report_view import account_views, activity_summary
from service.report_words import title_of
from service.store.codec import Unit, levels_of
from service.store.context_sums import ModelUse, read_account_models, read_account_organisations, read_n_users
from service.store.erasure import account_digest
from service.store.excerpts import Excerpt, read_excerpts
from service.store.overview import DaySums, read_account_days
from service.store.ranking import Listing, read_ranked
from service.store.reading import Known, Review, read_account, read_units

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LINKED = 8
SHADES = 5
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOUR_US, _DAY_HOURS = 3_600_000_000, 24
_FIRST_WEEKDAY = 3  # 1 January 1970 was a Thursday


@dataclass(frozen=True)
class FamilyRow:
    """What an account matched of a family: distinct prompts, and from when to when. `tier` None: not known to
    this bundle and catalogue; `n_excused` count for nothing."""

    family: str
    tier: str | None
    technique: str | None
    n_units: int
    n_excused: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True)
class EventRow:
    """An event that says much, and what it says."""

    event_id: str
    at: datetime
    said: str


@dataclass(frozen=True)
class Seen:
    """All that the pages of an account are made of."""

    known: Known
    account: Account
    reasons: list[str]
    events: list[EventRow]
    families: list[FamilyRow]
    days: list[DaySums]
    path: EvidencePath
    rhythm: list[list[int]]
    linked: list[Account]
    models: list[ModelUse]
    organisations: list[str]
    n_users: int


@router.get("/account")
def show_account(request: Request, id: str = "", excerpts: str = "") -> Response:
    """Everything that is known of an account; excerpts, where any are kept, for who asks for them."""
    return account_page(request, id, 200, None, with_excerpts=bool(excerpts))


def account_page(
    request: Request,
    account_id: str,
    status: int,
    problem: str | None,
    with_excerpts: bool = False,
    given: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """The page; `problem`: why a review was not taken, of which the form had what is `given`."""
    service, standing = service_of(request), standing_of(request)
    seen = look(service, standing, account_id)
    periods = activity(day_counts(seen.days, False))
    threshold = seen.account.log10_threshold
    return page(
        request,
        "account",
        status=status,
        problem=problem,
        given=given,
        seen=seen,
        row=account_views([seen.account], "row", {})[0],
        sentence=verdict_sentence(seen.account),
        linked=account_views(seen.linked, "linked", {}),
        campaign=next((c for c in standing.campaigns if c.campaign_id == seen.account.campaign_id), None),
        reviews=[_review(one) for one in seen.known.reviews],
        effects=EFFECTS,
        periods=periods,
        activity_summary=activity_summary(periods).replace("all other accounts", "this account"),
        most=max((max(row) for row in seen.rhythm), default=0),
        shades=SHADES,
        weekdays=WEEKDAYS,
        day_us=DAY_US,
        excerpts=_excerpts(request, seen) if with_excerpts and service.settings.excerpt_hours else None,
        figures={"path": path_figure(seen.path, threshold), "mix": activity_figure(periods, ("", "This account"))},
    )


@router.get("/account/sheet")
def show_sheet(request: Request, id: str = "") -> Response:
    """The evidence on a page to print, for the customer or the lawyer."""
    service, standing = service_of(request), standing_of(request)
    seen, pipeline = look(service, standing, id), service.scorer.pipeline
    return page(
        request,
        "sheet",
        seen=seen,
        row=account_views([seen.account], "row", {})[0],
        sentence=verdict_sentence(seen.account),
        reviews=[_review(one) for one in seen.known.reviews],
        curve=_curve(seen.path, seen.account.log10_threshold),
        m1=service.scorer.pipeline.baselines.m1,
        population=standing.thresholds.population,
        as_of=standing.published.as_of,
        bundle_id=pipeline.bundle_id,
        catalogue_id=pipeline.catalogue_id,
    )


def look(service: Service, standing: Standing, account_id: str) -> Seen:
    """Read an account. Raises Problem 404 if it was never seen."""
    pipeline, campaigns = service.scorer.pipeline, standing.campaigns
    with service.store.reading() as connection:
        known = read_account(connection, account_id)
        if known is None:
            raise Problem(404, "unknown-account", "There is no such account: nothing of it was seen, or it was erased.")
        number = known.totals["account_no"]
        units, days = read_units(connection, number), read_account_days(connection, number)
        models, organisations = read_account_models(connection, number), read_account_organisations(connection, number)
        users = read_n_users(connection, [number])
        of_campaign = Listing(campaign_id=known.campaign_id)
        around = (
            read_ranked(connection, of_campaign, standing.thresholds, None, LINKED + 1).accounts
            if known.campaign_id is not None
            else []
        )
    sizes = {one.campaign_id: one.n_accounts for one in campaigns}
    detail = account_detail(
        known,
        units,
        standing.thresholds,
        standing.snapshot().flag_times,
        pipeline.baselines,
        sizes.get(known.campaign_id, 0) if known.campaign_id is not None else 0,
    )
    return Seen(
        known=known,
        account=standing.accounts_of([known])[0],
        reasons=detail["reasons"],
        events=_events(units, detail["evidence_event_ids"]),
        families=_families(units, families_of(pipeline)),
        days=days,
        path=evidence_path(units, pipeline.baselines),
        rhythm=_rhythm(units),
        models=models,
        organisations=organisations,
        n_users=users.get(number, 0),
        linked=standing.accounts_of([one for one in around if one.totals["account_no"] != number][:LINKED]),
    )


def _excerpts(request: Request, seen: Seen) -> list[Excerpt]:
    """What is kept of the account's prompts; that it was read stands in the audit log."""
    service, totals = service_of(request), seen.known.totals
    digest = account_digest(totals["account_id"], service.scorer.pipeline.hash_key)
    with service.store.writing() as connection:
        return read_excerpts(connection, totals["account_no"], who_of(request), digest)


def _families(units: Sequence[Unit], known: Mapping[str, FamilyFacts]) -> list[FamilyRow]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.family is not None and unit.channel == Channel.SIGNATURE:
            found.setdefault(unit.family, []).append(unit)
    rows = [
        FamilyRow(
            family,
            known.get(family, FamilyFacts(family)).tier,
            known.get(family, FamilyFacts(family)).technique,
            len(own),
            sum(not unit.y and not unit.y_public for unit in own),
            moment_of(min(unit.us for unit in own)),
            moment_of(max(unit.us for unit in own)),
        )
        for family, own in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.n_units, row.family))


def _events(units: Sequence[Unit], ids: Sequence[str]) -> list[EventRow]:
    """Rows of the strongest events, in the order of their ids."""
    place = {event_id: i for i, event_id in enumerate(ids)}
    best: dict[str, Unit] = {}
    for unit in sorted(units, key=lambda unit: unit.channel):
        if unit.event_id in place and (unit.y or unit.y_public or unit.levels):
            best.setdefault(unit.event_id, unit)
    rows = sorted(best.items(), key=lambda pair: place[pair[0]])
    return [EventRow(event_id, moment_of(unit.us), _said(unit)) for event_id, unit in rows]


def _said(unit: Unit) -> str:
    if unit.family is not None:
        targets = [title_of(name) for c, name in enumerate(TARGETS) if (unit.y | unit.y_public) >> c & 1]
        return f"matches {unit.family}" + (f", for {', '.join(targets)}" if targets else "")
    levels = levels_of(unit)
    strongest = max(range(len(TARGETS)), key=lambda c: levels[c])
    return f"looked made to harvest answers for {title_of(TARGETS[strongest])}, {levels[strongest]} of {LEVELS}"


def _rhythm(units: Sequence[Unit]) -> list[list[int]]:
    """Distinct prompts [7 weekdays][24 hours] by when each was first sent, UTC."""
    counts = Counter(unit.us // _HOUR_US for unit in units if unit.channel == Channel.SIGNATURE)
    grid = [[0] * _DAY_HOURS for _ in WEEKDAYS]
    for hour, n in counts.items():
        grid[(hour // _DAY_HOURS + _FIRST_WEEKDAY) % len(WEEKDAYS)][hour % _DAY_HOURS] += n
    return grid


def _review(review: Review) -> dict[str, Any]:
    return {
        "state": review.state,
        "reason": review.reason,
        "author": review.author,
        "at": moment_of(review.at),
        "ending": ending_words(review.until, time.time_ns() // 1000) if review.until is not None else None,
    }


def _curve(path: EvidencePath, threshold: float) -> dict[str, Any]:
    """The path as points of an SVG of 100 by 40, and the height of the threshold in it."""
    if not path.us:
        return {"points": "", "threshold": 0.0}
    begin, length = path.us[0], max(path.us[-1] - path.us[0], 1)
    low, high = min(0.0, *path.log10_e), max(threshold * 1.1, *path.log10_e, 1e-9)

    def height(value: float) -> float:
        return round(40 - 40 * (value - low) / (high - low), 2)

    pairs = zip(path.us, path.log10_e, strict=True)
    points = " ".join(f"{round(100 * (us - begin) / length, 2)},{height(value)}" for us, value in pairs)
    return {"points": points, "threshold": height(threshold)}
