"""GenAI spans of OTLP to events: of the semantic conventions, older and current, and OpenLLMetry. After `traffic`.

A span's event has the id `TRACE:SPAN`, as `probewatch label` gives it, so that an exporter's retries count nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from probewatch_client.events import Event
from probewatch_client.traffic import NOBODY, event_of_body

NO_CONTENT = "the span holds no user turn: have the tracer capture content"
ACCOUNTS = ("user.id", "enduser.id", "enduser.pseudo.id")
"""Attributes that say whose request it was, the first that is there."""

_CHAT = frozenset({"chat", "completion", "text_completion", "generate_content"})
_ROLE_OF_EVENT = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_INDEXED = re.compile(r"gen_ai\.prompt\.(\d{1,6})\.(role|content)")
_BODIES = ("gen_ai.input.messages", "gen_ai.prompt")


@dataclass(frozen=True)
class Span:
    """A span as plain values. `around`: attributes of its resource."""

    trace_id: str
    span_id: str
    started_ns: int
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    around: Mapping[str, Any]

    @property
    def is_chat(self) -> bool:
        """Whether a model was asked for text, as opposed to embeddings, tools, and whatever is no GenAI."""
        operation = self.attributes.get("gen_ai.operation.name", self.attributes.get("llm.request.type"))
        if operation is not None:
            return str(operation) in _CHAT
        return any(name.startswith("gen_ai.") for name in self.attributes)


def spans_of(export: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of an ExportTraceServiceRequest in OTLP's JSON. What is none is passed over."""
    for resource in _objects(export.get("resourceSpans")):
        described = resource.get("resource")
        around = _pairs(described.get("attributes")) if isinstance(described, dict) else {}
        for scope in _objects(resource.get("scopeSpans")):
            for span in _objects(scope.get("spans")):
                yield _span(span, around)


def event_of_span(span: Span, account: str) -> Event | str:
    """The event of a span; a reason if there is none. `account`: an attribute's name; `key`: the usual ones."""
    names = ACCOUNTS if account == "key" else (account,)
    found = (str(place[name]).strip() for name in names for place in (span.attributes, span.around) if name in place)
    account_id = next((one for one in found if one), "")
    if not account_id:
        return NOBODY
    event = event_of_body(_body(span), account_id)
    if isinstance(event, str):
        return NO_CONTENT
    named = replace(event, event_id=f"{span.trace_id}:{span.span_id}") if span.trace_id and span.span_id else event
    return replace(named, timestamp=_moment(span.started_ns))


def _body(span: Span) -> dict[str, Any]:
    """The request that a span tells of, in the shape of an API's."""
    attributes = dict(span.attributes)
    for _, more in span.events:
        attributes = {**more, **attributes}
    messages = next((_decoded(attributes[name]) for name in _BODIES if name in attributes), None)
    if messages is None:
        messages = _indexed(attributes) or [turn for event in span.events if (turn := _said(*event))]
    system = _parts(_decoded(attributes.get("gen_ai.system_instructions")))
    tools = _decoded(attributes.get("gen_ai.tool.definitions"))
    turns = [_turn(one) for one in messages] if isinstance(messages, list) else messages
    return {"messages": turns, "system": system, "tools": tools, "model": attributes.get("gen_ai.request.model")}


def _turn(message: object) -> object:
    if not isinstance(message, dict):
        return message
    content = message.get("content", message.get("parts"))
    return {"role": message.get("role"), "content": _parts(_decoded(content) if _is_parts(content) else content)}


def _parts(content: object) -> object:
    """Parts of a message with their text under the name that APIs give it."""
    if not isinstance(content, list):
        return content
    return [
        {"text": part.get("content", part.get("text"))} if isinstance(part, dict) else part
        for part in content
        if not isinstance(part, dict) or part.get("type", "text") in ("text", "input_text")
    ]


def _is_parts(content: object) -> bool:
    return isinstance(content, str) and content.startswith('[{"type":"text"')


def _said(name: str, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    role = _ROLE_OF_EVENT.get(name)
    whole = _decoded(attributes.get("gen_ai.event.content"))
    content = whole.get("content") if isinstance(whole, dict) else attributes.get("content")
    return {"role": role, "content": content} if role is not None else None


def _indexed(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes such as `gen_ai.prompt.0.content` as messages."""
    turns: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if match := _INDEXED.fullmatch(name):
            turns.setdefault(int(match[1]), {})[match[2]] = value
    return [turns[number] for number in sorted(turns)]


def _span(span: Mapping[str, Any], around: Mapping[str, Any]) -> Span:
    events = tuple((str(one.get("name")), _pairs(one.get("attributes"))) for one in _objects(span.get("events")))
    ids = [value if isinstance(value := span.get(name), str) else "" for name in ("traceId", "spanId")]
    started = str(span.get("startTimeUnixNano", ""))
    ns = int(started) if started.isascii() and started.isdigit() and len(started) < 20 else 0
    return Span(ids[0], ids[1], ns, _pairs(span.get("attributes")), events, around)


def _moment(ns: int) -> datetime | None:
    return datetime.fromtimestamp(ns / 1e9, UTC) if ns > 0 else None


def _pairs(attributes: object) -> dict[str, Any]:
    return {one["key"]: _value(one.get("value")) for one in _objects(attributes) if isinstance(one.get("key"), str)}


def _value(value: object) -> Any:
    """An AnyValue as a plain one."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(one) for one in _objects(inner.get("values"))] if isinstance(inner, dict) else []
    if kind == "kvlistValue":
        return _pairs(inner.get("values")) if isinstance(inner, dict) else {}
    return inner


def _decoded(value: object) -> object:
    """What a text holds as JSON; the value itself if it holds none."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
