"""The app: routes, guard and service put together. Stands before `server` alone."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.console.refusals import answer
from service.console.routes import add_console
from service.http import accounts, operations, scoring, templates
from service.http.direct import Direct
from service.http.docs import document_calls
from service.http.door import Door
from service.http.limits import Guard
from service.http.loading import put_requests_first
from service.http.problems import answer_with_problems
from service.http.protocol import DOOR
from service.http.service import Service
from service.http.tracing import TraceRequests
from service.settings import Settings
from service.versions import version_of


def create_app(settings: Settings) -> FastAPI:
    """The app of one process. Raises BundleError or UsageError if it cannot be set up."""
    service = Service(settings)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[dict[str, Door]]:
        await service.start()
        yield {DOOR: Door(service.gate, service.scorer, service.metrics)} if service.traces is None else {}
        await service.stop()
        gc.unfreeze()  # libraries tell of what is never let go of

    app = FastAPI(title="probewatch", version=version_of("probewatch"), lifespan=running, docs_url=None, redoc_url=None)
    app.state.service = service
    answer_with_problems(app, answer)
    for module in (scoring, accounts, templates, operations):
        app.include_router(module.router)
    document_calls(app)
    add_console(app, service)
    app.add_middleware(Direct, router=scoring.router)
    app.add_middleware(Guard, gate=service.gate, metrics=service.metrics, answer=answer)
    if service.traces is not None:
        app.add_middleware(TraceRequests, traces=service.traces)
    return app


def app_of_environment() -> FastAPI:
    """The app by the settings in the environment: for processes that are started for it."""
    app = create_app(Settings())
    put_requests_first()
    return app
