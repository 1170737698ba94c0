"""Hook for tracers: an OTLP/HTTP receiver of GenAI spans. Stands after `spans`, `asgi`.

    PROBEWATCH_URL=https://probewatch:8080 uvicorn --factory probewatch_client.otlp:app_of_environment --port 4318

Spans come when requests are over, so there is nothing to enforce. What does not fit the queue is answered 503 as a
whole, for the exporter to send again: nothing is dropped here.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from typing import Any

from probewatch_client.asgi import Body, Receive, Scope, Send, answer, headers_of, live
from probewatch_client.errors import BadInputError
from probewatch_client.events import Encoded, Event, encode
from probewatch_client.settings import HookSettings, settings_of
from probewatch_client.spans import event_of_span, spans_of
from probewatch_client.watch import Watch

JSON, PROTOBUF = "application/json", "application/x-protobuf"
_INVALID, _UNAVAILABLE = 3, 14  # codes of google.rpc.Status


class _RefusedError(Exception):
    """An export that is not taken: the HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class OtlpReceiver:
    """An ASGI application for `POST /v1/traces`.

    `account`: an attribute's name; `key` takes `user.id` or `enduser.id`, since spans hold no keys.
    """

    def __init__(self, settings: HookSettings) -> None:
        if settings.enforce:
            raise BadInputError("enforce is on: spans come when requests are over; use a hook in their way instead.")
        self.watch = Watch(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send, self.watch)
        elif scope["type"] == "http":
            await self._take(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        kind = PROTOBUF if headers.get("content-type", "").partition(";")[0].strip() == PROTOBUF else JSON
        try:
            body = await self._body(scope, headers, receive)
            rejected, reason = self._offer(_export(headers, body))
        except _RefusedError as refused:
            again = [(b"retry-after", b"1")] if refused.status == 503 else []
            await answer(send, refused.status, _status(kind, refused), [(b"content-type", kind.encode()), *again])
        else:
            await answer(send, 200, _accepted(kind, rejected, reason), [(b"content-type", kind.encode())])

    async def _body(self, scope: Scope, headers: dict[str, str], receive: Receive) -> bytes:
        if scope["path"].rstrip("/") != "/v1/traces":
            raise _RefusedError(404, "There is only /v1/traces here.")
        if scope["method"] != "POST":
            raise _RefusedError(405, "Traces are sent with POST.")
        most = self.watch.settings.most_body
        body = Body(most)
        while not body.ended:
            body.take(await receive())
        if body.too_large:
            raise _RefusedError(413, f"The export is larger than {most:,} bytes: send fewer spans at once.")
        return _unpacked(headers.get("content-encoding", "identity"), body.content, most)

    def _offer(self, export: dict[str, Any]) -> tuple[int, str]:
        """Queue the events of an export: how many GenAI spans became none, and the last reason."""
        found = [event_of_span(span, self.watch.settings.account) for span in spans_of(export) if span.is_chat]
        events = [_encoded(one) if isinstance(one, Event) else one for one in found]
        taken = [one for one in events if isinstance(one, Encoded)]
        reasons = [one for one in events if isinstance(one, str)]
        if len(taken) > self.watch.settings.most_waiting:
            raise _RefusedError(413, "The export holds more spans than may wait here: send fewer at once.")
        if not self.watch.sender.offer(taken, or_drop=False):
            raise _RefusedError(503, "Too many events wait to be sent: try again.")
        for reason in reasons:
            self.watch.sender.skip(reason)
        return len(reasons), reasons[-1] if reasons else ""


def app_of_environment() -> OtlpReceiver:
    """The application by PROBEWATCH_URL, PROBEWATCH_KEY, PROBEWATCH_ACCOUNT ... Raises BadInputError."""
    return OtlpReceiver(settings_of(os.environ))


def _encoded(event: Event) -> Encoded | str:
    try:
        return encode(event)
    except BadInputError:
        return "not an event"


def _export(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The export as OTLP's JSON."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind == PROTOBUF:
        return _of_protobuf(body)
    if kind != JSON:
        raise _RefusedError(415, f"The export must be {JSON} or {PROTOBUF}.")
    try:
        export = json.loads(body)
    except (ValueError, RecursionError):
        export = None
    if not isinstance(export, dict):
        raise _RefusedError(400, "The export is no JSON object.")
    return export


def _of_protobuf(body: bytes) -> dict[str, Any]:
    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError:
        raise _RefusedError(415, "Protobuf is not installed here: pip install 'probewatch-client[otlp]'.") from None
    try:
        export: dict[str, Any] = MessageToDict(ExportTraceServiceRequest.FromString(body))
    except DecodeError:
        raise _RefusedError(400, "The export is no ExportTraceServiceRequest.") from None
    for resource in export.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):  # ids are hexadecimal in OTLP's JSON, base64 in protobuf's
                span |= {name: base64.b64decode(span[name]).hex() for name in ("traceId", "spanId") if name in span}
    return export


def _unpacked(encoding: str, body: bytes, most: int) -> bytes:
    if encoding in ("identity", ""):
        return body
    if encoding != "gzip":
        raise _RefusedError(415, "The export must be sent with gzip or as it is.")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, most)
    except zlib.error:
        raise _RefusedError(400, "The export is no gzip.") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise _RefusedError(413, f"The export is larger than {most:,} bytes, or cut off: send fewer spans at once.")
    return plain


def _accepted(kind: str, rejected: int, reason: str) -> bytes:
    """An ExportTraceServiceResponse: its field 1 is the partial success, of which 1 is the number and 2 the message."""
    if kind == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": reason}}
        return json.dumps(partial if rejected else {}).encode()
    return _text_field(1, b"\x08" + _varint(rejected) + _text_field(2, reason.encode())) if rejected else b""


def _status(kind: str, refused: _RefusedError) -> bytes:
    """A google.rpc.Status: its field 1 is the code, 2 the message."""
    code = _UNAVAILABLE if refused.status == 503 else _INVALID
    if kind == JSON:
        return json.dumps({"code": code, "message": refused.sentence}).encode()
    return b"\x08" + _varint(code) + _text_field(2, refused.sentence.encode())


def _text_field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
