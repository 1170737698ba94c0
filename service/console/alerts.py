"""Alerts, for admins: where they go, what waits and what failed; a test, and another try. Stands after `pages`."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.alerts.shown import shown
from service.alerts.worker import send_test
from service.console.forms import read_form
from service.console.pages import PageRoute, page, who_of
from service.http.access import service_of
from service.http.problems import Problem
from service.http.service import Service
from service.store.audit import write_audit
from service.store.outbox import count_waiting, read_messages, revive

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHOWN = 50


@router.get("/alerts")
def show_alerts(request: Request) -> Response:
    """The newest messages."""
    return _page(request, None)


@router.post("/alerts/test")
async def test_alerts(request: Request) -> Response:
    """Send a test, and say what came of it."""
    await read_form(request)
    said = await asyncio.to_thread(_send_test, service_of(request), who_of(request))
    return await asyncio.to_thread(_page, request, said)


@router.post("/alerts/retry")
async def retry_alerts(request: Request) -> Response:
    """Try again what was given up."""
    await read_form(request)
    said = await asyncio.to_thread(_revive, service_of(request), who_of(request))
    return await asyncio.to_thread(_page, request, said)


def _page(request: Request, said: str | None) -> Response:
    service = service_of(request)
    with service.store.reading() as connection:
        messages, waiting = read_messages(connection, SHOWN), count_waiting(connection)
    rows = [shown(one) for one in messages]
    return page(request, "alerts", alerting=service.alerting, messages=rows, waiting=waiting, said=said)


def _send_test(service: Service, who: str) -> str:
    if service.alerting is None:
        raise Problem(409, "no-receiver", "There is no receiver: set PROBEWATCH_ALERT_URL and PROBEWATCH_ALERT_SECRET.")
    sent = send_test(service.alerting)
    outcome = f"it answered {sent.status}" if sent.problem is None else sent.problem
    with service.store.writing() as connection:
        write_audit(connection, who, "alert tested", f"{service.alerting.receiver.host}: {outcome}")
    taken = "took the test" if sent.problem is None else "did not take the test"
    return f"{service.alerting.receiver.host} {taken}: {outcome}."


def _revive(service: Service, who: str) -> str:
    with service.store.writing() as connection:
        n = revive(connection, time.time_ns() // 1000)
        write_audit(connection, who, "alerts retried", str(n))
    return f"{n:,} messages are tried again."
