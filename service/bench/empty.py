"""An endpoint that does nothing, with the models of /v1/score: what the framework alone costs.

    python -m service.bench.empty PORT

Served as the service is served; FastAPI validates each request and writes each answer, as it does by default.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.http.models import EventIn, ScoreOut
from service.http.server import uvicorn_options
from service.settings import Settings

_ANSWER: dict[str, Any] = {
    "event_id": "event",
    "prompt": {
        "capability": "coding",
        "probabilities": {"coding": 0.5, "agentic_reasoning": 0.25, "long_horizon_planning": 0.125},
        "p_extraction": 0.125,
        "template": None,
    },
    "account": {
        "account_id": "account",
        "decision": "clear",
        "capabilities": [],
        "log10_e": {"coding": 0.0, "agentic_reasoning": 0.0, "long_horizon_planning": 0.0, "other": 0.0},
        "n_prompts": 1,
        "campaign_id": None,
        "verdict_as_of": "2026-01-01T00:00:00Z",
    },
    "bundle_id": "bundle",
    "catalogue_id": "none",
}


def empty_app() -> FastAPI:
    """The app of the endpoint."""
    app = FastAPI()

    @app.post("/v1/score")
    async def score(event: EventIn) -> ScoreOut:
        return ScoreOut(**_ANSWER)

    @app.get("/readyz")
    async def readyz() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    uvicorn.run(empty_app(), **uvicorn_options(Settings(host="127.0.0.1", port=int(sys.argv[1]))))
