"""The HTTP calls: shapes, problems, bounds, retries, counters, reviews and erasure."""

from __future__ import annotations

import gc
import shutil
import socket
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from classifier.bundle import default_bundle_dir
from service.http.docs import BODIES
from service.settings import Settings, settings_table
from tests.serving import Running, running

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("http")
    with running(f"sqlite:///{folder / 'store.db'}", most_body_bytes=100_000, most_wait_ms=60_000) as opened:
        yield opened


def counters(server: Running) -> dict[str, int]:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    found = {family.name.removeprefix("probewatch_events_"): family for family in families}
    names = ("received", "scored", "shed", "rejected", "failed")
    return {name: int(found[name].samples[0].value) for name in names}


def test_an_answer_has_the_promised_shape(server: Running) -> None:
    answer = server.score(account_id="shape", prompt="Write a parser.", event_id="shape-1").json()
    assert set(answer) == {"event_id", "prompt", "account", "bundle_id", "catalogue_id"}
    assert set(answer["prompt"]) == {"capability", "probabilities", "p_extraction", "template"}
    assert set(answer["account"]) == {
        *("account_id", "decision", "capabilities", "log10_e", "n_prompts", "campaign_id", "verdict_as_of")
    }
    assert (answer["event_id"], answer["account"]["n_prompts"]) == ("shape-1", 1)


def test_the_same_id_again_counts_nothing(server: Running) -> None:
    first = server.score(account_id="retry", prompt="Write a parser.", event_id="retry-1")
    again = server.score(account_id="retry", prompt="Write a parser.", event_id="retry-1")
    assert again.status_code == 200 and again.json() == first.json()
    both = [{"account_id": "retry", "prompt": "Plan a trip.", "event_id": "retry-2"}] * 2
    results = server.client.post("/v1/score/batch", json={"events": both}).json()["results"]
    assert [one["account"]["n_prompts"] for one in results] == [2, 2]


def test_without_an_id_one_is_made_and_every_event_counts(server: Running) -> None:
    answers = [server.score(account_id="no-id", prompt="Write a parser.").json() for _ in range(2)]
    assert answers[0]["event_id"] != answers[1]["event_id"]
    assert answers[1]["account"]["n_prompts"] == 2


def test_an_id_of_another_account_is_a_conflict(server: Running) -> None:
    server.score(account_id="owner", prompt="Write a parser.", event_id="taken")
    answer = server.score(account_id="other", prompt="Write a parser.", event_id="taken")
    assert answer.status_code == 409
    assert server.client.get("/v1/accounts/other").status_code == 404


def test_messages_are_read_as_files_are(server: Running) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"text": "Write a parser."}]}]
    assert server.score(account_id="m", messages=messages).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "bad-json"),
        (b"{", 400, "bad-json"),
        (b"\xff\xfe", 400, "bad-json"),
        (b'{"account_id": "a", "prompt": "x", "n": ' + b"[" * 65 + b"]" * 65 + b"}", 400, "too-deep"),
        (b"[" * 100_000, 400, "too-deep"),
        (b"[]", 422, "bad-event"),
        (b'{"prompt": "x"}', 422, "bad-event"),
        (b'{"account_id": "a"}', 422, "bad-event"),
        (b'{"account_id": "a", "prompt": 7}', 422, "bad-event"),
        (b'{"account_id": "a", "prompt": " "}', 422, "bad-event"),
        (b'{"account_id": "a\\u0000", "prompt": "x"}', 422, "bad-event"),
        (b'{"account_id": "a", "prompt": "x", "timestamp": "soon"}', 422, "bad-event"),
        (b'{"account_id": "a", "prompt": "x", "timestamp": "2099-01-01"}', 422, "bad-event"),
        (b'{"account_id": "a", "prompt": "' + b"x" * 100_001 + b'"}', 413, "too-large"),
    ],
)
def test_bad_bodies_are_problems_that_quote_nothing(server: Running, body: bytes, status: int, kind: str) -> None:
    answer = server.client.post("/v1/score", content=body, headers=JSON)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail"} and problem["status"] == status
    assert problem["type"] == f"urn:probewatch:problem:{kind}"
    assert "xx" not in problem["detail"] and problem["detail"].endswith(".")


def test_brackets_in_a_prompt_are_no_depth(server: Running) -> None:
    assert server.score(account_id="b", prompt='["{[' * 100 + '\\"').status_code == 200


@pytest.mark.parametrize("events", [[], [{}] * 1001, "x", None])
def test_a_batch_holds_1_to_1000_events(server: Running, events: Any) -> None:
    assert server.client.post("/v1/score/batch", json={"events": events}).status_code == 422


def test_a_batch_answers_each_event_in_order(server: Running) -> None:
    events = [
        {"account_id": "x", "prompt": "Write a parser."},
        {"account_id": "x"},
        {"account_id": "y", "prompt": "Hi"},
    ]
    results = server.client.post("/v1/score/batch", json={"events": events}).json()["results"]
    assert [one["account"]["account_id"] if "account" in one else one["status"] for one in results] == ["x", 422, "y"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/score", 405),
        ("GET", "/v1/accounts/unseen", 404),
        ("DELETE", "/v1/accounts/unseen", 404),
        ("GET", "/v1/campaigns/unseen", 404),
        ("GET", "/v1/accounts?limit=0", 422),
        ("GET", "/v1/accounts?decision=guilty", 422),
    ],
)
def test_other_errors_are_problems_too(server: Running, method: str, path: str, status: int) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_text_of_another_kind_is_refused(server: Running) -> None:
    """What a web page may send anywhere without asking is no JSON."""
    answer = server.client.post("/v1/score", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_counters_reconcile(server: Running) -> None:
    before = counters(server)
    server.score(account_id="c", prompt="x")
    server.score(account_id="c")
    events = [{"account_id": "c", "prompt": "y"}, {}, {"account_id": "c2", "prompt": "y", "event_id": "taken"}]
    server.score(account_id="c", prompt="x", event_id="taken")
    server.client.post("/v1/score/batch", json={"events": events})
    after = counters(server)
    assert after["received"] == sum(after[name] for name in ("scored", "shed", "rejected", "failed"))
    assert after["received"] - before["received"] == 6


def test_more_than_may_wait_is_shed_with_retry_after(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}", most_waiting=1) as small, ThreadPoolExecutor(9) as pool:
        with small.service.store.writing():  # nothing else is committed meanwhile
            answers = [pool.submit(small.score, account_id=f"b{i}", prompt="x") for i in range(9)]
            shed = next(answer.result() for answer in as_completed(answers, 30))  # none of the others is answered yet
        assert (shed.status_code, shed.headers["retry-after"]) == (503, "1")
        statuses = Counter(answer.result().status_code for answer in answers)
        assert statuses.keys() == {200, 503}
        found = counters(small)
        assert (found["scored"], found["shed"], found["received"]) == (statuses[200], statuses[503], 9)


def test_a_review_is_kept_and_shown(server: Running) -> None:
    server.score(account_id="seen/by analyst", prompt="Write a parser.")
    path = "/v1/accounts/seen%2Fby%20analyst"
    given = {"state": "dismissed", "reason": "their own evaluation", "until": "2027-01-31T00:00:00Z"}
    made = server.client.post(f"{path}/reviews", json=given)
    assert made.status_code == 201 and made.json()["author"] == "loopback"
    found = server.client.get(path).json()
    assert found["review_state"] == "dismissed" and found["reviews"] == [made.json()]
    server.client.post(f"{path}/reviews", json={"state": "confirmed", "reason": "x", "until": "2020-01-01T00:00:00Z"})
    assert server.client.get(path).json()["review_state"] == "dismissed"  # the newer one has ended


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"state": "guilty", "reason": "x"},
        {"state": "watched", "reason": ""},
        {"state": "watched", "reason": "x", "until": "2027-01-31T00:00:00"},
        {"state": "watched", "reason": "x", "author": "someone else"},
    ],
)
def test_a_review_that_is_not_whole_is_refused(server: Running, given: dict[str, Any]) -> None:
    server.score(account_id="reviewed", prompt="x")
    assert server.client.post("/v1/accounts/reviewed/reviews", json=given).status_code == 422


def test_erasure_leaves_nothing_but_that_it_was_done(server: Running) -> None:
    server.score(account_id="erase-me", prompt="Write a parser.", event_id="erase-1")
    server.client.post("/v1/accounts/erase-me/reviews", json={"state": "watched", "reason": "x"})
    with server.service.store.reading() as connection:
        query = text("SELECT account_no FROM accounts WHERE account_id = 'erase-me'")
        number = connection.execute(query).scalar_one()
    assert server.client.delete("/v1/accounts/erase-me").status_code == 204
    assert server.client.get("/v1/accounts/erase-me").status_code == 404
    with server.service.store.reading() as connection:
        for name in ("accounts", "units", "states", "activity", "records", "uses", "members", "reviews", "events"):
            left = connection.execute(text(f"SELECT count(*) FROM {name} WHERE account_no = {number}")).scalar()
            assert left == 0, name
        action, subject = connection.execute(text("SELECT action, subject FROM audit ORDER BY audit_no DESC")).first()
    assert action == "account erased" and "erase-me" not in subject


def test_ids_are_forgotten_after_their_time(server: Running) -> None:
    server.score(account_id="old", prompt="x", event_id="old-1")
    with server.service.store.writing() as connection:
        connection.execute(text("UPDATE events SET received = 0"))
    server.service._retention.turn(time.time_ns() // 1000)
    with server.service.store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 0


def test_templates_are_those_of_the_bundle(server: Running) -> None:
    answer = server.client.get("/v1/templates").json()
    signatures = server.service.scorer.pipeline.labeler.templates.signatures
    assert [one["id"] for one in answer["templates"]] == [signature.facts.id for signature in signatures]


def test_reload_says_whether_anything_changed(server: Running) -> None:
    answer = server.client.post("/v1/reload").json()
    assert answer["changed"] is False and answer["bundle_id"] == server.service.scorer.pipeline.bundle_id


def test_a_bad_bundle_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(default_bundle_dir(), bundle)
    with running(f"sqlite:///{tmp_path / 'store.db'}", bundle=bundle) as opened:
        (bundle / "manifest.json").write_text("{}", encoding="utf-8")
        answer = opened.client.post("/v1/reload")
        assert answer.status_code == 409 and "What was loaded before stays" in answer.json()["detail"]
        assert opened.score(account_id="a", prompt="x").status_code == 200


def test_a_store_that_goes_away_is_a_503_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with running(f"sqlite:///{path}") as opened:
        with opened.service.store.writing() as connection:
            connection.execute(text("ALTER TABLE units RENAME TO gone"))
        answer = opened.score(account_id="a", prompt="x", event_id="e")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
        with opened.service.store.writing() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO units"))
        again = opened.score(account_id="a", prompt="x", event_id="e")
        assert again.json()["account"]["n_prompts"] == 1
        assert counters(opened)["failed"] == 1


def test_security_headers_are_on_every_answer(server: Running) -> None:
    for path in ("/livez", "/docs", "/nope", "/v1/accounts"):
        headers = server.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_another_host_name_is_refused_without_keys(server: Running) -> None:
    assert server.client.get("/v1/accounts", headers={"host": "evil.example"}).status_code == 421


def test_a_slow_body_is_cut_off(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}", request_seconds=0.2) as opened:
        url = opened.client.base_url
        with socket.create_connection((url.host, url.port)) as line:
            head = ["POST /v1/score HTTP/1.1", "host: localhost", "content-type: application/json", "content-length: 9"]
            line.sendall("\r\n".join([*head, "", "{"]).encode())
            began = time.monotonic()
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - began < 30


def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}", idle_seconds=1) as opened:
        url = opened.client.base_url
        with socket.create_connection((url.host, url.port), timeout=30) as line:
            line.sendall(b"POST /v1/score HTTP/1.1\r\nhost: local")
            assert line.recv(100) == b""
        with socket.create_connection((url.host, url.port), timeout=30) as line:  # the second request as the first
            line.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert line.recv(1000).endswith(b"alive")
            line.sendall(b"GET /livez HTTP/1.1\r\nhost: local")
            assert line.recv(100) == b""


def test_the_openapi_document_tells_of_every_call(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/score", "/v1/accounts/{account_id}", "/v1/campaigns", "/metrics"}
    for path, model in BODIES.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert document["components"]["schemas"][schema["$ref"].split("/")[-1]]["examples"], model
    page = server.client.get("/docs").text
    assert "POST /v1/score/batch" in page and "http://" not in page.replace("http://localhost", "")


def test_every_setting_says_what_it_is_for() -> None:
    rows = settings_table()
    assert {name for name, _, _ in rows} == {f"PROBEWATCH_{name.upper()}" for name in Settings.model_fields}
    assert all(meaning.endswith(".") for _, _, meaning in rows)


def test_a_server_that_ended_is_let_go_of(tmp_path: Path) -> None:
    """FastAPI held it for good, and tests that begin many grew by its pipeline each."""
    with running(f"sqlite:///{tmp_path / 'store.db'}") as up:
        assert up.client.get("/docs").status_code == 200
        service = weakref.ref(up.service)
    del up
    gc.collect()
    assert service() is None
