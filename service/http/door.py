"""The door: refuses a prompt that would wait too long before HTTP is parsed, at half of what it costs after.

    bytes of a request -> **door** (gate, scorer) -> protocol

It answers and counts as `limits`, `direct` and `scoring` would. Whom it does not know, and what it cannot read at a
glance, it lets in: these answer then. It keeps nothing of what it refuses. Stands after `scorer` and `limits`.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from starlette.datastructures import Headers

from service.http.limits import note, require_kind, with_security
from service.http.metrics import Metrics
from service.http.problems import Problem, unavailable
from service.http.scorer import Scorer
from service.http.security import Caller, Gate

_STALE_SECONDS = 0.1
"""After so long without a prompt by itself the loop is no longer as late as it was."""
START = b"POST /v1/score HTTP/1.1\r\n"
_METHOD, _PATH = "POST", "/v1/score"
_END = b"\r\n\r\n"
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\x21-\x7e][\t\x20-\x7e]*(?<![\t ])\r\n)+")
_UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"upgrade", b"proxy-connection"})
_STAYS = {b"": True, b"keep-alive": True, b"close": False}


@dataclass(frozen=True)
class Head:
    """What a request says before its body: fields with names in lower case, and whether its connection stays."""

    fields: list[tuple[bytes, bytes]]
    stays: bool


@dataclass(frozen=True)
class Rendered:
    """An answer with status 503: its own fields as lines, and its body."""

    lines: bytes
    body: bytes


class Refused(NamedTuple):
    """An answer, and whether the connection stays after it."""

    answer: Rendered
    stays: bool


class Door:
    """Refuses while the scorer is full, to those who may ask it."""

    def __init__(self, gate: Gate, scorer: Scorer, metrics: Metrics) -> None:
        self._gate, self._scorer, self._metrics = gate, scorer, metrics
        self._is_passing = False
        self._forgetting: asyncio.TimerHandle | None = None

    def refuse(self, data: bytes) -> Refused | None:
        """The answer to a request that begins with START and is not let in, counted; None if it is let in."""
        began = time.perf_counter()
        if not self._is_passing:
            self._begin_pass(began)
        if not self._scorer.is_full(1):
            self._scorer.waiting.let_in()  # its own task counts it in the next pass: many come in one
            return None
        head = read_head(data)
        caller = self._caller(head) if head is not None else None
        refusal = self._scorer.refusal(1) if caller is not None else None
        if head is None or refusal is None:
            return None
        note(self._metrics, _METHOD, _PATH, refusal.status, time.perf_counter() - began, caller)
        return Refused(_rendered(refusal.kind, refusal.detail, refusal.headers["retry-after"]), head.stays)

    def _begin_pass(self, now: float) -> None:
        """See how long the event loop takes to come round, from the first request that it reads in a pass."""
        self._is_passing = True
        asyncio.get_running_loop().call_soon(self._read_all, now)

    def _read_all(self, began: float) -> None:
        """What was let in begins with its own task now, and is counted there."""
        self._is_passing = False
        self._scorer.waiting.all_came()
        asyncio.get_running_loop().call_soon(self._come_round, began)

    def _come_round(self, began: float) -> None:
        waiting = self._scorer.waiting
        waiting.note_lag(time.perf_counter() - began)
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(_STALE_SECONDS, waiting.forget_lag)

    def _caller(self, head: Head) -> Caller | None:
        try:
            headers = Headers(raw=head.fields)
            caller = self._gate.admit(_METHOD, _PATH, headers)
            require_kind(_METHOD, _PATH, headers)
            return caller
        except Problem:
            return None


@lru_cache(64)
def _rendered(kind: str, detail: str, retry_after: str) -> Rendered:
    """The answer for which there are few reasons and many who ask."""
    response = unavailable(kind, detail, int(retry_after)).response()
    lines = [b"%b: %b\r\n" % field for field in with_security(response.raw_headers)]
    return Rendered(b"".join(lines), bytes(response.body))


def read_head(data: bytes) -> Head | None:
    """The head of a request that begins with START, if that is one whole request and nothing about it is unusual."""
    end = data.find(_END)
    head = data[len(START) : end + 2]
    if end < 0 or not _FIELDS.fullmatch(head):
        return None
    fields = [_field(line) for line in head[:-2].split(b"\r\n")]
    known = dict(fields)
    length, stays = known.get(b"content-length", b""), _STAYS.get(known.get(b"connection", b"").lower())
    is_whole = length.isdigit() and int(length) == len(data) - end - len(_END)
    if not is_whole or stays is None or len(known) < len(fields) or not _UNUSUAL.isdisjoint(known):
        return None
    return Head(fields, stays)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.lstrip(b" \t")
