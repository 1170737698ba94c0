"""What analysts ask for: accounts, campaigns, reviews; and erasure. Stands after `accounts_view`, `access`.

These routes read the store in threads of their own: none is in the way of scoring.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from classifier.types import Decision
from service.http.access import caller_of, document_of, json_answer, service_of
from service.http.accounts_view import account_detail, account_rows, review_row
from service.http.models import (
    AccountDetailOut,
    AccountsOut,
    CampaignDetailOut,
    CampaignsOut,
    ReviewIn,
    ReviewOut,
)
from service.http.problems import Problem
from service.store.audit import write_audit
from service.store.erasure import account_digest, erase_account
from service.store.reading import (
    Filter,
    Review,
    add_review,
    read_account,
    read_campaign_accounts,
    read_page,
    read_units,
)
from service.store.standing import read_flag_times, read_thresholds

router = APIRouter(responses={404: {"description": "Not known"}})

MOST_PAGE = 500


@router.get("/v1/accounts", response_model=AccountsOut)
def list_accounts(
    request: Request,
    decision: Decision | None = None,
    campaign_id: str | None = None,
    family: str | None = None,
    seen_since: datetime | None = None,
    cursor: Annotated[str, Query(description="Where the page before ended.")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 100,
) -> Response:
    """Accounts by id, a page at a time, as of now."""
    service = service_of(request)
    since = round(seen_since.timestamp() * 1e6) if seen_since is not None else None
    asked = Filter(decision, campaign_id, family, since)
    with service.store.reading() as connection:
        thresholds = read_thresholds(connection, service.settings.population, service.scorer.pipeline.baselines)
        flagged_at = read_flag_times(connection, thresholds)
        known = read_page(connection, asked, thresholds, cursor, limit + 1)
    rows = account_rows(known[:limit], thresholds, flagged_at)
    following = rows[-1]["account_id"] if len(known) > limit else None
    return json_answer({"accounts": rows, "cursor": following})


@router.get("/v1/accounts/{account_id:path}", response_model=AccountDetailOut)
def get_account(request: Request, account_id: str) -> Response:
    """An account as of now, with the reasons and the events behind its verdict."""
    service = service_of(request)
    baselines = service.scorer.pipeline.baselines
    with service.store.reading() as connection:
        known = read_account(connection, account_id)
        if known is None:
            raise _unknown("account")
        thresholds = read_thresholds(connection, service.settings.population, baselines)
        flagged_at = read_flag_times(connection, thresholds)
        units = read_units(connection, known.totals["account_no"])
    sizes = {one["campaign_id"]: one["n_accounts"] for one in service.refresher.publication.campaigns}
    n_accounts = sizes.get(known.campaign_id, 0)
    return json_answer(account_detail(known, units, thresholds, flagged_at, baselines, n_accounts))


@router.post("/v1/accounts/{account_id:path}/reviews", response_model=ReviewOut, status_code=201)
async def review_account(request: Request, account_id: str) -> Response:
    """Say what an analyst concludes of an account. It is shown, with its author, and never changed."""
    service, who = service_of(request), caller_of(request).name
    try:
        given = ReviewIn.model_validate(await document_of(request))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Problem(422, "bad-review", f"{place if place else 'The review'}: {first['msg']}.") from None
    if given.until is not None and given.until.tzinfo is None:
        raise Problem(422, "bad-review", "until has no time zone: expected ISO 8601 such as 2027-01-31T00:00:00Z.")
    until = round(given.until.timestamp() * 1e6) if given.until is not None else None
    review = Review(given.state, given.reason, who, until, time.time_ns() // 1000)

    def write() -> None:
        with service.store.writing() as connection:
            known = read_account(connection, account_id)
            if known is None:
                raise _unknown("account")
            add_review(connection, known.totals["account_no"], review)
            subject = f"{account_digest(account_id, service.scorer.pipeline.hash_key)} ({review.state})"
            write_audit(connection, who, "account reviewed", subject)

    await asyncio.to_thread(write)
    return json_answer(review_row(review), 201)


@router.delete("/v1/accounts/{account_id:path}", status_code=204)
def delete_account(request: Request, account_id: str) -> Response:
    """Erase all that is known of an account. The audit log keeps that it was done, not the id."""
    service = service_of(request)
    key = service.scorer.pipeline.hash_key
    with service.store.writing() as connection:
        if not erase_account(connection, account_id, caller_of(request).name, key):
            raise _unknown("account")
    return Response(status_code=204)


@router.get("/v1/campaigns", response_model=CampaignsOut)
def list_campaigns(request: Request) -> Response:
    """Campaigns as last published, largest first."""
    return json_answer({"campaigns": list(service_of(request).refresher.publication.campaigns)})


@router.get("/v1/campaigns/{campaign_id}", response_model=CampaignDetailOut)
def get_campaign(request: Request, campaign_id: str) -> Response:
    """A campaign as last published, and its accounts."""
    service = service_of(request)
    campaigns: list[dict[str, Any]] = [dict(one) for one in service.refresher.publication.campaigns]
    found = next((one for one in campaigns if one["campaign_id"] == campaign_id), None)
    if found is None:
        raise _unknown("campaign")
    with service.store.reading() as connection:
        return json_answer({**found, "accounts": read_campaign_accounts(connection, campaign_id)})


def _unknown(kind: str) -> Problem:
    return Problem(404, f"unknown-{kind}", f"There is no such {kind}.")
