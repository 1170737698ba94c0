"""PostgreSQL taken away under load and given back: shared by a test and a benchmark."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.killing import Load, assert_counted_once
from tests.serving import PATIENCE, Process
from tests.stores import PostgresServer

WAYS = ("stopped", "hanging")
"""Stopped at once, as by a crash; or every process of it halted, so that connections stay open and nothing comes."""


@dataclass
class Outage:
    """What was seen. `refused`: kinds of problems and how often; `noticed`, `recovered`: seconds until both /readyz and
    scoring said so; `slowest`: seconds that one request took while it was away."""

    before: int
    during: int = 0
    after: int = 0
    noticed: float = 0.0
    recovered: float = 0.0
    slowest: float = 0.0
    reason: str = ""
    refused: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)


def ride_out(server: Process, postgres: PostgresServer, url: str, way: str, seconds: float) -> Outage:
    """Load a server, take its store away for `seconds`, give it back; asserts that every event is counted once."""
    server.start()
    load = Load(server.url)
    thread = threading.Thread(target=load.run, args=(3600.0,))
    thread.start()
    try:
        _until(lambda: load.n_acknowledgements > 20, lambda: None)
        found = _outage(server, load, postgres, way, seconds)
    finally:
        load.stop()
        thread.join()
    found.counts = _counts(server.url)
    assert found.counts["received"] == sum(found.counts[name] for name in ("scored", "shed", "rejected", "failed"))
    assert_counted_once(load, url)
    return found


def _outage(server: Process, load: Load, postgres: PostgresServer, way: str, seconds: float) -> Outage:
    client = httpx.Client(base_url=server.url, timeout=PATIENCE)
    began = time.monotonic()
    _take_away(postgres, way)
    found = Outage(load.n_acknowledgements)
    try:
        _until(lambda: _both(client, load, 503, found), lambda: None)
        found.noticed, so_far = time.monotonic() - began, load.n_acknowledgements
        while time.monotonic() - began < seconds:
            assert _both(client, load, 503, found)
        found.during = load.n_acknowledgements - so_far
    finally:
        _give_back(postgres, way)
    began, so_far = time.monotonic(), load.n_acknowledgements
    _until(lambda: _both(client, load, 200, found) and load.n_acknowledgements > so_far, lambda: time.sleep(0.05))
    found.recovered, found.after = time.monotonic() - began, load.n_acknowledgements - so_far
    client.close()
    return found


def _both(client: httpx.Client, load: Load, status: int, found: Outage) -> bool:
    """Whether both /readyz and scoring answer so; notes how they refuse, and how long that takes.

    What is sent to be scored is what was counted before.
    """
    statuses = []
    for ask in (lambda: client.get("/readyz"), lambda: client.post("/v1/score", json=load.sent[0])):
        began = time.monotonic()
        answer = ask()
        found.slowest = max(found.slowest, time.monotonic() - began)
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            problem = answer.json()
            found.refused[problem["type"].rsplit(":", 1)[1]] += 1
            found.reason = problem["detail"]
    return statuses == [status, status]


def _take_away(postgres: PostgresServer, way: str) -> None:
    if way == "stopped":
        postgres.stop()
        return
    for pid in _processes(postgres):
        os.kill(pid, signal.SIGSTOP)


def _give_back(postgres: PostgresServer, way: str) -> None:
    if way == "stopped":
        postgres.start()
        return
    for pid in _processes(postgres):
        os.kill(pid, signal.SIGCONT)


def _processes(postgres: PostgresServer) -> list[int]:
    """The server and what it has started, the server first: it starts no more then."""
    first = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    children = [int(stat.split()[0]) for stat in stats if int(stat.rsplit(")", 1)[1].split()[1]) == first]
    return [first, *children]


def _counts(url: str) -> dict[str, int]:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    named = [line.split() for line in lines if line.startswith("probewatch_events_")]
    return {name.split("_")[2]: int(float(value)) for name, value in named if name.endswith("_total")}


def _until(holds: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it never came to that"
        meanwhile()
