"""Rendering: a page of the console from a template, with the headers that keep it to itself. Stands after `forms`."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from service.console.assets import asset_path, text_of
from service.console.forms import give_visit, token_of, visit_of
from service.console.links import link_to
from service.console.standing import moment_of
from service.http.access import caller_of, service_of
from service.http.problems import Problem
from service.report import make_environment
from service.report_plots import script_json
from service.report_words import day, span

POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:"),
        *("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)
"""No script but the two files of this console; inline styles, since plotly sets them."""


_POWER = re.compile(r"10\^(-?(?:[0-9.]+[0-9]|∞))")


@lru_cache
def environment() -> Environment:
    """The templates of the console, and the macros that it shares with the report."""
    macros = DictLoader({"macros": text_of("service", "templates/macros.html.j2")})
    made = make_environment(ChoiceLoader([PackageLoader("service.console"), macros]))
    made.globals |= {"link_to": link_to, "asset": asset_path}
    made.filters |= {
        "thousands": "{:,}".format,
        "span": span,
        "at": moment_of,
        "day": day,
        "powers": powers,
    }
    return made


def powers(text: str) -> Markup:
    """A sentence, escaped, in which `10^3.2` is set as a power."""
    return Markup(_POWER.sub(r"10<sup>\1</sup>", str(escape(text))))


def page(request: Request, name: str, *, status: int = 200, figures: object = None, **view: Any) -> Response:
    """A page from the template `name`. `figures`: what its plots show, by name."""
    visit = visit_of(request)
    html = (
        environment()
        .get_template(f"{name}.html.j2")
        .render(
            **view,
            here=request.url.path,
            keeps_excerpts=service_of(request).settings.excerpt_hours > 0,
            who=getattr(request.state, "caller", None),
            token=token_of(visit),
            figures=Markup(script_json(figures)) if figures else None,
        )
    )
    response = HTMLResponse(html, status, {"content-security-policy": POLICY})
    give_visit(request, response, visit)
    return response


def problem_page(request: Request, problem: Problem) -> Response:
    """The page that tells of a problem."""
    title = HTTPStatus(problem.status).phrase.capitalize()
    response = page(request, "problem", status=problem.status, title=title, detail=problem.detail)
    response.headers.update(problem.headers)
    return response


class PageRoute(APIRoute):
    """A route whose problems are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_say(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                return problem_page(request, problem)

        return handle_or_say


def who_of(request: Request) -> str:
    """Who does what is done: the id of the key, which names its holder in `probewatch keys list`."""
    return caller_of(request).name
