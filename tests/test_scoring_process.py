"""The process that scores: lost and begun anew, ended with its front, and the messages between the two."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.bundle import default_bundle_dir
from classifier.errors import BundleError
from service.http.frames import Frames, pack
from service.http.loading import ids_of, load_alike, load_pipeline
from service.http.problems import Problem
from service.settings import Settings
from tests.serving import PATIENCE, Process, Running, running

NewServer = Callable[..., Process]


def _scoring_of(pid: int) -> list[int]:
    """The processes that one began."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def _pid(server: Running) -> int:
    begun = server.service.scorer._begun
    assert begun is not None and begun.process.pid is not None
    return begun.process.pid


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 97))
def test_messages_come_whole_however_their_bytes_are_cut(messages: list[bytes], step: int) -> None:
    sent, frames, found = b"".join(map(pack, messages)), Frames(), list[object]()
    for start in range(0, len(sent), step):
        found += frames.feed(sent[start : start + step])
    assert found == messages


def test_a_problem_is_the_same_in_another_process() -> None:
    (found,) = Frames().feed(pack(Problem(503, "kind", "Why.", {"retry-after": "2"})))
    assert isinstance(found, Problem)
    assert (found.status, found.kind, found.detail, found.headers) == (503, "kind", "Why.", {"retry-after": "2"})


def test_what_scores_is_begun_anew_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        event = {"account_id": "a", "prompt": "x", "event_id": "e1"}
        first = server.score(**event).json()
        before = _pid(server)
        os.kill(before, signal.SIGKILL)
        _wait_for(lambda: server.service.not_ready is not None)
        refused = server.score(account_id="a", prompt="y", event_id="e2")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "2"
        assert refused.json()["type"] == "urn:probewatch:problem:scoring-lost"
        assert server.client.get("/readyz").json()["detail"] == "What scores was lost, and is begun anew."
        _wait_for(lambda: server.client.get("/readyz").status_code == 200)
        again, new = server.score(**event).json(), server.score(account_id="a", prompt="y", event_id="e2").json()
        assert (again["prompt"], again["account"]["n_prompts"], new["account"]["n_prompts"]) == (first["prompt"], 1, 2)
        assert _pid(server) != before
        found = server.service.metrics.counts()
        assert found == {"received": 4, "scored": 3, "shed": 0, "rejected": 0, "failed": 1}


def test_who_waits_for_it_when_it_is_lost_is_told(tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        with server.service.store.writing():  # nothing else is committed meanwhile
            asker = threading.Thread(target=lambda: answers.append(server.score(account_id="a", prompt="x")))
            asker.start()
            _wait_for(lambda: server.service.scorer.waiting.there == 1)
            os.kill(_pid(server), signal.SIGKILL)
            asker.join(PATIENCE)
        assert [one.json()["type"] for one in answers] == ["urn:probewatch:problem:scoring-lost"]
        assert server.service.scorer.waiting.there == 0


def test_it_goes_by_what_was_published_before_it_was_begun_anew(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        before = server.score(account_id="a", prompt="x").json()["account"]["verdict_as_of"]
        os.kill(_pid(server), signal.SIGKILL)
        _wait_for(lambda: server.service.not_ready is not None)
        _wait_for(lambda: server.client.get("/readyz").status_code == 200)
        assert server.score(account_id="a", prompt="x").json()["account"]["verdict_as_of"] == before
        server.publish()
        assert server.score(account_id="a", prompt="x").json()["account"]["verdict_as_of"] > before


def test_it_is_begun_anew_with_what_was_loaded_before(tmp_path: Path) -> None:
    bundle, catalogue = tmp_path / "bundle", tmp_path / "catalogue"
    copytree(default_bundle_dir(), bundle)
    catalogue.mkdir()
    with running(f"sqlite:///{tmp_path / 'store.db'}", bundle=bundle, catalogue=catalogue) as server:
        before = server.score(account_id="a", prompt="x").json()["bundle_id"]
        manifest = bundle / "manifest.json"
        was = manifest.read_bytes()
        manifest.write_bytes(was.replace(b'"bundle_id": "', b'"bundle_id": "other-'))
        os.kill(_pid(server), signal.SIGKILL)
        _wait_for(
            lambda: "manifest" in (server.service.not_ready or "") or "goes by" in (server.service.not_ready or "")
        )
        manifest.write_bytes(was)
        _wait_for(lambda: server.client.get("/readyz").status_code == 200)
        assert server.score(account_id="a", prompt="x").json()["bundle_id"] == before


def test_another_bundle_than_the_service_goes_by_is_refused() -> None:
    mine = ids_of(load_pipeline(Settings()))
    assert ids_of(load_alike(Settings(), mine)) == mine
    with pytest.raises(BundleError, match=f"is {mine.bundle}, and the service goes by other; put that back, or have"):
        load_alike(Settings(), mine._replace(bundle="other"))


def test_nothing_is_kept_of_processes_that_are_gone(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        open_files = []
        for _ in range(3):
            os.kill(_pid(server), signal.SIGKILL)
            _wait_for(lambda: server.service.not_ready is not None)
            _wait_for(lambda: server.client.get("/readyz").status_code == 200)
            server.score(account_id="a", prompt="x")
            open_files.append(len(os.listdir("/proc/self/fd")))
        assert open_files[2] == open_files[1]


def test_it_ends_with_its_front(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(f"sqlite:///{tmp_path / 'store.db'}")
    server.start()
    (own,) = _scoring_of(server.process.pid)
    server.kill()
    _wait_for(lambda: _is_gone(own))


def test_a_signal_to_all_of_them_lets_requests_finish(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(f"sqlite:///{tmp_path / 'store.db'}")
    server.start()
    (own,) = _scoring_of(server.process.pid)
    events = [{"account_id": "a", "event_id": f"e{i}", "prompt": f"Tell me about {i}. " * 50} for i in range(1000)]
    answers: list[httpx.Response] = []
    sender = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{server.url}/v1/score/batch", json={"events": events}, timeout=60))
    )
    sender.start()
    _wait_for(lambda: "received_total 1000" in httpx.get(f"{server.url}/metrics").text)
    os.killpg(server.process.pid, signal.SIGTERM)
    code, said = server.stop()
    sender.join()
    assert answers[0].status_code == 200 and len(answers[0].json()["results"]) == 1000
    assert code == 0 and "Traceback" not in said and _is_gone(own)


@pytest.mark.parametrize("n", [1, 3])
def test_events_keep_their_order(tmp_path: Path, n: int) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        events = [{"account_id": "a", "prompt": "x", "event_id": f"{i}"} for i in range(300)]
        batches = [events[i : i + n] for i in range(0, len(events), n)]
        said = [server.client.post("/v1/score/batch", json={"events": one}).json()["results"] for one in batches[:30]]
        assert [one["event_id"] for answer in said for one in answer] == [one["event_id"] for one in events[: 30 * n]]
        assert [one["account"]["n_prompts"] for one in said[-1]] == [30 * n] * n
