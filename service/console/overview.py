"""The first page: what was found, campaigns, what is new, traffic over time, and how the service is. After `pages`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.console.pages import PageRoute, page
from service.console.plots import day_counts, share_figure, without
from service.console.standing import Snapshot, standing_of
from service.http.access import service_of
from service.report_plots import activity, activity_figure
from service.report_types import Totals
from service.report_view import account_views, activity_summary, finding, rest
from service.report_words import percent
from service.store.ranking import read_numbered

router = APIRouter(route_class=PageRoute, include_in_schema=False)

NEW_FLAGS = 8
CAMPAIGNS = 6


@router.get("/")
def show_overview(request: Request) -> Response:
    """What an analyst sees in the morning."""
    service, standing = service_of(request), standing_of(request)
    snapshot, campaigns, pipeline = standing.snapshot(), standing.campaigns, service.scorer.pipeline
    times = snapshot.flag_times
    newest = sorted(times, key=lambda number: (-times[number], number))[:NEW_FLAGS]
    with service.store.reading() as connection:
        fresh = standing.accounts_of(read_numbered(connection, newest))
    periods = activity(
        [*day_counts(snapshot.flagged_days, True), *day_counts(without(snapshot.days, snapshot.flagged_days), False)]
    )
    totals = _totals(snapshot, len(campaigns))
    return page(
        request,
        "overview",
        finding=finding(totals),
        rest=rest(totals),
        decisions=snapshot.decisions,
        campaigns=campaigns[:CAMPAIGNS],
        n_campaigns=len(campaigns),
        newest=account_views(fresh, "new", {}),
        periods=periods,
        activity_summary=activity_summary(periods),
        share_summary=_share_summary(snapshot),
        counts=service.metrics.counts(),
        as_of=standing.published.as_of,
        bundle_id=pipeline.bundle_id,
        catalogue_id=pipeline.catalogue_id,
        trouble=service.not_ready,
        population=standing.thresholds.population,
        figures={"activity": activity_figure(periods), "share": share_figure(snapshot.days)},
    )


def _totals(snapshot: Snapshot, n_campaigns: int) -> Totals:
    n_prompts = sum(sum(one.counts) for one in snapshot.days)
    return Totals(
        accounts=sum(snapshot.decisions.values()),
        prompts=n_prompts,
        decisions={str(decision): n for decision, n in snapshot.decisions.items()},
        flagged_for=dict(snapshot.flagged_for),
        linked=0,
        campaigns=n_campaigns,
        discovered=0,
        labels=n_prompts,
    )


def _share_summary(snapshot: Snapshot) -> str:
    """The plot of the share in a sentence."""
    n, matched = (
        sum(values) for values in ([sum(d.counts) for d in snapshot.days], [d.n_matched for d in snapshot.days])
    )
    if n == 0:
        return "Nothing was sent yet."
    return f"{matched:,} of {n:,} prompts ({percent(matched / n)}) match a known extraction template."
