"""The project's own format: `account_id`, `prompt` or `messages`, and what may go with them.

The extractor is the whole truth about it; `columns` takes a short cut for tables, and asks it about every row that the
short cut does not settle.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.fields import (
    BadRecordError,
    Fields,
    Record,
    account_at,
    content_text,
    context_name,
    identifier,
    json_or_text,
    kind_of,
    prompt_text,
    timestamp,
)
from service.shapes.turns import NO_USER_TURN, joined_system, read_turns

ACCOUNTS = ("account_id",)
_ID_TYPES = (str, int)
CONTEXT = {"conversation_id": _ID_TYPES, "org_id": _ID_TYPES, "end_user_id": _ID_TYPES, "model": (str,)}
"""Context of an event, which is never evidence: what it may be besides null."""

NEEDS = (("prompt", "messages"),)
MARKS = frozenset({"account_id", "prompt", "messages"})
FIELDS = MARKS | {"event_id", "timestamp", "system", "tools", "attributes"} | set(CONTEXT)
_UNREAD = frozenset({"attributes", *CONTEXT})


def is_plain(record: Record) -> bool:
    """Whether it can be nothing else: named as plain records are, whatever else is there."""
    return "account_id" in record and ("prompt" in record or "messages" in record)


def recognises(record: Record) -> bool:
    """Whether it has any field of a plain record, if no other format recognised it."""
    return not MARKS.isdisjoint(record)


def extract(record: Record, accounts: Sequence[str]) -> Fields:
    """Fields of a plain record."""
    prompt, system, tools = record.get("prompt"), record.get("system"), record.get("tools")
    messages = record.get("messages")
    account_id = account_at(accounts, record)
    before: list[str] = []
    if (prompt is None or prompt == "") and (messages is not None and messages != ""):
        before, prompt = read_turns(messages)
        if prompt is None:
            raise BadRecordError(NO_USER_TURN)
    elif prompt is None:
        raise BadRecordError("prompt and messages are missing, expected one of them")
    if system is not None or before or tools is not None:
        system = joined_system([content_text("system", system), *before], tools)
    _check_context(record)
    return Fields(
        identifier("event_id", record.get("event_id")),
        account_id,
        timestamp(record.get("timestamp")),
        system if isinstance(system, str) else None,
        prompt_text("prompt", prompt),
        *(context_name(record.get(name)) for name in ("model", "org_id", "end_user_id")),
    )


def _check_context(record: Record) -> None:
    if _UNREAD.isdisjoint(record):
        return
    for name, types in CONTEXT.items():
        value = record.get(name)
        if value is not None and type(value) not in types:
            raise BadRecordError(f"{name} is {kind_of(value)}, expected text" + " or an integer" * (int in types))
    attributes = record.get("attributes")
    if attributes is not None and attributes != "" and not isinstance(json_or_text("attributes", attributes), dict):
        raise BadRecordError(f"attributes is {kind_of(attributes)}, expected an object")
