"""Logging in with an API key, and out. Stands after `pages`."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from service.console.forms import read_form, set_cookie
from service.console.links import within
from service.console.pages import PageRoute, page, who_of
from service.http.access import service_of
from service.http.security import ANALYSTS
from service.http.service import Service
from service.http.sessions import HOURS, SESSION, session_of
from service.store.ended import end_sessions

EVERYWHERE = "everywhere"

router = APIRouter(route_class=PageRoute, include_in_schema=False)

WRONG = "This is no key in use. A key is made with `probewatch keys add --role analyst --name WHO`, and shown once."
SCORERS_ONLY = "This key is for sending traffic. The console takes a key of an analyst or an admin."


@router.get("/login")
def show_login(request: Request, next: str = "/") -> Response:
    """Ask for a key; without any in use there is nothing to ask."""
    if service_of(request).gate.is_open:
        return RedirectResponse("/", 303)
    return page(request, "login", target=within(next), problem=None)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Begin a session, if the key is one of an analyst or an admin."""
    fields = await read_form(request)
    target = within(fields.get("next", "/"))
    key = service_of(request).gate.key_of(fields.get("key", ""))
    if key is None or key.role not in ANALYSTS:
        return page(request, "login", status=403, target=target, problem=WRONG if key is None else SCORERS_ONLY)
    response = RedirectResponse(target, 303)
    set_cookie(request, response, SESSION, session_of(key, time.time_ns() // 1000), HOURS * 3600)
    return response


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session in this browser, or those in all browsers that the same key began."""
    if EVERYWHERE in await read_form(request):
        await asyncio.to_thread(_end_all, service_of(request), who_of(request))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION)
    return response


def _end_all(service: Service, key_id: str) -> None:
    with service.store.writing() as connection:
        end_sessions(connection, key_id, key_id)
    service.gate.refresh()
