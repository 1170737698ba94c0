"""Langfuse exports: observations (with or without what their trace says), traces, and traces that hold observations.

JSON of its API and CSV, JSON and JSONL of its exports name fields in camelCase or snake_case; `input` may be text.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.fields import (
    BadRecordError,
    Fields,
    Record,
    account_at,
    context_name,
    decode_json,
    first_of,
    identifier,
    json_or_text,
    timestamp,
)
from service.shapes.turns import Texts, request_texts, tools_text

ACCOUNTS = ("account_id", "userId", "user_id", "metadata.user_id")
_TIMES = ("startTime", "start_time", "timestamp")
_FROM_TRACE = ("account_id", "userId", "user_id", "sessionId", "session_id", "metadata")
_MARKS = frozenset({
    *("traceId", "trace_id", "sessionId", "session_id", "userId", "projectId", "project_id"),
    *("startTime", "start_time", "parentObservationId", "parent_observation_id"),
})  # fmt: skip
FIELDS = _MARKS | {*ACCOUNTS, *_TIMES, *_FROM_TRACE, "id", "event_id", "type", "input", "observations", "model"}
NEEDS = (("input", "observations"),)
_TEXTS = frozenset({"messages", "input", "prompt"})
_NO_REQUEST = "input holds no request, expected messages or text"


def recognises(record: Record) -> bool:
    """Whether it has an input, and says which trace, session or user it belongs to; or is a trace as a whole."""
    return "observations" in record or ("input" in record and not _MARKS.isdisjoint(record))


def unfold(record: Record) -> Sequence[object] | None:
    """The generations of a trace, each with what the trace says; None if it has none, or is an observation itself."""
    observations = json_or_text("observations", record.get("observations"))
    if not isinstance(observations, list):
        return None
    known = {name: record[name] for name in _FROM_TRACE if record.get(name) is not None}
    generations = [one for one in observations if isinstance(one, dict) and _is_generation(one)]
    own = [{name: value for name, value in one.items() if value is not None} for one in generations]
    return [{**known, **one} for one in own] or None


def extract(record: Record, accounts: Sequence[str]) -> Fields:
    """Fields of a generation, or of a trace by its own input."""
    if record.get("type") is not None and not _is_generation(record):
        raise BadRecordError("the observation is no generation, expected the type GENERATION")
    texts = _texts_of(record.get("input"))
    return Fields(
        identifier("id", first_of(record, ("event_id", "id"))),
        account_at(accounts, record),
        timestamp(first_of(record, _TIMES)),
        texts.system,
        texts.prompt,
        context_name(record.get("model")),
    )


def _is_generation(observation: Record) -> bool:
    kind = observation.get("type")
    return isinstance(kind, str) and kind.upper() == "GENERATION"


def _texts_of(value: object) -> Texts:
    if isinstance(value, str) and value[:1] in ("[", "{", '"'):
        value = _structure_in(value)
    if isinstance(value, dict):
        if value.keys() & _TEXTS:
            return request_texts(value)
        value = [value] if "role" in value else tools_text(value)  # whatever an application calls its input
    if not isinstance(value, str | list):
        raise BadRecordError(_NO_REQUEST)
    return request_texts({"input": value})


def _structure_in(found: str) -> object:
    """What was written down as JSON, if it is a request; any other text is a prompt that only begins like one."""
    try:
        value = decode_json(found)
    except BadRecordError:
        return found
    if isinstance(value, list) and not all(isinstance(turn, dict) and "role" in turn for turn in value):
        return found
    if isinstance(value, dict) and value.keys().isdisjoint((*_TEXTS, "role")):
        return found
    return value
