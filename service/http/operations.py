"""What those who run it ask: is it alive, is it ready, what does it count, load anew. Stands after `access`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from classifier.errors import BundleError, InputError
from service.http.access import caller_of, service_of
from service.http.models import ProblemOut, ReloadOut
from service.http.problems import Problem, unavailable
from service.store.audit import write_audit

router = APIRouter()


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """Whether the process answers at all."""
    return "alive"


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"model": ProblemOut}})
async def readyz(request: Request) -> str:
    """Whether traffic may come; else 503 with the reason."""
    reason = service_of(request).not_ready
    if reason is not None:
        raise unavailable("not-ready", reason)
    remark = service_of(request).remark
    return "ready" if remark is None else f"ready, but {remark}"


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Counters and histograms in the text format of Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.post("/v1/reload", response_model=ReloadOut, responses={409: {"model": ProblemOut}})
async def reload(request: Request) -> ReloadOut:
    """Load bundle, catalogue and exceptions again, in every process within seconds; what is refused leaves the old."""
    service, who = service_of(request), caller_of(request).name

    def load() -> bool:
        changed = service.reload()
        with service.store.writing() as connection:
            write_audit(connection, who, "reload", service.scorer.pipeline.bundle_id)
        return changed

    try:
        changed = await asyncio.to_thread(load)
    except (BundleError, InputError) as error:
        raise Problem(409, "bundle-refused", f"What was loaded before stays: {error}") from None
    pipeline = service.scorer.pipeline
    return ReloadOut(bundle_id=pipeline.bundle_id, catalogue_id=pipeline.catalogue_id, changed=changed)
