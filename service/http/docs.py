"""/docs and the OpenAPI document: with the bodies of routes that read them as bytes. Needs no network."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from jinja2 import Environment, PackageLoader, select_autoescape
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.http.models import BatchIn, EventIn, ReviewIn
from service.http.problems import PROBLEM_JSON
from service.http.security import OPEN, roles_of
from service.http.template_models import FindingIn, TemplateIn

BODIES: dict[str, type[BaseModel]] = {
    "/v1/score": EventIn,
    "/v1/score/batch": BatchIn,
    "/v1/accounts/{account_id}/reviews": ReviewIn,
    "/v1/templates": TemplateIn,
    "/v1/templates/{finding_id}/approve": FindingIn,
    "/v1/templates/{finding_id}/benign": FindingIn,
}
OF_THE_GATE = {
    401: "No valid key",
    403: "Not for this key",
    421: "Without keys: not asked as localhost",
    503: "Overloaded or not ready; see Retry-After",
}
OF_BODIES = {
    400: "Not JSON",
    408: "Came too slowly",
    413: "Too large",
    415: "Not sent as JSON",
    422: "Not what is expected",
}


def document_calls(app: FastAPI) -> None:
    """Have the app describe itself."""

    def describe() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
    app.get("/docs", include_in_schema=False)(_docs)


def _docs(request: Request) -> HTMLResponse:
    """Not within `document_calls`: FastAPI remembers for good what answers calls, and so what that holds."""
    templates = Environment(loader=PackageLoader("service.http"), autoescape=select_autoescape())
    return HTMLResponse(templates.get_template("docs.html.jinja").render(**_page(request.app.openapi())))


def _openapi(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schema["paths"] = {path.replace(":path}", "}"): calls for path, calls in schema["paths"].items()}
    schemas = schema["components"]["schemas"]
    for path, model in BODIES.items():
        own = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= own.pop("$defs", {})
        schemas[model.__name__] = own
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
        schema["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, calls in schema["paths"].items():
        for call in calls.values():
            _say_problems(call, path in OPEN)
            if path not in OPEN:
                call["security"] = [{"key": []}]
    return schema


def _say_problems(call: dict[str, Any], is_open: bool) -> None:
    """What the gate and the bounds may answer to any call, and that all problems are problem documents."""
    said = call["responses"]
    common = ({} if is_open else OF_THE_GATE) | (OF_BODIES if "requestBody" in call else {})
    for status, meaning in common.items():
        said.setdefault(str(status), {"description": meaning})
    for status, answer in said.items():
        if status >= "400":
            answer["content"] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}


def _page(schema: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of each call: who may, what it does, an example of the body, and the shapes."""
    calls = []
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            model = BODIES.get(path)
            extra = model.model_config.get("json_schema_extra") if model is not None else None
            examples = extra.get("examples") if isinstance(extra, dict) else None
            calls.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "who": "everyone" if path in OPEN else ", ".join(sorted(roles_of(method.upper(), path))),
                    "about": call.get("description", call.get("summary", "")),
                    "parameters": call.get("parameters", []),
                    "example": json.dumps(examples[0], indent=2) if isinstance(examples, list) else None,
                }
            )
    shapes = {name: json.dumps(shape, indent=2) for name, shape in sorted(schema["components"]["schemas"].items())}
    return {"title": schema["info"]["title"], "version": schema["info"]["version"], "calls": calls, "shapes": shapes}
