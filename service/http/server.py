"""Serving: uvicorn with bounds on connections and headers, one process or several over one store. Stands last."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from classifier.errors import UsageError
from service.http.app import create_app
from service.http.log import LOGGING
from service.http.metrics import MULTIPROCESS
from service.http.security import LOOPBACK
from service.settings import PREFIX, Settings
from service.store.keys import read_keys
from service.store.opening import open_store
from service.store.upgrade import upgrade

if TYPE_CHECKING:
    _Protocol = asyncio.Protocol
else:
    _Protocol = AutoHTTPProtocol


class PatientProtocol(_Protocol):
    """Closes a connection that has not sent a whole request line and headers within a time."""

    seconds = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        loop.call_later(self.seconds, self._close_if_silent, transport)

    def _close_if_silent(self, transport: asyncio.BaseTransport) -> None:
        if getattr(self, "cycle", None) is None:
            transport.close()


def serve(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        UsageError: an address other than loopback without any API key.
        BundleError, StoreError: what is needed to begin is not there.
    """
    if settings.host not in LOOPBACK:
        _require_keys(settings)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "http": _patient(settings.request_seconds),
        "ws": "none",
        "log_config": LOGGING,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": settings.most_connections,
        "timeout_keep_alive": settings.idle_seconds,
        "timeout_graceful_shutdown": settings.drain_seconds,
    }
    if settings.workers == 1:
        uvicorn.run(create_app(settings), **options)
    else:
        _serve_several(settings, options)


def _serve_several(settings: Settings, options: dict[str, Any]) -> None:
    """Processes of their own, which read the settings from the environment."""
    given = settings.model_dump(exclude_none=True, exclude={"hash_key"})
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()})
    with tempfile.TemporaryDirectory(prefix="probewatch-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        uvicorn.run("service.http.app:app_of_environment", factory=True, workers=settings.workers, **options)


def _require_keys(settings: Settings) -> None:
    store = open_store(settings.store)
    try:
        upgrade(store)
        with store.reading() as connection:
            if not read_keys(connection):
                raise UsageError(
                    f"--host got {settings.host}, which others can reach, and there is no API key yet: make one with "
                    "`probewatch keys add`, or serve 127.0.0.1."
                )
    finally:
        store.close()


def _patient(seconds: float) -> type[asyncio.Protocol]:
    return type("Patient", (PatientProtocol,), {"seconds": seconds})
