"""Try it: what the pipeline says of a prompt. Nothing is counted, stored or logged. Stands after `pages`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from classifier.errors import InputError
from service.console.forms import read_form
from service.console.pages import PageRoute, page
from service.http.access import service_of
from service.score import nearest_signatures, score

router = APIRouter(route_class=PageRoute, include_in_schema=False)

NEAREST = 5


@dataclass(frozen=True)
class Chance:
    """The probability of a capability, and the least at which it is named, in [0, 1]."""

    capability: str
    probability: float
    threshold: float


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
        chances=_chances(found["probabilities"], pipeline.labeler.thresholds.tolist()),
        nearest=await asyncio.to_thread(nearest_signatures, prompt, pipeline, NEAREST),
    )


def _chances(probabilities: Mapping[str, float], thresholds: Sequence[float]) -> list[Chance]:
    pairs = zip(probabilities.items(), thresholds, strict=True)
    return [Chance(name, probability, threshold) for (name, probability), threshold in pairs]
