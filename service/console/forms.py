"""Forms: their fields, and that they come from a page of this console. Stands before `pages`.

A browser that comes gets a random cookie, and every form a digest of it. Another site can have a form sent here with
the cookie, but knows neither the cookie nor its digest.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.responses import Response

from service.http.access import service_of
from service.http.limits import read_body
from service.http.problems import Problem
from service.http.sessions import cookie_in

VISIT = "probewatch_visit"
TOKEN = "token"
_MOST_FIELDS = 50
_OWN = ("same-origin", "none")


async def read_form(request: Request) -> Mapping[str, str]:
    """Fields of a form that a page of this console sent. Raises Problem 403 for any other, 400 for no form."""
    settings = service_of(request).settings
    body = await read_body(request, settings.most_body_bytes, settings.request_seconds)
    try:
        fields = dict(
            parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS)
        )
    except ValueError:
        raise Problem(400, "bad-form", "The form cannot be read: load the page anew and send it again.") from None
    expected = token_of(visit_of(request))
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in _OWN
    if foreign or VISIT not in request.cookies or not hmac.compare_digest(fields.get(TOKEN, ""), expected):
        raise Problem(403, "foreign-form", "This form is of another page, or too old: load the page anew.")
    return fields


def visit_of(request: Request) -> str:
    """The browser's cookie; a new one if it has none, the same throughout the request."""
    if not hasattr(request.state, "visit"):
        known = cookie_in(request.headers, VISIT)
        request.state.visit = known if known else secrets.token_urlsafe(24)
    return str(request.state.visit)


def give_visit(request: Request, response: Response, visit: str) -> None:
    """Give the browser its cookie."""
    if VISIT not in request.cookies:
        set_cookie(request, response, VISIT, visit, None)


def token_of(visit: str) -> str:
    """What stands in the forms of a visit."""
    return blake2b(visit.encode(), digest_size=24, person=b"form").hexdigest()


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    """A cookie that no script reads and no other site's form brings; only encrypted where the page was."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)
