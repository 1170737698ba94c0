"""OpenTelemetry: spans and log records of the GenAI semantic conventions, current and older, and OpenLLMetry's.

Either OTLP/JSON exports, of which a record holds many spans, or a span or log record each. Content stands in
attributes (structured, as JSON text, or one attribute a field), or in events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from service.fields import (
    BadRecordError,
    Fields,
    Record,
    account_at,
    at,
    context_name,
    first_of,
    identifier,
    timestamp,
)
from service.shapes.api import NOT_CHAT
from service.shapes.turns import Texts, decoded, parts_in, request_texts

ACCOUNTS = (
    *("account_id", "enduser.id", "user.id", "enduser.pseudo.id"),
    *("traceloop.association.properties.user_id", "langfuse.user.id"),
)
_ENVELOPES = {"resourceSpans": ("scopeSpans", "spans"), "resourceLogs": ("scopeLogs", "logRecords")}
_SPAN_MARKS = ("traceId", "trace_id", "spanId", "span_id", "context", "body")
_TIMES = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime", "timeUnixNano", "timestamp")
_INPUT, _OLD_INPUT, _SYSTEM = "gen_ai.input.messages", "gen_ai.prompt", "gen_ai.system_instructions"
_TOOLS = "gen_ai.tool.definitions"
_CHAT = frozenset({"chat", "completion", "text_completion", "generate_content"})
_ROLE_OF_EVENT = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_INDEXED = re.compile(r"(gen_ai\.prompt|llm\.prompts|llm\.request\.functions)\.(\d{1,6})\.([a-z_]+)")
_COLUMNS = ("gen_ai.", "attributes.gen_ai.")
_REQUESTS = frozenset({"messages", "request", "params", "custom_id"})
_OURS = ("gen_ai.", "llm.")
_NO_CONTENT = "the span holds no messages, expected its content: capture it when tracing"


class _Event(NamedTuple):
    """A span's event, or a log record."""

    name: object
    attributes: Record
    body: object


def recognises(record: Record) -> bool:
    """Whether it is an export, a span, or a table of spans with a column an attribute."""
    if not _ENVELOPES.keys().isdisjoint(record):
        return True
    if "attributes" in record and any(name in record for name in _SPAN_MARKS):
        return True
    return _REQUESTS.isdisjoint(record) and any(name.startswith(_COLUMNS) for name in record)


def unfold(record: Record) -> Sequence[object] | None:
    """The GenAI spans of an export, and its GenAI log records, those of one span together; None if it is no export."""
    found = [one for name in _ENVELOPES if name in record for one in _items(record[name], name)]
    if not found:
        if not _ENVELOPES.keys().isdisjoint(record):
            raise BadRecordError("the export holds no GenAI span or event, expected one")
        return None
    return found


def extract(record: Record, accounts: Sequence[str]) -> Fields:
    """Fields of a span, or of the log records of one. Its id is that of trace and span."""
    attributes = _attributes_of(record)
    events = [_event_of(event) for event in [*_list_of(record.get("events")), record]]
    for event in events:
        attributes = {**event.attributes, **attributes}
    operation = first_of(attributes, ("gen_ai.operation.name", "llm.request.type"))
    if operation is not None and str(operation) not in _CHAT:
        raise BadRecordError(NOT_CHAT)
    texts = _texts_of(attributes, events)
    resource = record.get("resource")
    around = _pairs(resource.get("attributes")) if isinstance(resource, dict) else {}
    return Fields(
        _id_of(record),
        account_at(accounts, attributes, around, record),
        timestamp(first_of(record, _TIMES)),
        texts.system,
        texts.prompt,
        context_name(_look(attributes, "gen_ai.request.model")),
    )


def _items(resources: object, envelope: str) -> Iterator[Record]:
    scopes, items = _ENVELOPES[envelope]
    for resource in _list_of(resources):
        around = resource.get("resource")
        found = [one for scope in _list_of(resource.get(scopes)) for one in _list_of(scope.get(items))]
        plain = ({**one, "attributes": _pairs(one.get("attributes"))} for one in found)
        ours = [one for one in plain if _is_ours(one)]
        for one in ours if envelope == "resourceSpans" else _by_span(ours):
            yield {**one, "resource": around}


def _by_span(logs: Sequence[Record]) -> Iterator[Record]:
    """Log records that belong to one span as its events."""
    spans: dict[str, list[Record]] = {}
    for number, log in enumerate(logs):
        span = log.get("spanId")
        spans.setdefault(f"{log.get('traceId')}:{span}" if span else str(number), []).append(log)
    for events in spans.values():
        first = events[0]
        yield {**{name: first.get(name) for name in ("traceId", "spanId", "timeUnixNano")}, "events": events}


def _is_ours(span: Record) -> bool:
    """Whether a span or log record is one of GenAI: all others of an export are no traffic to a model."""
    if any(name.startswith(_OURS) for name in _pairs(span.get("attributes"))) or _is_event(_event_of(span)):
        return True
    return any(_is_event(_event_of(event)) for event in _list_of(span.get("events")))


def _is_event(event: _Event) -> bool:
    return isinstance(event.name, str) and event.name.startswith("gen_ai.")


def _event_of(event: Record) -> _Event:
    attributes = _pairs(event.get("attributes"))
    name = attributes.get("event.name")
    if name is None:
        name = first_of(event, ("eventName", "event_name", "name"))
    body = event.get("body")
    return _Event(name, attributes, _value(body) if isinstance(body, dict) else body)


def _texts_of(attributes: Record, events: Sequence[_Event]) -> Texts:
    indexed = {} if _INPUT in attributes else _indexed(attributes)
    messages = _messages_of(attributes, indexed, events)
    system = decoded(_look(attributes, _SYSTEM))
    tools = decoded(_look(attributes, _TOOLS))
    if tools is None:
        tools = indexed.get("llm.request.functions")
    if messages is None:
        raise BadRecordError(_NO_CONTENT)
    return request_texts({"input": messages, "system": system, "tools": tools})


def _messages_of(attributes: Record, indexed: Mapping[str, list[Record]], events: Sequence[_Event]) -> object:
    for name in (_INPUT, _OLD_INPUT):
        if (found := _look(attributes, name)) is not None:
            return decoded(found)
    for name in ("gen_ai.prompt", "llm.prompts"):
        if name in indexed:
            return [{**turn, "content": parts_in(turn.get("content"))} for turn in indexed[name]]
    said = [turn for turn in map(_turn_of, events) if turn is not None]
    return said if said else None


def _turn_of(event: _Event) -> object:
    """The message that an event tells of; None if it tells of none."""
    body, attributes = event.body, event.attributes
    if not isinstance(body, dict):
        body = {"content": body} if isinstance(body, str) else {}
    if isinstance(whole := decoded(attributes.get("gen_ai.event.content")), dict):
        body = whole
    role = _ROLE_OF_EVENT.get(str(event.name))
    return {**attributes, **body, "role": role} if role is not None else None


def _indexed(attributes: Record) -> dict[str, list[Record]]:
    """Attributes such as `gen_ai.prompt.0.content`, gathered into lists of objects."""
    found: dict[str, dict[int, dict[str, object]]] = {}
    for name, value in attributes.items():
        if match := _INDEXED.fullmatch(name):
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    return {name: [items[index] for index in sorted(items)] for name, items in found.items()}


def _look(attributes: Record, name: str) -> object:
    found = attributes.get(name)
    return found if found is not None or "gen_ai" not in attributes else at(attributes, name)


def _attributes_of(record: Record) -> Record:
    """Of a span: an object, OTLP's list of keys and values, JSON of either, or columns named after them."""
    own = _pairs(record.get("attributes"))
    if own or "attributes" in record:
        return own
    return {name.removeprefix("attributes."): value for name, value in record.items() if value is not None}


def _pairs(attributes: object) -> Record:
    found = decoded(attributes)
    if isinstance(found, dict):
        return found
    return {
        one["key"]: _value(one.get("value"))
        for one in _list_of(found)
        if isinstance(one.get("key"), str)
    }  # fmt: skip


def _value(value: object) -> object:
    """A value of OTLP/JSON as a plain one."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(one) for one in _list_of(inner.get("values"))] if isinstance(inner, dict) else []
    if kind == "kvlistValue":
        return _pairs(inner.get("values")) if isinstance(inner, dict) else {}
    return inner if kind in ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue") else value


def _list_of(value: object) -> list[dict[str, Any]]:
    """The objects in a list, or in text that holds one; nothing if it is none."""
    found = decoded(value)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _id_of(record: Record) -> str | None:
    if record.get("event_id") is not None:
        return identifier("event_id", record["event_id"])
    context = record.get("context")
    place = context if isinstance(context, dict) else record
    trace = identifier("trace id", first_of(place, ("traceId", "trace_id")))
    span = identifier("span id", first_of(place, ("spanId", "span_id")))
    return f"{trace}:{span}" if trace is not None and span is not None else None
