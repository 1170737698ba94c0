"""A real server for tests: uvicorn in a thread of this process, or `probewatch serve` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from service.console.standing import Standing
from service.http.app import create_app
from service.http.server import uvicorn_options
from service.http.service import Service
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0


class Running:
    """A server that is up: `client` talks to it, `service` is what runs."""

    def __init__(self, app: FastAPI, client: httpx.Client) -> None:
        self.app, self.client = app, client
        self.service: Service = app.state.service

    @property
    def standing(self) -> Standing:
        """What the console goes by."""
        return self.app.state.standing  # type: ignore[no-any-return]

    def score(self, **event: Any) -> httpx.Response:
        return self.client.post("/v1/score", json=event)

    def publish(self) -> None:
        """Publish now, whoever's turn it is."""
        self.service.refresher.publish(claimed=True)


@contextmanager
def running(store: str, **changes: Any) -> Iterator[Running]:
    """A server on a free port, ready; it publishes only when told to."""
    settings = Settings(**{"store": store, "port": 0, "refresh_seconds": 3600, **changes})
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, **{**uvicorn_options(settings), "log_config": None}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            _wait(lambda: client.get("/readyz").status_code == 200)
            yield Running(app, client)
    finally:
        server.should_exit = True
        thread.join()


class Process:
    """`probewatch serve` as a process, on a port that stays its own over restarts."""

    def __init__(self, store: str, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            *(sys.executable, "-c", "import sys; from service.cli import main; sys.exit(main())"),
            *("serve", "--port", str(self.port), "--store", store, *options),
        ]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = os.environ | {"PROBEWATCH_REFRESH_SECONDS": "1"}
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers are of its group, and end with it
        )
        _wait(self._is_ready)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.communicate()

    def clean_up(self) -> None:
        """Leave nothing running, whatever the test came to."""
        process = getattr(self, "process", None)
        if process is not None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()

    def stop(self) -> tuple[int, str]:
        """As systemd does: SIGTERM, then wait; exit code and what it said."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode()

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0].decode()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def _wait(holds: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "the server did not come up"
        time.sleep(0.02)
