"""What every route takes from its request. Stands after `service`."""

from __future__ import annotations

import orjson
from fastapi import Request
from starlette.responses import Response

from service.http.limits import read_body
from service.http.parsing import parse_json
from service.http.security import Caller
from service.http.service import Service


def service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def caller_of(request: Request) -> Caller:
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


async def document_of(request: Request) -> object:
    """The JSON of the body, within bounds."""
    service = service_of(request)
    body = await read_body(request, service.settings.most_body_bytes, service.settings.request_seconds)
    return parse_json(body, service.limits)


def json_answer(document: object, status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")
