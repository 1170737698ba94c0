"""Context: models over time, organisations and their end users, accounts that began together. Shown, never evidence.

Stands after `pages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from classifier.units import DAY_US
from service.console.pages import PageRoute, page
from service.console.plots import MOST_MODELS, models_figure
from service.console.standing import standing_of
from service.http.access import service_of
from service.http.problems import Problem
from service.report_view import account_views
from service.report_words import percent, title_of
from service.store.context_sums import (
    AFTER_DAYS,
    BEFORE_DAYS,
    HOUR_US,
    LEAST_PROMPTS,
    MIX_STEPS,
    TIMES_USUAL,
    Beginning,
    Mix,
    ModelDay,
    read_most_users,
    read_moves,
    read_n_users,
)
from service.store.ranking import read_numbered

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHOWN = 25
MOST_LISTED = 100
"""Models in the table; a gateway may make names up."""


@dataclass(frozen=True)
class ModelSums:
    """A model: prompts, those that match a known template, first and last day, and whether it came after the logs
    began."""

    model: str
    n_prompts: int
    n_matched: int
    first_day: int
    last_day: int
    is_new: bool

    @property
    def first_us(self) -> int:
        return self.first_day * DAY_US

    @property
    def last_us(self) -> int:
        return self.last_day * DAY_US


@router.get("/models")
def show_models(request: Request) -> Response:
    """Where extraction went over time, by model."""
    days = standing_of(request).snapshot().context.models
    models = model_sums(days)
    return page(
        request,
        "models",
        models=models[:MOST_LISTED],
        n_models=len(models),
        summary=_summary(models),
        figures={"models": models_figure(days)} if days else None,
    )


@router.get("/model")
def show_model(request: Request, name: str = "") -> Response:
    """A model: who moved extraction to it when it came."""
    service, standing = service_of(request), standing_of(request)
    days = standing.snapshot().context.models
    found = next((one for one in model_sums(days) if one.model == name), None)
    if found is None:
        raise Problem(404, "unknown-model", "No prompt to such a model was counted.")
    with service.store.reading() as connection:
        moves = read_moves(connection, name, found.first_day) if found.is_new else None
        known = read_numbered(connection, moves.moved[:SHOWN]) if moves is not None else []
    return page(
        request,
        "model",
        model=found,
        moves=moves,
        rows=account_views(standing.accounts_of(known), "row", {}),
        before_days=BEFORE_DAYS,
        after_days=AFTER_DAYS,
    )


@router.get("/organisations")
def show_organisations(request: Request) -> Response:
    """Organisations of many accounts, and accounts of many end users."""
    service, standing = service_of(request), standing_of(request)
    with service.store.reading() as connection:
        numbers = read_most_users(connection, SHOWN)
        users, known = read_n_users(connection, numbers), read_numbered(connection, numbers)
    views = account_views(standing.accounts_of(known), "row", {})
    counts = [users[one.totals["account_no"]] for one in known]
    return page(
        request,
        "organisations",
        organisations=standing.snapshot().context.organisations,
        rows=list(zip(views, counts, strict=True)),
    )


@router.get("/beginnings")
def show_beginnings(request: Request) -> Response:
    """Accounts that were first seen in the same hour with a similar mix of capabilities."""
    found = standing_of(request).snapshot().context.beginnings
    return page(
        request,
        "beginnings",
        rows=[(one, beginning_key(one), mix_words(one.mix)) for one in found],
        hour_us=HOUR_US,
        least_prompts=LEAST_PROMPTS,
        times_usual=TIMES_USUAL,
    )


def model_sums(days: Sequence[ModelDay]) -> list[ModelSums]:
    """Models, newest first."""
    start = min((one.day for one in days), default=0)
    of_model: dict[str, list[ModelDay]] = {}
    for one in days:
        of_model.setdefault(one.model, []).append(one)
    found = [
        ModelSums(
            name,
            sum(one.n_prompts for one in own),
            sum(one.n_matched for one in own),
            own[0].day,
            own[-1].day,
            own[0].day > start,
        )
        for name, own in of_model.items()
    ]
    return sorted(found, key=lambda one: (-one.first_day, -one.n_prompts, one.model))


def beginning_key(one: Beginning) -> str:
    """What /accounts takes as `began`."""
    mix = one.mix
    return f"{one.hour}.{mix.coding}.{mix.agentic_reasoning}.{mix.long_horizon_planning}"


def mix_words(mix: Mix) -> str:
    """A mix in words: `coding 75 %, agentic 25 %`."""
    named = [f"{title_of(name)} {percent(value / MIX_STEPS)}" for name, value in vars(mix).items() if value]
    return ", ".join(named) if named else "none of the three capabilities"


def _summary(models: Sequence[ModelSums]) -> str:
    """The plot in a sentence."""
    n, matched = sum(one.n_prompts for one in models), sum(one.n_matched for one in models)
    if not matched:
        return "No prompt to any model matches a known extraction template."
    top = max(models, key=lambda one: one.n_matched)
    more = f" The {MOST_MODELS} with most are shown by name." if len(models) > MOST_MODELS else ""
    return (
        f"{matched:,} of {n:,} prompts with a model match a known extraction template, "
        f"{percent(top.n_matched / matched)} of them to {top.model}.{more}"
    )
