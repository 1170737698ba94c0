"""How a request is told of a problem: a browser by a page, a program by a problem document. Stands after `pages`."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import Request
from starlette.responses import Response

from service.console.pages import problem_page
from service.http.problems import Problem
from service.http.security import is_console

_OF_PROGRAMS = re.compile(r"/v1(/.*)?|/static/.*|/metrics|/livez|/readyz|/openapi\.json", re.DOTALL)
_OF_NO_PAGE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def answer(request: Request, problem: Problem) -> Response:
    """The problem. Of a path that is no page a browser hears so, whether or not it has logged in."""
    if not wants_page(request):
        return problem.response()
    if problem.status in _OF_NO_PAGE and not is_console(request.method, request.url.path):
        problem = Problem(HTTPStatus.NOT_FOUND, "no-page", "There is no such page.")
    return problem_page(request, problem)


def wants_page(request: Request) -> bool:
    """Whether it is a browser's, which says that it takes HTML, for a path that is not for programs."""
    takes_html = "text/html" in request.headers.get("accept", "").lower()
    return takes_html and _OF_PROGRAMS.fullmatch(request.url.path) is None
