"""Serving: uvicorn with bounds on connections and headers, one process or several over one store. Stands last."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import closing
from typing import Any

import uvicorn
from pydantic import SecretStr

from classifier.errors import UsageError
from service.alerts.worker import alerting_of
from service.http.app import create_app
from service.http.loading import put_requests_first
from service.http.log import LOGGING
from service.http.metrics import MULTIPROCESS
from service.http.protocol import GuardedProtocol
from service.http.security import LOOPBACK
from service.settings import PREFIX, Settings
from service.store.keys import read_keys
from service.store.opening import open_store
from service.store.upgrade import upgrade

HUNG_SECONDS = 60
"""Seconds after which a worker that does not answer is taken for hung and begun anew. uvicorn's 5 are less than a busy
machine takes to load what a worker needs, so that none would ever come up."""


def serve(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        UsageError: an address other than loopback without any API key, or a receiver of alerts without a secret.
        BundleError, StoreError: what is needed to begin is not there.
    """
    if settings.host not in LOOPBACK:
        _require_keys(settings)
    alerting_of(settings)  # here, where it can be said, before several processes find out
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn drains first and hands it on then: a stop is no failure
    if settings.workers == 1:
        app = create_app(settings)
        put_requests_first()
        uvicorn.run(app, **uvicorn_options(settings))
    else:
        _serve_several(settings)


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn is to listen."""
    return {
        "host": settings.host,
        "port": settings.port,
        "http": GuardedProtocol,
        "ws": "none",
        "log_config": LOGGING,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": settings.most_connections,
        "timeout_keep_alive": settings.idle_seconds,
        "timeout_graceful_shutdown": settings.drain_seconds,
        "timeout_worker_healthcheck": HUNG_SECONDS,
    }


def _serve_several(settings: Settings) -> None:
    """Processes of their own, which read the settings from the environment."""
    given = {
        name: value
        for name, value in settings.model_dump(exclude_none=True).items()
        if not isinstance(value, SecretStr)  # which come from there
    }
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()})
    with tempfile.TemporaryDirectory(prefix="probewatch-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        uvicorn.run(
            "service.http.app:app_of_environment", factory=True, workers=settings.workers, **uvicorn_options(settings)
        )


def _require_keys(settings: Settings) -> None:
    if not _has_keys(settings):
        raise UsageError(
            f"--host got {settings.host}, which others can reach, and there is no API key yet: make one with "
            "`probewatch keys add`, or serve 127.0.0.1."
        )


def _has_keys(settings: Settings) -> bool:
    with closing(open_store(settings.store)) as store:
        if not store.is_there():
            return False
        upgrade(store)
        with store.reading() as connection:
            return bool(read_keys(connection))
