"""Hook for gateways that are ASGI applications (FastAPI, Starlette, vLLM's server ...). Stands after `traffic`.

    app.add_middleware(ProbewatchMiddleware, settings=HookSettings("https://probewatch:8080", key))

Watching, the body is copied as the application reads it, and counts once the application has begun to answer with
success: so requests that it turned away never count against an account. Enforcing, the body is read first and handed on
as it was. Enforce only behind what checks API keys, since an account is known by its key.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from probewatch_client.settings import HookSettings
from probewatch_client.traffic import PATHS, event_of_request
from probewatch_client.watch import Verdict, Watch

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOO_LARGE = "the body is larger than most_body"
PACKED = "the body is compressed"
_INCOMPLETE = "the body did not arrive whole"


class ProbewatchMiddleware:
    """Watches requests to models on their way to an application. `account`: key, header:NAME or body:FIELD."""

    def __init__(self, app: App, settings: HookSettings) -> None:
        self._app, self.watch = app, Watch(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif not _carries_prompt(scope):
            await self._app(scope, receive, send)
        elif self.watch.settings.enforce:
            await self._enforce(scope, receive, send)
        else:
            await self._observe(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what waits when the application shuts down."""
        try:
            await self._app(scope, receive, send)
        finally:
            await self.watch.close()

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, noted = Body(self.watch.settings.most_body), False

        async def receive_too() -> Message:
            message = await receive()
            body.take(message)
            return message

        async def send_too(message: Message) -> None:
            nonlocal noted
            await send(message)
            if message["type"] == "http.response.start" and message["status"] < 400 and not noted:
                noted = True
                await judge_request(self.watch, headers_of(scope), body)

        await self._app(scope, receive_too, send_too)

    async def _enforce(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, seen = Body(self.watch.settings.most_body), []
        while not body.ended:
            message = await receive()
            seen.append(message)
            body.take(message)
        verdict = await judge_request(self.watch, headers_of(scope), body)
        if not verdict.allowed:
            await refuse(send, verdict)
            return
        again = iter(seen)

        async def receive_again() -> Message:
            message = next(again, None)
            return message if message is not None else await receive()

        await self._app(scope, receive_again, send)


class Body:
    """A body as it arrives, up to a size. `ended`: no more of it is to be read here."""

    def __init__(self, most: int) -> None:
        self._most, self._pieces, self._size = most, list[bytes](), 0
        self.ended = self.whole = False

    def take(self, message: Message) -> None:
        """A message of ASGI."""
        piece = message.get("body", b"") if message["type"] == "http.request" else b""
        self._size += len(piece)
        if not self.too_large:
            self._pieces.append(piece)
        self.whole |= message["type"] == "http.request" and not message.get("more_body", False)
        self.ended = self.whole or self.too_large or message["type"] == "http.disconnect"

    @property
    def too_large(self) -> bool:
        return self._size > self._most

    @property
    def content(self) -> bytes:
        return b"".join(self._pieces)


async def judge_request(watch: Watch, headers: dict[str, str], body: Body) -> Verdict:
    """The verdict on a request to a model."""
    if body.too_large:
        return await watch.judge(None, TOO_LARGE)
    if not body.whole:
        return await watch.judge(None, _INCOMPLETE)
    if headers.get("content-encoding", "identity") != "identity":
        return await watch.judge(None, PACKED)
    found = event_of_request(headers, body.content, watch.settings.account)
    return await watch.judge(None, found) if isinstance(found, str) else await watch.judge(found)


async def refuse(send: Send, verdict: Verdict) -> None:
    """Answer a request as OpenAI's API would refuse it."""
    kind = "permission_error" if verdict.status == 403 else "server_error"
    document = {"error": {"message": verdict.sentence, "type": kind, "param": None, "code": "probewatch"}}
    again = [(b"retry-after", b"1")] if verdict.status == 503 else []
    await answer(send, verdict.status, json.dumps(document).encode(), again)


async def answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """A whole response, in JSON unless the headers say otherwise."""
    kind = [] if any(name == b"content-type" for name, _ in headers) else [(b"content-type", b"application/json")]
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*kind, length, *headers]})
    await send({"type": "http.response.body", "body": body})


def headers_of(scope: Scope) -> dict[str, str]:
    """By lower-case names."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _carries_prompt(scope: Scope) -> bool:
    path: str = scope.get("path", "")
    return scope["type"] == "http" and scope["method"] == "POST" and path.rstrip("/").endswith(PATHS)


async def live(receive: Receive, send: Send, watch: Watch) -> None:
    """The lifespan of an application that is nothing but a hook."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await watch.close()
    await send({"type": "lifespan.shutdown.complete"})
