"""The console in the app: all its routes, and what they share. Stands last."""

from __future__ import annotations

from fastapi import FastAPI

from service.console import (
    account,
    accounts,
    alerts,
    assets,
    campaigns,
    catalogue,
    context,
    login,
    overview,
    proposing,
    reviews,
    trying,
)
from service.console.standing import Standing
from service.http.service import Service


def add_console(app: FastAPI, service: Service) -> None:
    """Serve the console beside the API."""
    app.state.standing = Standing(service)
    pages = (login, overview, accounts, account, reviews, campaigns, catalogue, proposing, context, trying, alerts)
    for module in (assets, *pages):
        app.include_router(module.router)
