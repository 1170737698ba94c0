"""`probewatch serve` as a process: killed, drained, refused, several over one store."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.command import Ran
from tests.killing import Load, assert_counted_once, kill_under_load
from tests.serving import Process

NewServer = Callable[..., Process]


def test_what_was_acknowledged_before_a_kill_is_counted_once(new_server: NewServer, store_url: str) -> None:
    server = new_server(store_url)
    load = kill_under_load(server, store_url, times=2, seconds=1.5)
    assert len(load.acknowledged) > 20
    assert_counted_once(load, store_url)
    assert server.stop()[0] == 0


def test_several_workers_count_each_event_once(new_server: NewServer, store_url: str) -> None:
    server = new_server(store_url, "--workers", "2")
    server.start()
    load = Load(server.url)
    load.run(1.5)
    assert len(load.acknowledged) > 20
    assert_counted_once(load, store_url)
    metrics = httpx.get(f"{server.url}/metrics").text
    scored = next(line for line in metrics.splitlines() if line.startswith("probewatch_events_scored_total"))
    assert float(scored.split()[1]) == load.n_acknowledgements  # of all workers


def test_sigterm_lets_requests_finish(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(f"sqlite:///{tmp_path / 'store.db'}")
    server.start()
    events = [{"account_id": "a", "event_id": f"e{i}", "prompt": f"Tell me about {i}. " * 50} for i in range(1000)]
    answers: list[httpx.Response] = []
    sender = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{server.url}/v1/score/batch", json={"events": events}, timeout=60))
    )
    sender.start()
    while "received_total 1000" not in httpx.get(f"{server.url}/metrics").text:
        pass
    code, said = server.stop()
    sender.join()
    assert answers[0].status_code == 200 and len(answers[0].json()["results"]) == 1000
    assert code == 0 and "Traceback" not in said


def test_logs_are_json_without_prompts(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(f"sqlite:///{tmp_path / 'store.db'}")
    server.start()
    httpx.post(f"{server.url}/v1/score", json={"account_id": "a", "prompt": "the secret sonnet"})
    httpx.post(f"{server.url}/v1/score", content=b'{"the secret sonnet', headers={"content-type": "application/json"})
    _, said = server.stop()
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line["message"].startswith("ready: bundle") for line in lines)
    assert "sonnet" not in said


def test_without_keys_only_loopback_is_served(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = Ran(capsys, "serve", "--host", "0.0.0.0", "--store", f"sqlite:///{tmp_path / 'store.db'}")
    assert ran.code == 2 and "there is no API key yet" in ran.sentence
    assert list(tmp_path.iterdir()) == []  # what is refused leaves no store behind


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--store", "mysql://x"], 2, "expected sqlite:///FILE or postgresql://"),
        (["--store", "nonsense"], 2, "expected sqlite:///FILE or postgresql://"),
        (["--store", "sqlite:////nowhere/at/all.db"], 2, "is not there: make it, or name another"),
        (["--bundle", "nowhere"], 4, "nowhere"),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    store = [] if "--store" in options else ["--store", f"sqlite:///{tmp_path / 'store.db'}"]
    ran = Ran(capsys, "serve", *options, *store)
    assert (ran.code, said in ran.sentence) == (code, True), ran.err
