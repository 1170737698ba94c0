"""A receiver of webhooks for tests: a real HTTP server that answers as it is told, and verifies signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What it tells of, once its signature is verified."""
        assert self.is_signed_by(KEY)
        return list(json.loads(self.body)["data"]["alerts"])

    def is_signed_by(self, key: bytes) -> bool:
        """As a receiver verifies: https://www.standardwebhooks.com."""
        signed = b".".join([self.message_id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{expected}" in self.headers["webhook-signature"].split()


Answer = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """`got`: requests so far. `answer` is called for each, and says or does what the test wants."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Answer = status(204)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Got(self.path, headers, body))
                receiver.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?team=abuse"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


def status(code: int, **headers: str) -> Answer:
    """Answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {**headers, "content-length": "0"}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Close without a word."""
    handler.close_connection = True


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Send headers without end, each in time."""
    handler.send_response(200)
    handler.flush_headers()
    try:
        while True:
            handler.wfile.write(b"x: y\r\n")
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True
