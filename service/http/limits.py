"""The middleware around all routes: identity, bounds, security headers, counts and one line of log a request.

Plain ASGI, since it is in the way of every request. Stands after `security`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.metrics import Metrics
from service.http.problems import Answer, Problem
from service.http.security import FORMS, Caller, Gate, is_console

log = logging.getLogger("probewatch.http")

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_EMPTY_POST = frozenset({"/v1/reload"})
_FORM = "application/x-www-form-urlencoded"


class Guard:
    """Lets a request through, or answers it with a problem; counts either."""

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics, answer: Answer) -> None:
        self._app, self._gate, self._metrics, self._answer = app, gate, metrics, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_security(message["headers"])
            await send(message)

        try:
            self._admit(scope)
        except Problem as problem:
            await self._refused(problem, scope)(scope, receive, send_safely)
        else:
            await self._app(scope, receive, send_safely)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        scope.setdefault("state", {})["caller"] = self._gate.admit(scope["method"], scope["path"], headers)
        require_kind(scope["method"], scope["path"], headers)

    def _refused(self, problem: Problem, scope: Scope) -> Response:
        """The problem; whom it tells to log in, a browser that asks for a page, is led there."""
        if problem.status != HTTPStatus.UNAUTHORIZED or not is_console(scope["method"], scope["path"]):
            return self._answer(Request(scope), problem)
        asked = f"{scope['path']}?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else scope["path"]
        wanted = asked if scope["method"] == "GET" else "/"
        return RedirectResponse(f"/login?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")  # of the route: ids in a path would make a label each
        caller = scope["state"].get("caller") if "state" in scope else None
        note(self._metrics, scope["method"], path, status, seconds, caller)


def require_kind(method: str, path: str, headers: Headers) -> None:
    """Raises Problem 415 if what is sent is of another kind than the path takes."""
    if method not in _BODILESS and path not in _EMPTY_POST:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = _FORM if FORMS.fullmatch(path) else "application/json"
        if kind != wanted:
            raise Problem(415, "not-json", f"The body must be sent as {wanted}.")


def with_security(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, and those that every answer has unless it has its own."""
    own = list(headers)
    there = {name for name, _ in own}
    return [*own, *(one for one in _HEADERS if one[0] not in there)]


def note(metrics: Metrics, method: str, path: str, status: int, seconds: float, caller: Caller | None) -> None:
    """Count an answer, and log it where that is asked for."""
    metrics.note_request(path, status, seconds)
    if log.isEnabledFor(logging.INFO):
        who = caller.name if caller is not None else "-"
        log.info("%s %s %d %.1f ms %s", method, path, status, seconds * 1e3, who)


async def read_body(request: Request, most_bytes: int, most_seconds: float) -> bytes:
    """The body. Problem 413 if it is too large, 408 if it takes too long, before it is held whole."""
    too_large = Problem(413, "too-large", f"The body is larger than {most_bytes:,} bytes: send less at once.")
    if int(request.headers.get("content-length", "0")) > most_bytes:
        raise too_large
    pieces, size = [], 0
    try:
        async with asyncio.timeout(most_seconds):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > most_bytes:
                    raise too_large
    except TimeoutError:
        raise Problem(408, "too-slow", f"The body did not arrive within {most_seconds:g} seconds.") from None
    return b"".join(pieces)
