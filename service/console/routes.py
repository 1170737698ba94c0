"""The console in the app: all its routes, and what they share. Stands last."""

from __future__ import annotations

from fastapi import FastAPI

from service.console import account, accounts, assets, campaigns, catalogue, context, login, overview, reviews, trying
from service.console.standing import Standing
from service.http.service import Service


def add_console(app: FastAPI, service: Service) -> None:
    """Serve the console beside the API."""
    app.state.standing = Standing(service)
    for module in (assets, login, overview, accounts, account, reviews, campaigns, catalogue, context, trying):
        app.include_router(module.router)
