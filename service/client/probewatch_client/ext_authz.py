"""Hook for Envoy: the HTTP service of its ext_authz filter. Stands after `asgi`.

    PROBEWATCH_URL=https://probewatch:8080 uvicorn --factory probewatch_client.ext_authz:app_of_environment

Envoy sends each request here before it goes on: with `with_request_body`, else there is no prompt to look at. 200 lets
it through; anything else is the answer that its sender gets.
"""

from __future__ import annotations

import os

from probewatch_client.asgi import Body, Receive, Scope, Send, answer, headers_of, judge_request, live, refuse
from probewatch_client.settings import HookSettings, settings_of
from probewatch_client.traffic import PATHS
from probewatch_client.watch import ALLOWED, Watch

PARTIAL = "Envoy sent a part of the body: raise max_request_bytes"


class ExtAuthz:
    """An ASGI application that Envoy asks. `account`: key, header:NAME or body:FIELD.

    Envoy must pass on what says whose request it is: `authorization` it does by itself, other headers with
    `allowed_headers`.
    """

    def __init__(self, settings: HookSettings) -> None:
        self.watch = Watch(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send, self.watch)
        elif scope["type"] == "http":
            await self._check(scope, receive, send)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, headers = Body(self.watch.settings.most_body), headers_of(scope)
        while not body.ended:
            body.take(await receive())
        if scope["method"] != "POST" or not scope["path"].rstrip("/").endswith(PATHS):
            verdict = ALLOWED
        elif headers.get("x-envoy-auth-partial-body") == "true":
            verdict = await self.watch.judge(None, PARTIAL)
        else:
            verdict = await judge_request(self.watch, headers, body)
        await (answer(send, 200, b"", []) if verdict.allowed else refuse(send, verdict))


def app_of_environment() -> ExtAuthz:
    """The application by PROBEWATCH_URL, PROBEWATCH_KEY, PROBEWATCH_ENFORCE ... Raises BadInputError."""
    return ExtAuthz(settings_of(os.environ))
