"""Templates: the families of the index, who matched them, and one of them. Stands after `proposing`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from classifier.types import Tier
from service.console.pages import PageRoute, page
from service.console.proposing import may_write, runs_of
from service.console.signature_rows import FamilyFacts, families_of
from service.console.standing import standing_of
from service.http.access import service_of
from service.http.discoveries import NO_RUNS
from service.http.problems import Problem
from service.http.template_models import LONGEST_REASON
from service.report_view import account_views
from service.store.ranking import Listing, read_ranked
from service.template_words import listed_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHOWN = 25
_TIERS = {tier.value: i for i, tier in enumerate((Tier.EXCLUSIVE, Tier.PUBLIC, Tier.BENIGN))}


@router.get("/templates")
def show_templates(request: Request) -> Response:
    """All families, those that were matched most first."""
    service, standing = service_of(request), standing_of(request)
    known, used = families_of(service.scorer.pipeline), standing.snapshot().families
    rows = [(known.get(family, FamilyFacts(family)), used.get(family)) for family in {*known, *used}]

    def order(row: tuple[FamilyFacts, object]) -> tuple[int, int, str]:
        sums = used.get(row[0].family)
        return (
            _TIERS.get(row[0].tier, 9) if row[0].tier else 9,
            -(sums.n_accounts if sums is not None else 0),
            row[0].family,
        )

    return page(
        request,
        "templates",
        extraction=[row for row in sorted(rows, key=order) if row[0].tier != Tier.BENIGN],
        benign=[row for row in sorted(rows, key=order) if row[0].tier == Tier.BENIGN],
        bundle_id=service.scorer.pipeline.bundle_id,
        catalogue_id=service.scorer.pipeline.catalogue_id,
        refused=may_write(service),
        runs=runs_of(service),
        no_runs=NO_RUNS if service.settings.runs is None else None,
    )


@router.get("/template")
def show_template(request: Request, family: str = "") -> Response:
    """A family: its facts, and who matched it."""
    service, standing = service_of(request), standing_of(request)
    facts, sums = families_of(service.scorer.pipeline).get(family), standing.snapshot().families.get(family)
    if facts is None and sums is None:
        raise Problem(404, "unknown-family", "There is no such family, and none was matched.")
    with service.store.reading() as connection:
        ranked = read_ranked(connection, Listing(family=family), standing.thresholds, None, SHOWN)
    local = [one for one in listed_of(service.scorer.pipeline) if one.origin is not None]
    return page(
        request,
        "template",
        facts=facts if facts is not None else FamilyFacts(family),
        sums=sums,
        campaigns=[one for one in standing.campaigns if family in one.template_families],
        rows=account_views(standing.accounts_of(ranked.accounts), "row", {}),
        local=[one for one in local if one.signature.facts.family == family],
        longest=LONGEST_REASON,
    )
