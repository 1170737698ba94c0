"""Requests to the chat APIs of OpenAI and Anthropic, as they are logged: bare, in pairs with the response, in batches.

A request may stand in the record itself, or under `request`, `body` or `params`; one record of a list of them under
`requests`. What came back says nothing about who asked for what, so a record with nothing else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.fields import (
    BadRecordError,
    Fields,
    Record,
    account_at,
    context_name,
    first_of,
    identifier,
    json_or_text,
    timestamp,
)
from service.shapes.turns import Texts, request_texts

OPENAI_ACCOUNTS = ("account_id", "user", "safety_identifier", "metadata.user_id", "input_user")
ANTHROPIC_ACCOUNTS = ("account_id", "metadata.user_id", "user_profile_id")

_IN = ("request", "body", "params")
_TIMES = ("timestamp", "created_at", "created")
_LOGGED = {"event_id", *_TIMES, "response", "object", "id", "url", "path", "endpoint", "custom_id", "error", "type"}
_TEXTS = {"messages", "input", "prompt", "system", "instructions", "tools", "functions"}
FIELDS = frozenset({*_IN, *_LOGGED, *_TEXTS, "model", "result", "requests", "metadata", "choices"})
NEEDS = (("messages", "input", "prompt", "requests", *_IN),)

_OPENAI_MARKS = frozenset({"messages", "input", "choices", "object", "custom_id", *_IN})
_ANTHROPIC_RESULTS = ("succeeded", "errored", "canceled", "expired")
_ANTHROPIC_STREAM = ("message_start", "message_delta", "message_stop", "ping")
_OTHER_MODELS = (
    "text-embedding",
    "omni-moderation",
    "text-moderation",
    "dall-e",
    "gpt-image",
    "whisper",
    "tts-",
    "sora",
)
_OTHER_PATH = re.compile(
    "/(embeddings|moderations|images|audio|videos|rerank|files|uploads|fine_tuning|batches|models|assistants|threads|"
    "vector_stores|realtime|count_tokens|input_tokens)"
)
NOT_CHAT = "the record is not a chat request, expected one with messages"
_ONLY_ANSWER = "the record holds no request, only what came back: label the request file"
_CHUNK = "the record is a chunk of a streamed response, expected a request: log whole requests"


def is_openai(record: Record) -> bool:
    """Whether a record looks like OpenAI's. Ask `is_anthropic` before."""
    return not _OPENAI_MARKS.isdisjoint(record) or ("prompt" in record and "model" in record) or _is_stream(record)


def is_anthropic(record: Record) -> bool:
    """Whether a record looks like Anthropic's, whose requests differ in little from OpenAI's."""
    if "messages" in record:
        return "system" in record or "anthropic_version" in record or _is_claude(record)
    if "params" in record or "requests" in record or record.get("type") in ("message", *_ANTHROPIC_STREAM):
        return True
    result, request = record.get("result"), record.get("request")
    if isinstance(result, dict):
        return result.get("type") in _ANTHROPIC_RESULTS
    return isinstance(request, dict) and "messages" in request and is_anthropic(request)


def unfold(record: Record) -> Sequence[object] | None:
    """The requests of a record that lists several; None if it is one itself."""
    requests = record.get("requests")
    return _list_of(requests) if requests is not None else None


def extract(record: Record, accounts: Sequence[str]) -> Fields:
    """Fields of a logged request. Its id is the response's, which is unique; `custom_id` is so within a batch only."""
    if record.get("messages") is not None:
        body, texts = record, request_texts(record)
        account_id = account_at(accounts, record)
    else:
        body = _body_of(record)
        texts = _texts_of(body, record)
        account_id = account_at(accounts, record) if body is record else account_at(accounts, record, body)
    answer = _answer_of(record)
    event_id = record.get("event_id")
    if event_id is None and answer is not None:
        event_id = answer.get("id")
    moment = first_of(record, _TIMES)
    if moment is None and answer is not None:
        moment = first_of(answer, _TIMES)
    name = identifier("event_id", event_id)
    return Fields(name, account_id, timestamp(moment), texts.system, texts.prompt, context_name(body.get("model")))


def _body_of(record: Record) -> Record:
    """The body of the request that a record holds, as JSON text or not."""
    for name in _IN:
        found = record.get(name)
        if found is not None:
            body = json_or_text(name, found)
            if not isinstance(body, dict):
                raise BadRecordError(f"{name} is no object, expected the request")
            inner = body.get("body")
            _check_path(body)
            if inner is not None:
                body = json_or_text("body", inner)
            if isinstance(body, dict):
                return body
    return record


def _texts_of(body: Record, record: Record) -> Texts:
    _check_path(record)
    if body.get("messages") is None:
        _check_kind(body, record)
    return request_texts(body)


def _check_kind(body: Record, record: Record) -> None:
    """Of a body without messages, which may still be a request of the Responses API, or to complete a text."""
    if _is_stream(record):
        raise BadRecordError(_CHUNK)
    model = body.get("model")
    if isinstance(model, str) and model.startswith(_OTHER_MODELS):
        raise BadRecordError(NOT_CHAT)
    if first_of(body, ("input", "prompt")) is None:
        raise BadRecordError(_ONLY_ANSWER if _answer_of(record) is not None or "result" in record else NOT_CHAT)


def _check_path(record: Record) -> None:
    path = first_of(record, ("url", "path", "endpoint"))
    if isinstance(path, str) and _OTHER_PATH.search(path) is not None:
        raise BadRecordError(NOT_CHAT)


def _answer_of(record: Record) -> Record | None:
    """What came back, if it is there: beside the request, or as the record itself, which a stored completion is."""
    if record.get("object") is not None or record.get("choices") is not None or record.get("type") == "message":
        return record
    answer = record.get("response")
    if isinstance(answer, str) and answer.startswith("{"):
        answer = json_or_text("response", answer)
    if not isinstance(answer, dict):
        return {} if "custom_id" in record and ("error" in record or "response" in record) else None
    body = answer.get("body")
    return body if isinstance(body, dict) else answer


def _is_stream(record: Record) -> bool:
    kind, event = record.get("object"), record.get("type")
    if isinstance(kind, str) and kind.endswith(".chunk"):
        return True
    return isinstance(event, str) and (event.startswith(("response.", "content_block_")) or event in _ANTHROPIC_STREAM)


def _is_claude(body: Record) -> bool:
    model = body.get("model")
    return isinstance(model, str) and "claude" in model


def _list_of(value: object) -> Sequence[object]:
    """A list, or text that holds one."""
    found = json_or_text("requests", value)
    if not isinstance(found, list) or not found:
        raise BadRecordError("requests is no list or an empty one, expected requests")
    return found
