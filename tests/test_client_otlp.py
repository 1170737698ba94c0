"""service/client: the receiver of spans, fed by OpenTelemetry's own exporter, before the real service."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from probewatch_client import BadInputError, Event
from probewatch_client.otlp import PROTOBUF, OtlpReceiver
from probewatch_client.settings import HookSettings
from probewatch_client.spans import NO_CONTENT, Span, event_of_span, spans_of
from probewatch_client.traffic import NOBODY
from tests.hosting import hosted, n_prompts
from tests.serving import Running, running

NOWHERE = "http://127.0.0.1:1"
MESSAGES = [
    {"role": "user", "parts": [{"type": "text", "content": "An older question."}]},
    {"role": "assistant", "parts": [{"type": "text", "content": "An answer."}]},
    {"role": "user", "parts": [{"type": "text", "content": "Sort a list."}, {"type": "blob", "content": "aaaa"}]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('otlp') / 'store.db'}", most_wait_ms=60_000) as up:
        yield up


def _spans(*attributes: dict[str, Any], around: dict[str, Any] | None = None) -> list[ReadableSpan]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(around if around is not None else {}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for one in attributes:
        with provider.get_tracer("test").start_as_current_span("chat m", attributes=one):
            pass
    provider.shutdown()
    return list(memory.get_finished_spans())


def _chat(account: str, text: str) -> dict[str, Any]:
    content = json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
    return {"gen_ai.operation.name": "chat", "user.id": account, "gen_ai.input.messages": content}


def _span(**attributes: Any) -> Span:
    names = {name.replace("__", "."): value for name, value in attributes.items()}
    return Span("ab", "cd", 1_777_636_800_000_000_000, names, (), {})


def test_what_an_exporter_sends_counts_once(server: Running) -> None:
    receiver = OtlpReceiver(HookSettings(str(server.client.base_url)))
    spans = _spans(*[_chat("tracer", f"Sort list {i}.") for i in range(5)], {"http.route": "/x"}, around={"a": "b"})
    with hosted(receiver) as url:
        exporter = OTLPSpanExporter(f"{url}/v1/traces", compression=Compression.Gzip)
        assert exporter.export(spans) is SpanExportResult.SUCCESS
        assert exporter.export(spans) is SpanExportResult.SUCCESS  # as after a lost answer
        exporter.shutdown()
        assert receiver.watch.sender.flush(30)
        counts = receiver.watch.counts()
    assert (counts.observed, counts.scored, counts.skipped) == (10, 10, {})
    assert n_prompts(server, "tracer") == 5


def test_json_and_protobuf_say_the_same(server: Running) -> None:
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    (span,) = _spans({**_chat("x", "Hello."), "n": 7, "list": ["a"]}, around={"service": "s"})
    message = encode_spans([span])
    (found,) = spans_of(MessageToDict(message))
    event = event_of_span(found, "key")
    assert isinstance(event, Event) and event.timestamp is not None
    assert abs(event.timestamp.timestamp() - (span.start_time or 0) / 1e9) < 1e-3
    assert (found.around["service"], found.attributes["list"]) == ("s", ["a"])
    receiver = OtlpReceiver(HookSettings(str(server.client.base_url)))
    context = span.get_span_context()
    assert context is not None
    ids = {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}
    attributes = [{"key": name, "value": {"stringValue": value}} for name, value in _chat("x", "Hello.").items()]
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{**ids, "attributes": attributes}]}]}]}
    with hosted(receiver) as url:
        packed = httpx.post(f"{url}/v1/traces", content=message.SerializeToString(), headers={"content-type": PROTOBUF})
        plain = httpx.post(f"{url}/v1/traces", json=document)
        assert (packed.status_code, packed.content) == (200, b"")
        assert (plain.status_code, plain.json()) == (200, {})
        assert receiver.watch.sender.flush(30)
    assert n_prompts(server, "x") == 1  # one id, however it was spelt


@pytest.mark.parametrize(
    ("attributes", "turns", "system"),
    [
        (
            {
                "gen_ai__input__messages": json.dumps(MESSAGES),
                "gen_ai__system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
            },
            [("user", "Sort a list.")],
            "Be brief.",
        ),
        ({"gen_ai__input__messages": MESSAGES}, [("user", "Sort a list.")], None),
        ({"gen_ai__prompt": "Sort a list."}, [("user", "Sort a list.")], None),
        (
            {
                "gen_ai__prompt__0__role": "system",
                "gen_ai__prompt__0__content": "Be brief.",
                "gen_ai__prompt__1__role": "user",
                "gen_ai__prompt__1__content": '[{"type":"text","text":"Sort a list."}]',
            },
            [("system", "Be brief."), ("user", "Sort a list.")],
            None,
        ),
    ],
)
def test_conventions(attributes: dict[str, Any], turns: list[tuple[str, str]], system: str | None) -> None:
    found = event_of_span(_span(user__id="u", **attributes), "key")
    assert isinstance(found, Event) and found.messages is not None
    assert [(turn["role"], turn["content"]) for turn in found.messages] == turns
    assert (found.event_id, found.account_id, found.system) == ("ab:cd", "u", system)
    assert found.timestamp == datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_messages_in_events_of_a_span() -> None:
    events = (("gen_ai.system.message", {"content": "Be brief."}), ("gen_ai.user.message", {"content": "Sort a list."}))
    span = Span("", "", 0, {"gen_ai.operation.name": "chat", "enduser.id": "u"}, events, {})
    found = event_of_span(span, "key")
    assert isinstance(found, Event) and found.messages is not None
    assert [turn["content"] for turn in found.messages] == ["Be brief.", "Sort a list."]
    assert len(found.event_id) == 32 and found.timestamp is None


def test_which_spans_become_events() -> None:
    assert _span(gen_ai__operation__name="chat").is_chat and _span(llm__request__type="completion").is_chat
    assert not _span(gen_ai__operation__name="embeddings").is_chat and not _span(http__route="/").is_chat
    assert event_of_span(_span(gen_ai__prompt="x"), "key") == NOBODY
    assert event_of_span(_span(gen_ai__operation__name="chat", user__id="u"), "key") == NO_CONTENT
    assert event_of_span(_span(gen_ai__prompt="x", tenant="t"), "tenant").account_id == "t"  # type: ignore[union-attr]


def test_spans_without_content_are_said_in_the_answer() -> None:
    receiver = OtlpReceiver(HookSettings(NOWHERE))
    bare = {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}
    user = {"key": "user.id", "value": {"stringValue": "u"}}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [bare, user]}, {"attributes": [bare]}]}]}]}
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with hosted(receiver) as url:
        plain = httpx.post(f"{url}/v1/traces", json=document).json()
        assert plain == {"partialSuccess": {"rejectedSpans": "2", "errorMessage": NOBODY}}
        content = ParseDict(document, ExportTraceServiceRequest()).SerializeToString()
        packed = httpx.post(f"{url}/v1/traces", content=content, headers={"content-type": PROTOBUF}).content
        said = ExportTraceServiceResponse.FromString(packed).partial_success
        assert (said.rejected_spans, said.error_message) == (2, NOBODY)
        assert receiver.watch.counts().skipped == {NO_CONTENT: 2, NOBODY: 2}


def test_a_full_queue_has_the_exporter_wait_and_drops_nothing() -> None:
    receiver = OtlpReceiver(HookSettings(NOWHERE, most_waiting=3))

    def export(n: int) -> dict[str, Any]:
        pairs = [{"key": name, "value": {"stringValue": value}} for name, value in _chat("u", "Hello.").items()]
        return {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": pairs}] * n}]}]}

    with hosted(receiver) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/traces", json=export(2)).status_code == 200
        full = client.post("/v1/traces", json=export(2))
        assert (full.status_code, full.headers["retry-after"], full.json()["code"]) == (503, "1", 14)
        assert client.post("/v1/traces", json=export(1)).status_code == 200
        assert client.post("/v1/traces", json=export(4)).status_code == 413
        counts = receiver.watch.counts()
        assert (counts.observed, counts.waiting, counts.dropped) == (3, 3, 0)
        receiver.watch.sender.close(0)


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("POST", "/v1/logs", {}, b"{}", 404),
        ("GET", "/v1/traces", {}, b"", 405),
        ("POST", "/v1/traces", {}, b"[]", 400),
        ("POST", "/v1/traces", {}, b"[" * 5_000, 400),
        ("POST", "/v1/traces", {}, b"x" * 20_000, 413),
        ("POST", "/v1/traces", {"content-encoding": "gzip"}, gzip.compress(b" " * 20_000, mtime=0), 413),
        ("POST", "/v1/traces", {"content-encoding": "gzip"}, b"{}", 400),
        ("POST", "/v1/traces", {"content-encoding": "br"}, b"{}", 415),
        ("POST", "/v1/traces", {"content-type": "text/plain"}, b"{}", 415),
        ("POST", "/v1/traces", {"content-type": PROTOBUF}, b"\xff\xff", 400),
        ("POST", "/v1/traces", {}, b'{"resourceSpans": [1, {"scopeSpans": {}}]}', 200),
        ("POST", "/v1/traces", {}, b'{"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]}', 200),
    ],
)
def test_exports_that_are_none(method: str, path: str, headers: dict[str, str], content: bytes, status: int) -> None:
    receiver = OtlpReceiver(HookSettings(NOWHERE, most_body=10_000))
    with hosted(receiver) as url:
        sent = {"content-type": "application/json", **headers}
        assert httpx.request(method, f"{url}{path}", headers=sent, content=content).status_code == status


def test_spans_cannot_be_enforced() -> None:
    with pytest.raises(BadInputError, match="enforce is on"):
        OtlpReceiver(HookSettings(NOWHERE, enforce=True))


LEAF = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(['[{"type":"text"', "[]", '{"a":[]}'])
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
KEYS = ("gen_ai.operation.name", "user.id", "gen_ai.input.messages", "gen_ai.prompt.0.role", "gen_ai.prompt.0.content")


@given(attributes=st.dictionaries(st.sampled_from(KEYS), JSON), events=JSON, started=JSON)
def test_no_span_breaks_it(attributes: dict[str, Any], events: Any, started: Any) -> None:
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    span = {"attributes": pairs, "events": events, "startTimeUnixNano": started, "traceId": started}
    (found,) = spans_of({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    assert isinstance(event_of_span(found, "key") if found.is_chat else "none", Event | str)
