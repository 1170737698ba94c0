"""Load on an HTTP server over keep-alive connections: as much as it takes, or so many requests a second.

Bare sockets and requests that are bytes beforehand: the load shares the processors with the server, and a client
library would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from typing import cast

import numpy as np

from classifier.errors import ProbewatchError

_TICK = 0.001
_PATIENCE = 10.0
"""Seconds that the last answers of a load are waited for."""


@dataclass(frozen=True)
class Loaded:
    """What a load came to.

    Attributes:
        seconds: from the first request to the last answer.
        took: seconds to each answer with status 200, in the order of the answers; from when it was due, if it had to
            wait for a connection.
        statuses: answers by status.
        unanswered: requests without an answer.
    """

    seconds: float
    took: array[float]
    statuses: Counter[int]
    unanswered: int

    @property
    def rate(self) -> float:
        """Answers with status 200 a second."""
        return len(self.took) / self.seconds

    @property
    def n_answers(self) -> int:
        return self.statuses.total()

    def milliseconds(self, part: float) -> float:
        """Quantile of `took`; nan without any."""
        return float(np.quantile(self.took, part)) * 1e3 if len(self.took) else float("nan")


def run_load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float | None = None
) -> Loaded:
    """Send requests in turn for a time: on each connection as soon as it is free, or `rate` a second over all.

    Raises:
        ProbewatchError: the server closed a connection with a request on it.
    """
    load = _Load(requests, seconds, rate)
    if find_spec("uvloop") is not None:
        import uvloop

        loaded: Loaded = uvloop.run(load.run(port, connections))
        return loaded
    return asyncio.run(load.run(port, connections))


def post(path: str, body: bytes) -> bytes:
    """A request as it is sent."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class _Load:
    """What is to be sent, and what came of it."""

    def __init__(self, requests: Sequence[bytes], seconds: float, rate: float | None) -> None:
        self._requests = cycle(requests)
        self._seconds, self._rate = seconds, rate
        self._idle: list[_Connection] = []  # the last used is used first
        self._due: deque[float] = deque()  # when requests were due that wait for a connection
        self._took = array("d")
        self._statuses: Counter[int] = Counter()
        self._ends = 0.0
        self._lost = 0
        self._closed = False

    async def run(self, port: int, connections: int) -> Loaded:
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port) for _ in range(connections)]
        every = [connection for _, connection in made]
        began = time.perf_counter()
        self._ends = began + self._seconds
        if self._rate is None:
            for connection in every:
                self._send(connection, began)
            await asyncio.sleep(self._seconds)
        else:
            self._idle.extend(every)
            await self._pace(began, self._rate)
        await self._last_answers(every)
        lasted = time.perf_counter() - began
        self._closed = True
        for transport, _ in made:
            transport.abort()
        if self._lost:
            raise ProbewatchError(
                f"The server closed {self._lost:,} connections without an answer, which is our fault."
            )
        unanswered = sum(connection.is_busy for connection in every) + len(self._due)
        return Loaded(lasted, self._took, self._statuses, unanswered)

    def answered(self, connection: _Connection, status: int, began: float) -> None:
        """Note an answer, and send what is next."""
        now = time.perf_counter()
        self._statuses[status] += 1
        if status == 200:
            self._took.append(now - began)
        if self._due:
            self._send(connection, self._due.popleft())
        elif self._rate is None and now < self._ends:
            self._send(connection, now)
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Note a connection that the server closed: it may, if nothing was asked on it for a time."""
        if self._closed:
            return
        if connection.is_busy:
            self._lost += 1
        else:
            self._idle.remove(connection)

    async def _pace(self, began: float, rate: float) -> None:
        sent = 0
        while (now := time.perf_counter()) < self._ends:
            for _ in range(int((now - began) * rate) - sent):
                sent += 1
                if self._idle:
                    self._send(self._idle.pop(), now)
                else:
                    self._due.append(now)
            await asyncio.sleep(_TICK)

    def _send(self, connection: _Connection, began: float) -> None:
        connection.send(next(self._requests), began)

    async def _last_answers(self, connections: Sequence[_Connection]) -> None:
        until = time.perf_counter() + _PATIENCE
        while time.perf_counter() < until and (self._due or any(one.is_busy for one in connections)):
            await asyncio.sleep(_TICK)


class _Connection(asyncio.Protocol):
    """A connection with one request at a time on it."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._answer = bytearray()
        self._length = 0  # of the whole answer, 0 as long as its head is not whole
        self._began = 0.0
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)

    def send(self, request: bytes, began: float) -> None:
        self._began, self.is_busy = began, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._length:
            self._length = _length_of(self._answer)
        if self._length and len(self._answer) >= self._length:
            status = int(self._answer[9:12])
            self._answer.clear()
            self._length, self.is_busy = 0, False
            self._load.answered(self, status, self._began)


def _length_of(answer: bytearray) -> int:
    """Bytes of an answer, head and all; 0 unless its head is whole."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = bytes(answer[:end]).lower()
    return end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
