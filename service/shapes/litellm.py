"""LiteLLM's logs: StandardLoggingPayload, which its proxy writes to buckets, and rows of its spend logs."""

from __future__ import annotations

from collections.abc import Sequence

from service.fields import (
    BadRecordError,
    Fields,
    Record,
    account_at,
    context_at,
    context_name,
    decode_json,
    first_of,
    identifier,
    json_or_text,
    timestamp,
)
from service.shapes.api import NOT_CHAT
from service.shapes.turns import request_texts

ACCOUNTS = (
    *("account_id", "metadata.user_api_key_user_id", "metadata.user_api_key_hash"),
    *("end_user", "metadata.user_api_key_end_user_id", "user", "api_key"),
)
MARKS = frozenset({"call_type", "litellm_call_id", "hidden_params", "model_map_information"})
_IDS, _TIMES = ("event_id", "id", "request_id"), ("startTime", "timestamp")
FIELDS = MARKS | {
    *("messages", "model_parameters", "metadata", "proxy_server_request", "end_user", "user", "api_key"),
    *(*_IDS, *_TIMES, "account_id", "model"),
}
NEEDS = (("messages", "proxy_server_request"),)

_CHAT_CALLS = frozenset({
    *("", "completion", "text_completion", "responses", "anthropic_messages", "generate_content"),
    *("generate_content_stream", "pass_through_endpoint", "llm_passthrough_route"),
})  # fmt: skip
"""Without the `a` that asynchronous calls have in front."""
_ORGANISATION = "metadata.user_api_key_org_id"
_REDACTED = "redacted-by-litellm"


def recognises(record: Record) -> bool:
    """Whether it has a field that nobody else logs."""
    return not MARKS.isdisjoint(record)


def extract(record: Record, accounts: Sequence[str]) -> Fields:
    """Fields of a logged call. One that failed counts too: it was sent."""
    call = record.get("call_type")
    if isinstance(call, str) and call not in _CHAT_CALLS and not (call[:1] == "a" and call[1:] in _CHAT_CALLS):
        raise BadRecordError(NOT_CHAT)
    texts = request_texts(_body_of(record))
    if texts.prompt == _REDACTED:
        raise BadRecordError("the message was redacted by LiteLLM, expected its text: log with message logging on")
    return Fields(
        identifier("id", first_of(record, _IDS)),
        account_at(accounts, record),
        timestamp(first_of(record, _TIMES)),
        texts.system,
        texts.prompt,
        context_name(record.get("model")),
        context_at(record, _ORGANISATION),
        context_name(record.get("end_user")),
    )


def _body_of(record: Record) -> Record:
    """Messages and tools; spend logs hold the whole request beside empty messages."""
    messages = record.get("messages")
    if isinstance(messages, str) and messages[:1] in ("[", "{"):
        messages = _structure_in(messages)
    if isinstance(messages, dict):
        messages = messages.get("messages")
    if not messages and (request := json_or_text("proxy_server_request", record.get("proxy_server_request"))):
        return request if isinstance(request, dict) else {}
    if messages is None:
        raise BadRecordError("messages is null, expected a list: log with message logging on")
    parameters = json_or_text("model_parameters", record.get("model_parameters"))
    more = parameters if isinstance(parameters, dict) else {}
    body = {"tools": more.get("tools"), "functions": more.get("functions")}
    return {**body, "input" if isinstance(messages, str) else "messages": messages}


def _structure_in(found: str) -> object:
    """Messages that were written down as JSON; any other text is a prompt that only begins like it."""
    try:
        value = decode_json(found)
    except BadRecordError:
        return found
    turns = value.get("messages", []) if isinstance(value, dict) else value
    return turns if isinstance(turns, list) and all(isinstance(t, dict) and "role" in t for t in turns) else found
