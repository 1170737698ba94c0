"""Traces: spans of requests, labelling and commits, to a real collector's address, without a word of a prompt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from classifier.errors import UsageError
from service.http.tracing import Traces
from tests.receiving import receiver, status
from tests.serving import ROOT, running

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROMPT = "the secret sonnet"


def _value(given: Any) -> str | int:
    return str(given.string_value) if given.HasField("string_value") else int(given.int_value)


def test_a_request_its_labelling_and_its_commit_are_traced(tmp_path: Path) -> None:
    with receiver() as collector:
        collector.answer = status(200)
        url = collector.url.replace("/hook?team=abuse", "/v1/traces")
        with running(f"sqlite:///{tmp_path / 'store.db'}", traces_url=url) as server:
            event = {"account_id": "secret-account", "prompt": PROMPT}
            assert server.client.post("/v1/score", json=event, headers={"traceparent": PARENT}).status_code == 200
            assert server.client.get("/v1/accounts/secret-account").status_code == 200
    sent = b"".join(got.body for got in collector.got)
    assert b"sonnet" not in sent and b"secret-account" not in sent
    resources = [one for got in collector.got for one in ExportTraceServiceRequest.FromString(got.body).resource_spans]
    spans = {span.name: span for one in resources for scope in one.scope_spans for span in scope.spans}
    request = spans["POST /v1/score"]
    facts = {name: {one.key: _value(one.value) for one in span.attributes} for name, span in spans.items()}
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert facts["POST /v1/score"] == {
        "http.request.method": "POST",
        "http.route": "/v1/score",
        "http.response.status_code": 200,
    }
    for name in ("label", "commit"):
        assert [link.span_id for link in spans[name].links] == [request.span_id]
        assert facts[name] == {"probewatch.n_events": 1, "probewatch.n_chars": len(PROMPT)}
    assert "GET /v1/accounts/{account_id:path}" in spans


def test_without_a_collector_no_sdk_is_imported() -> None:  # FastAPI asks for the API
    heavy = "('opentelemetry.sdk', 'opentelemetry.exporter')"
    code = f"import sys, service.http.app; print([name for name in sys.modules if name.startswith({heavy})])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError, match=r"pip install 'probewatch\[traces\]'"):
        Traces("http://127.0.0.1:4318/v1/traces")
