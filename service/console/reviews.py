"""The review form of an account: what it takes, and what it does. Stands after `account`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import date

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import RedirectResponse, Response

from classifier.errors import UsageError
from classifier.evidence import Baselines
from service.console.account import account_page
from service.console.forms import read_form
from service.console.links import link_to
from service.console.pages import PageRoute, who_of
from service.console.review_words import EFFECTS
from service.http.access import service_of
from service.http.problems import Problem
from service.http.service import Service
from service.store.erasure import account_digest
from service.store.exemptions import end_of
from service.store.reading import Known, Review, read_account
from service.store.reviewing import EXEMPTED, WITHDRAWN, exempt_account, note_review, withdraw_exemption

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LONGEST_REASON = 2_000
_STATES = {one.state: one for one in EFFECTS}


@router.post("/account/review")
async def review_account(request: Request) -> Response:
    """Take a review; what it lacks is said on the page."""
    fields, service, who = await read_form(request), service_of(request), who_of(request)
    account_id = fields.get("id", "")
    try:
        review = parse_review(fields, who)
        await asyncio.to_thread(_write, service, account_id, review, fields.get("family", ""))
    except UsageError as error:
        return await asyncio.to_thread(account_page, request, account_id, 422, str(error), given=fields)
    return RedirectResponse(link_to("/account", id=account_id) + "#reviews", 303)


def parse_review(fields: Mapping[str, str], who: str) -> Review:
    """A review of the form's fields. Raises UsageError with what is missing."""
    effect, reason = _STATES.get(fields.get("state", "")), fields.get("reason", "").strip()
    if effect is None:
        raise UsageError("Choose what you conclude.")
    if not reason or len(reason) > LONGEST_REASON:
        raise UsageError(f"Give the reason, in 1 to {LONGEST_REASON:,} characters: others will ask.")
    until, now = _end_of(fields.get("until", "").strip()), time.time_ns() // 1000
    if until is None and effect.must_end:
        raise UsageError("An exemption ends: give its last day.")
    if until is not None and until <= now:
        raise UsageError("The last day is over: give one to come, or none.")
    return Review(effect.state, reason, who, until, now)


def _end_of(text: str) -> int | None:
    """The end of a day (UTC), us; None without one."""
    if not text:
        return None
    try:
        return end_of(date.fromisoformat(text))
    except (ValueError, OverflowError):
        raise UsageError("The last day is no date: expected one such as 2027-01-31.") from None


def _write(service: Service, account_id: str, review: Review, family: str) -> None:
    pipeline = service.scorer.pipeline
    digest = account_digest(account_id, pipeline.hash_key)
    with service.store.writing() as connection:
        known = read_account(connection, account_id)
        if known is None:
            raise Problem(404, "unknown-account", "There is no such account.")
        act = _ACTS.get(review.state)
        if act is None:
            note_review(connection, known.totals["account_no"], review, digest)
            return
        act(connection, known, family, review, digest, pipeline.baselines)
    service.refresher.publish()


def _exempt(
    connection: Connection, known: Known, family: str, review: Review, digest: str, baselines: Baselines
) -> None:
    if family not in known.families:
        raise UsageError("Choose the family whose matches are to count for nothing, one that the account matched.")
    exempt_account(connection, known, family, review, digest, baselines)


def _withdraw(
    connection: Connection, known: Known, family: str, review: Review, digest: str, baselines: Baselines
) -> None:
    if not withdraw_exemption(connection, known, family, review, digest, baselines):
        raise UsageError(
            "Choose a family that a review of this account exempts; what the file of exceptions says is changed there."
        )


_ACTS = {EXEMPTED: _exempt, WITHDRAWN: _withdraw}
