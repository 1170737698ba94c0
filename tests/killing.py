"""Killing a server under load, and what is left: shared by a test and a benchmark."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
from sqlalchemy import text

from service.store.codec import event_key
from service.store.opening import open_store
from tests.serving import Process

ACCOUNTS = 7
SENDERS = 4


class Load:
    """Sends events, each with its id, and remembers which were acknowledged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[dict[str, Any]] = []
        self.acknowledged: set[str] = set()
        self.n_acknowledgements = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, seconds: float) -> None:
        """Send until the time is up, the server is gone or `stop` is called."""
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._send, args=(until,)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._stop.set()

    def resend(self) -> None:
        """Send everything once more, as whoever got no answer would."""
        with httpx.Client(timeout=30) as client:
            for start in range(0, len(self.sent), 100):
                self._post(client, self.sent[start : start + 100])

    def _send(self, until: float) -> None:
        with httpx.Client(timeout=30) as client:
            while time.monotonic() < until and not self._stop.is_set():
                events = [self._new() for _ in range(3)]
                try:
                    if not self._post(client, events):
                        self._stop.wait(0.05)
                except httpx.TransportError:
                    return

    def _new(self) -> dict[str, Any]:
        with self._lock:
            i = len(self.sent)
            event = {
                "event_id": f"event-{i}",
                "account_id": f"account-{i % ACCOUNTS}",
                "prompt": f"Sort list {i // 2}.",
            }
            self.sent.append(event)
            return event

    def _post(self, client: httpx.Client, events: Sequence[dict[str, Any]]) -> bool:
        """Whether all of them were acknowledged."""
        answer = client.post(f"{self.url}/v1/score/batch", json={"events": list(events)})
        results = answer.json()["results"] if answer.status_code == 200 else []
        acknowledged = [one["event_id"] for one in results if "event_id" in one]
        with self._lock:
            self.acknowledged |= set(acknowledged)
            self.n_acknowledgements += len(acknowledged)
        return len(acknowledged) == len(events)


def kill_under_load(server: Process, store_url: str, times: int, seconds: float = 0.6) -> Load:
    """Start the server, load it, kill it, over and over; then start it once more. What was acknowledged is asserted to
    be stored after every kill."""
    load = Load(server.url)
    for _ in range(times):
        server.start()
        killer = threading.Timer(seconds, server.kill)
        killer.start()
        load.run(seconds * 2)
        killer.join()
        stored = _stored(store_url)
        missing = {name for name in load.acknowledged if event_key(name) not in stored}
        assert not missing, f"{len(missing)} acknowledged events are lost"
    server.start()
    return load


def assert_counted_once(load: Load, store_url: str) -> None:
    """Every event that was ever sent, and then sent again, is counted exactly once."""
    load.resend()
    assert load.acknowledged == {event["event_id"] for event in load.sent}
    expected: dict[str, int] = {}
    for event in load.sent:
        expected[event["account_id"]] = expected.get(event["account_id"], 0) + 1
    store = open_store(store_url)
    with store.reading() as connection:
        counted = connection.execute(text("SELECT account_id, n_prompts FROM accounts")).all()
        n_units = connection.execute(text("SELECT count(*) FROM units WHERE channel = 0")).scalar()
        n_folded = connection.execute(text("SELECT sum(n_units) FROM accounts")).scalar()
    store.close()
    assert {row.account_id: row.n_prompts for row in counted} == expected
    distinct = {(event["account_id"], event["prompt"]) for event in load.sent}
    assert n_units == n_folded == len(distinct)


def _stored(store_url: str) -> set[tuple[int, int]]:
    store = open_store(store_url)
    with store.reading() as connection:
        rows = connection.execute(text("SELECT id_high, id_low FROM events")).all()
    store.close()
    return {(row.id_high, row.id_low) for row in rows}
