"""New templates: what labelled runs share that nothing explains, what a template would do, and adding one.

    discoveries, samples -> approvals, trial -> **proposing**

A wording is shown on these pages alone, to the analyst who must judge it, as `probewatch templates` shows it on the
terminal; it is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from classifier.pipeline import Pipeline
from classifier.signing import Family
from classifier.types import TARGETS, Tier
from service.approving import Addition
from service.console.forms import read_form
from service.console.pages import PageRoute, page, who_of
from service.fields import BadRecordError, decode_json
from service.finished import read_finished
from service.http.access import service_of
from service.http.approvals import Wanted, add, answering, looked, preview, remove, samples_of_finding, writable
from service.http.problems import Problem
from service.http.service import Service
from service.http.template_models import LONGEST_REASON, FamilyIn
from service.http.templates import samples_given
from service.prompts import Prompts
from service.report_words import TARGET_TITLES
from service.trial import Fired, try_on

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHOWN = 20
TIERS = {
    Tier.PUBLIC: "A campaign's, public: it is shown, and at most puts an account up for review",
    Tier.EXCLUSIVE: "A campaign's, exclusive: what is sent from now on may flag; ordinary traffic must certify it",
    Tier.BENIGN: "An application's, benign: what is fixed in its prompts is excused",
}
_FIELDS = ("run", "finding", "samples", "family", "tier", "technique", "capability", "reason", "trial_run", "day")


@dataclass(frozen=True)
class Shown:
    """What would be added, and what it would have matched, if that was asked."""

    addition: Addition
    fired: Fired | None


@router.get("/discovered")
def show_discovered(request: Request, run: str = "") -> Response:
    """What accounts of a run share that nothing explains."""
    found = looked(service_of(request), run, SHOWN)
    return page(request, "discovered", run=run, found=found)


@router.get("/propose")
def show_form(request: Request, run: str = "", finding: str = "", tier: str = Tier.PUBLIC.value) -> Response:
    """The form for a new template, of a finding or of samples."""
    fields = dict.fromkeys(_FIELDS, "") | {"run": run, "finding": finding, "tier": tier, "trial_run": run}
    return _form(request, fields)


@router.post("/propose")
async def propose(request: Request) -> Response:
    """Show what a template would do, or add it; what stands in the way is said on the page."""
    fields = dict.fromkeys(_FIELDS, "") | dict(await read_form(request))
    service, who = service_of(request), who_of(request)
    try:
        wanted = _wanted(service, fields)
        if fields.get("act") == "add":
            await asyncio.to_thread(add, service, wanted, who)
            return RedirectResponse("/templates", 303)
        shown = await asyncio.to_thread(_show, service, wanted, fields)
    except Problem as problem:
        return await asyncio.to_thread(_form, request, fields, problem=problem)
    return await asyncio.to_thread(_form, request, fields, shown)


@router.post("/template/drop")
async def drop(request: Request) -> Response:
    """Remove a signature of the catalogue."""
    fields, service = await read_form(request), service_of(request)
    reason = _reason(fields)
    await asyncio.to_thread(remove, service, fields.get("id", ""), reason, who_of(request))
    return RedirectResponse("/templates", 303)


def may_write(service: Service) -> str | None:
    """Why no template can be added here, in a sentence; None if one can."""
    try:
        writable(service)
    except Problem as problem:
        return problem.detail
    return None


def runs_of(service: Service) -> list[str]:
    """Runs in which new templates can be looked for; none where no folder of them is configured."""
    return service.discoveries.names() if service.settings.runs is not None else []


def _form(
    request: Request, fields: Mapping[str, str], shown: Shown | None = None, problem: Problem | None = None
) -> Response:
    service = service_of(request)
    return page(
        request,
        "propose",
        status=problem.status if problem is not None else 200,
        problem=problem.detail if problem is not None else None,
        refused=may_write(service),
        fields=fields,
        shown=shown,
        tiers=TIERS,
        targets=[(name, TARGET_TITLES[name]) for name in TARGETS],
        runs=runs_of(service),
        longest=LONGEST_REASON,
    )


def _show(service: Service, wanted: Wanted, fields: Mapping[str, str]) -> Shown:
    addition = preview(service, wanted)
    if not fields["trial_run"]:
        return Shown(addition, None)
    path, day = service.discoveries.path(fields["trial_run"]), _day(fields["day"])
    with answering():
        return Shown(addition, try_on(addition.signatures, read_finished(path), day, service.scorer.pipeline))


def _wanted(service: Service, fields: Mapping[str, str]) -> Wanted:
    """Raises Problem 422 with what is missing."""
    given: dict[str, Any] = {name: fields[name].strip() for name in ("family", "reason")}
    given |= {name: fields[name].strip() for name in ("technique", "capability") if fields[name].strip()}
    try:
        named, tier = FamilyIn.model_validate(given), Tier(fields["tier"])
    except ValidationError as error:
        first = error.errors()[0]
        raise Problem(422, "bad-template", f"{first['loc'][0]}: {first['msg']}.") from None
    except ValueError:
        raise Problem(422, "bad-template", "Choose what it is.") from None
    if tier is Tier.BENIGN:  # an application's names neither
        named = named.model_copy(update={"technique": None, "capability": None})
    family = Family(named.family, named.technique, named.capability, tier)
    return Wanted(_samples(service, fields), family, named.reason)


def _samples(service: Service, fields: Mapping[str, str]) -> Callable[[Pipeline], Prompts]:
    if fields["finding"]:
        return samples_of_finding(service, fields["run"], fields["finding"])
    given = samples_given([_record(i, line) for i, line in _lines(fields["samples"])], service.limits)
    return lambda pipeline: given


def _lines(samples: str) -> list[tuple[int, str]]:
    return [(i, line) for i, line in enumerate(samples.splitlines(), 1) if line.strip()]


def _record(number: int, line: str) -> object:
    try:
        return decode_json(line.encode())
    except (BadRecordError, UnicodeEncodeError):
        detail = f'Line {number} is no JSON: expected one such as {{"account_id": "a", "prompt": "..."}}.'
        raise Problem(422, "bad-sample", detail) from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Problem(422, "bad-day", "The day is no date: expected one such as 2026-09-03.") from None


def _reason(fields: Mapping[str, str]) -> str:
    reason = fields.get("reason", "").strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise Problem(422, "bad-reason", f"Give the reason, in 1 to {LONGEST_REASON:,} characters: others will ask.")
    return reason
