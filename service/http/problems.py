"""Errors as RFC 9457 problem documents. Stands first: everything else raises `Problem`. Never prompt text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """An answer that is no success: status, a stable name of its kind, and one sentence."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers) if headers is not None else {}

    def __reduce__(self) -> tuple[type[Problem], tuple[int, str, str, dict[str, str]]]:
        return Problem, (self.status, self.kind, self.detail, self.headers)  # it goes from one process to another

    def document(self) -> dict[str, object]:
        """RFC 9457: type, title, status, detail."""
        return {
            "type": f"urn:probewatch:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }

    def response(self) -> Response:
        return Response(orjson.dumps(self.document()), self.status, self.headers, PROBLEM_JSON)


def unavailable(kind: str, detail: str, retry_after: int = 1) -> Problem:
    return Problem(503, kind, detail, {"retry-after": str(retry_after)})


Answer = Callable[[Request, Problem], Response]
"""How a request is told of a problem."""


def answer_with_problems(app: FastAPI, answer: Answer) -> None:
    """Have the app answer every error as a problem."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = error.headers if error.headers is not None else {}
        kind = HTTPStatus(error.status_code).name.lower().replace("_", "-")
        return answer(request, Problem(error.status_code, kind, f"{error.detail}.".replace("..", "."), headers))

    async def of_parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, Problem(422, "bad-parameter", f"{place}: {first['msg']}."))

    async def unexpected(request: Request, error: Exception) -> Response:
        return answer(request, Problem(500, "our-fault", f"Unexpected {type(error).__name__}, which is our fault."))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, of_parameters)
    app.add_exception_handler(Exception, unexpected)
