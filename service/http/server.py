"""Serving: uvicorn with bounds on connections and headers, one process or several over one store. Stands last."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from classifier.errors import UsageError
from service.http.app import create_app, keep_what_is_loaded
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
    """Closes a connection whose first request has not come, headers and all, by the time idle ones are closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        seconds = self.timeout_keep_alive  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_later(seconds, self._close_if_silent, transport)

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
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn drains first and hands it on then: a stop is no failure
    if settings.workers == 1:
        app = create_app(settings)
        keep_what_is_loaded()
        uvicorn.run(app, **uvicorn_options(settings))
    else:
        _serve_several(settings)


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn is to listen."""
    return {
        "host": settings.host,
        "port": settings.port,
        "http": PatientProtocol,
        "ws": "none",
        "log_config": LOGGING,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": settings.most_connections,
        "timeout_keep_alive": settings.idle_seconds,
        "timeout_graceful_shutdown": settings.drain_seconds,
    }


def _serve_several(settings: Settings) -> None:
    """Processes of their own, which read the settings from the environment."""
    given = settings.model_dump(exclude_none=True, exclude={"hash_key"})
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()})
    with tempfile.TemporaryDirectory(prefix="probewatch-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        uvicorn.run(
            "service.http.app:app_of_environment", factory=True, workers=settings.workers, **uvicorn_options(settings)
        )


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
