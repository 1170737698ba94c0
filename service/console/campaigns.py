"""Campaigns, and one of them: its accounts over time, what they share, and the picture of who sent what."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.console.pages import PageRoute, page
from service.console.plots import MOST_DRAWN, growth_figure, network_figure
from service.console.signature_rows import FamilyFacts, families_of
from service.console.standing import standing_of
from service.http.access import service_of
from service.report_view import account_views
from service.store.overview import read_member_uses
from service.store.ranking import Listing, read_ranked

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHOWN = 25


@router.get("/campaigns")
def show_campaigns(request: Request) -> Response:
    """All campaigns, largest first."""
    return page(request, "campaigns", campaigns=standing_of(request).campaigns)


@router.get("/campaign")
def show_campaign(request: Request, id: str = "") -> Response:
    """A campaign."""
    service, standing = service_of(request), standing_of(request)
    campaign = standing.campaign(id)
    with service.store.reading() as connection:
        uses = read_member_uses(connection, id)
        ranked = read_ranked(connection, Listing(campaign_id=id), standing.thresholds, None, SHOWN)
    known = families_of(service.scorer.pipeline)
    per_family: dict[str, list[int]] = {}
    for use in uses:
        per_family.setdefault(use.family, []).append(use.n_prompts)
    rows = [
        (known.get(family, FamilyFacts(family)), len(prompts), sum(prompts), family in campaign.template_families)
        for family, prompts in sorted(per_family.items(), key=lambda pair: (-len(pair[1]), -sum(pair[1]), pair[0]))
    ]
    return page(
        request,
        "campaign",
        campaign=campaign,
        rows=account_views(standing.accounts_of(ranked.accounts), "row", {}),
        families=rows,
        n_drawn=min(len({use.account_id for use in uses}), MOST_DRAWN),
        figures={
            "growth": growth_figure(uses),
            "network": network_figure(uses, {name: facts.target for name, facts in known.items()}),
        },
    )
