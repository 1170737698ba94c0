"""What hooks are tested with: applications on real ports, and a line that loses answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from classifier.bundle import data_dir
from probewatch_client import Client, Event
from probewatch_client.watch import account_of_key
from tests.serving import Running, running

PATIENCE = 60.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, f"still not: {what}"
        time.sleep(0.01)


@contextmanager
def hosted(app: Any) -> Iterator[str]:
    """The URL of an ASGI application that is served by uvicorn."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "started")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


BAD_KEY, GOOD_KEY = "sk-bad-0123456789abcdef", "sk-good-0123456789abcdef"
BAD, GOOD = account_of_key(BAD_KEY), account_of_key(GOOD_KEY)


@contextmanager
def knowing(store: str) -> Iterator[Running]:
    """A service that has flagged the account of BAD_KEY, which sent what a campaign's account of the sample sent."""
    sample = (data_dir() / "sample" / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, sample) if row["account_id"] == "acct_0032"]
    with running(store, population=100, most_wait_ms=60_000) as server:
        with Client(str(server.client.base_url)) as client:
            client.score_batch([Event(BAD, row["prompt"], system=row.get("system")) for row in rows])
        server.publish()
        assert server.client.get(f"/v1/accounts/{BAD}").json()["decision"] == "flag"
        yield server


def n_prompts(server: Running, account: str) -> int:
    """Events that the service holds of an account."""
    answer = server.client.get(f"/v1/accounts/{account}")
    return int(answer.json()["n_prompts"]) if answer.status_code == 200 else 0


class LossyLine:
    """A TCP line to a server. The next `losing` answers are lost: they arrive here, then the connection breaks.

    `lost` is called at each, before it breaks.
    """

    def __init__(self, target: str, losing: int = 0, lost: Callable[[], None] = lambda: None) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self.losing, self._lost = losing, lost
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):  # the other side broke off, which is what this line is for
            while piece := source.recv(1 << 16):
                if answers and self.losing > 0:
                    self.losing -= 1
                    self._lost()
                    break
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
