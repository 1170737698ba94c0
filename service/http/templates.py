"""What analysts ask of templates, and what they add and remove while the service runs. Stands after `approvals`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from classifier.catalogue import Origin
from classifier.pipeline import Pipeline
from classifier.signatures import Facts
from classifier.signing import Family
from classifier.types import Tier
from service.approving import Addition
from service.discovery_words import as_json as found_json
from service.http.access import caller_of, document_of, json_answer, service_of
from service.http.approvals import Wanted, add, looked, preview, remove, samples_of_finding
from service.http.parsing import Limits, parse_event
from service.http.problems import Problem
from service.http.scoring import PROBLEMS
from service.http.service import Service
from service.http.template_models import (
    LONGEST_REASON,
    AdditionOut,
    DiscoveredOut,
    FamilyIn,
    FindingIn,
    RemovedOut,
    TemplateIn,
    TemplatesOut,
)
from service.prompts import Prompts, prompts_sent
from service.proposals import MOST_SAMPLES, Proposal
from service.template_words import Listed, listed_of

router = APIRouter(responses={**PROBLEMS, 404: {"description": "Not known"}, 409: {"description": "Not now"}})

Asked = TypeVar("Asked", bound=BaseModel)


@router.get("/v1/templates", response_model=TemplatesOut)
def list_templates(request: Request) -> Response:
    """The signatures that prompts are matched against."""
    pipeline = service_of(request).scorer.pipeline
    rows = [_listed(one) for one in listed_of(pipeline)]
    return json_answer({"templates": rows, "bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id})


@router.get("/v1/templates/discovered", response_model=DiscoveredOut)
def list_discovered(
    request: Request,
    run: Annotated[str, Query(description="Name of a run in PROBEWATCH_RUNS.")],
    top: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Response:
    """Wordings that many accounts of a labelled run share and no signature explains; its inputs are read for it."""
    return json_answer({"run": run, **found_json(looked(service_of(request), run, top))})


@router.post("/v1/templates", response_model=AdditionOut, status_code=201)
async def add_samples(request: Request) -> Response:
    """Add the template of samples: in force in every process within seconds. The samples are not kept."""
    service = service_of(request)
    asked = await _asked(request, TemplateIn)
    samples = await asyncio.to_thread(samples_given, asked.samples, service.limits)
    return await _answer(request, asked, Tier(asked.tier), lambda pipeline: samples)


@router.post("/v1/templates/{finding_id}/approve", response_model=AdditionOut, status_code=201)
async def approve_finding(request: Request, finding_id: str) -> Response:
    """Add a finding of a labelled run: a campaign's. An exclusive one flags by what is sent from now on."""
    asked = await _asked(request, FindingIn)
    samples = samples_of_finding(service_of(request), asked.run, finding_id)
    return await _answer(request, asked, Tier(asked.tier), samples)


@router.post("/v1/templates/{finding_id}/benign", response_model=AdditionOut, status_code=201)
async def call_finding_benign(request: Request, finding_id: str) -> Response:
    """Add a finding of a labelled run as a harmless application's: what is fixed in its prompts is excused."""
    asked = await _asked(request, FindingIn)
    samples = samples_of_finding(service_of(request), asked.run, finding_id)
    return await _answer(request, asked, Tier.BENIGN, samples)


@router.delete("/v1/templates/{template_id:path}", response_model=RemovedOut)
def remove_template(
    request: Request, template_id: str, reason: Annotated[str, Query(min_length=1, max_length=LONGEST_REASON)]
) -> Response:
    """Remove a signature of the catalogue. What it matched stays counted."""
    left = remove(service_of(request), template_id, reason, caller_of(request).name)
    return json_answer({"catalogue_id": left.id})


def samples_given(records: Sequence[object], limits: Limits) -> Prompts:
    """Distinct prompts of events. Raises Problem 422 that says which one will not do."""
    if len(records) > MOST_SAMPLES:
        raise Problem(422, "too-many-samples", f"There are {len(records):,} samples: expected {MOST_SAMPLES} at most.")
    events = []
    for number, record in enumerate(records, 1):
        try:
            events.append(parse_event(record, limits))
        except Problem as bad:
            raise Problem(422, "bad-sample", f"Sample {number}: {bad.detail}") from None
    return prompts_sent([one.account_id for one in events], [(one.system, one.prompt) for one in events]).distinct()


async def _asked(request: Request, kind: type[Asked]) -> Asked:
    try:
        return kind.model_validate(await document_of(request))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Problem(422, "bad-template", f"{place if place else 'The template'}: {first['msg']}.") from None


async def _answer(request: Request, asked: FamilyIn, tier: Tier, samples: Callable[[Pipeline], Prompts]) -> Response:
    service, who = service_of(request), caller_of(request).name
    if tier is Tier.BENIGN and (asked.technique is not None or asked.capability is not None):
        detail = "A benign template is a harmless application's: leave out technique and capability."
        raise Problem(422, "bad-template", detail)
    wanted = Wanted(samples, Family(asked.family, asked.technique, asked.capability, tier), asked.reason)
    if asked.dry_run:
        return json_answer(await asyncio.to_thread(_previewed, service, wanted))
    return json_answer(await asyncio.to_thread(_added, service, wanted, who), 201)


def _previewed(service: Service, wanted: Wanted) -> dict[str, Any]:
    return _addition(preview(service, wanted), None, service.scorer.pipeline.catalogue_id)


def _added(service: Service, wanted: Wanted, who: str) -> dict[str, Any]:
    done = add(service, wanted, who)
    return _addition(done.addition, done.since, done.catalogue.id)


def _addition(found: Addition, since: str | None, catalogue_id: str) -> dict[str, Any]:
    return {
        "templates": [_proposal(one) for one in found.proposals],
        "certified": asdict(found.certified) if found.certified is not None else None,
        "since": since,
        "catalogue_id": catalogue_id,
    }


def _proposal(one: Proposal) -> dict[str, Any]:
    """All but the skeleton, which is wording."""
    facts = one.signature.facts
    return {
        **_facts(one.signature.facts),
        "n_fixed": len(one.signature.shingles),
        "minimum_hits": facts.min_hits,
        "minimum_coverage": facts.min_coverage,
        **{name: getattr(one, name) for name in ("n_samples", "n_accounts", "found", "known", "known_as")},
        "ordinary": asdict(one.ordinary),
    }


def _listed(one: Listed) -> dict[str, Any]:
    origin = asdict(one.origin) if one.origin is not None else dict.fromkeys(Origin.__dataclass_fields__)
    return {**_facts(one.signature.facts), "source": "bundle" if one.origin is None else "catalogue", **origin}


def _facts(facts: Facts) -> dict[str, Any]:
    names = {"id": facts.id, "family": facts.family, "tier": facts.tier.value}
    return {**names, "technique": facts.technique, "target": facts.target}
