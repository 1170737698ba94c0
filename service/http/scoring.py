"""POST /v1/score and /v1/score/batch. Stands after `service`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.access import caller_of, document_of, service_of
from service.http.answers import Answer, json_of
from service.http.models import BatchOut, ProblemOut, ScoreOut
from service.http.parsing import Event, parse_batch, parse_event
from service.http.problems import Problem
from service.http.service import Service

router = APIRouter()

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "description": meaning}
    for status, meaning in {
        409: "An event id of another account",
        429: "Above the rate of this key",
    }.items()
}


@router.post("/v1/score", response_model=ScoreOut, responses=PROBLEMS)
async def score(request: Request) -> Response:
    """Score one prompt, count it as evidence, and say where its account stands.

    The evidence is committed before the answer. The same event_id again counts nothing and is answered alike.
    """
    service = service_of(request)
    refusal = service.scorer.refusal(1)  # before the body is read: to refuse must cost little
    if refusal is not None:
        return refusal.response()
    document = await document_of(request)
    refusal = service.scorer.refusal(1)  # others may have come meanwhile, and none will until `submit`
    if refusal is not None:
        return refusal.response()
    metrics = service.metrics
    metrics.received.inc()
    try:
        event = parse_event(document, service.limits)
        service.gate.spend(caller_of(request), 1)
    except Problem:
        metrics.rejected.inc()
        raise
    (answer,) = await service.scorer.submit([event])
    if isinstance(answer, Problem):
        raise answer
    return Response(answer, media_type="application/json")


@router.post("/v1/score/batch", response_model=BatchOut, responses=PROBLEMS)
async def score_batch(request: Request) -> Response:
    """Score up to 1,000 prompts: for each, in order, what /v1/score would say, or a problem."""
    service = service_of(request)
    records = parse_batch(await document_of(request))
    refusal = service.scorer.refusal(len(records))
    if refusal is not None:
        return refusal.response()
    metrics = service.metrics
    metrics.received.inc(len(records))
    try:
        service.gate.spend(caller_of(request), len(records))
    except Problem:
        metrics.rejected.inc(len(records))
        raise
    parsed = [_parsed(record, service) for record in records]
    events = [one for one in parsed if isinstance(one, Event)]
    metrics.rejected.inc(len(parsed) - len(events))
    answers = iter(await service.scorer.submit(events) if events else [])
    results = [next(answers) if isinstance(one, Event) else one for one in parsed]
    return Response(b'{"results":[%b]}' % b",".join(map(_document, results)), media_type="application/json")


def _parsed(record: object, service: Service) -> Event | Problem:
    try:
        return parse_event(record, service.limits)
    except Problem as problem:
        return problem


def _document(answer: Answer) -> bytes:
    return json_of(answer.document()) if isinstance(answer, Problem) else answer
