"""Try it: what the pipeline says of a prompt. Nothing is counted, stored or logged. Stands after `pages`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from classifier.errors import InputError
from service.console.forms import read_form
from service.console.pages import PageRoute, page
from service.http.access import service_of
from service.report_words import TARGET_TITLES
from service.score import nearest_signatures, score

router = APIRouter(route_class=PageRoute, include_in_schema=False)

NEAREST = 5


@router.get("/try")
def show_form(request: Request) -> Response:
    """The form."""
    return page(request, "try", prompt="", found=None, problem=None)


@router.post("/try")
async def try_prompt(request: Request) -> Response:
    """What is said of a prompt."""
    prompt = (await read_form(request)).get("prompt", "").replace("\r\n", "\n")
    pipeline = service_of(request).scorer.pipeline
    try:
        found = await asyncio.to_thread(score, prompt, pipeline)
    except InputError as error:
        return page(request, "try", status=422, prompt=prompt, found=None, problem=str(error))
    template = found["template"]
    start, end = (template["start"], template["end"]) if template is not None else (0, 0)
    return page(
        request,
        "try",
        prompt=prompt,
        problem=None,
        found=found,
        parts=(prompt[:start], prompt[start:end], prompt[end:]),
        chances=[(name, TARGET_TITLES[name], value) for name, value in found["probabilities"].items()],
        nearest=await asyncio.to_thread(nearest_signatures, prompt, pipeline, NEAREST),
    )
