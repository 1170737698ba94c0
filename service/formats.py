"""The formats of traffic, a row of `FORMATS` each: what recognises a record, and what takes its fields out of it.

The extractor of a format is the whole truth about it. `columns` takes a short cut for tables of the plain format, and
asks the extractor about every row that the short cut does not settle. Stands after `fields`, before `columns`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from classifier.errors import UsageError
from service.fields import (
    BadRecordError,
    Fields,
    Record,
    content_text,
    identifier,
    json_or_text,
    kind_of,
    prompt_text,
    required_identifier,
    text,
    timestamp,
)

AUTO = "auto"


@dataclass(frozen=True)
class Format:
    """One shape of records.

    Attributes:
        recognises: whether a record (or a dict of a table's column names) has this shape; cheap, no checks.
        extract: its fields, or BadRecordError.
        fields: every top-level name that `extract` looks at: the columns that are read from a table.
        required: groups of names; a table without one name of each group cannot be read.
        flat: whether its columns mean what the plain format's mean, so that they can be taken whole.
    """

    name: str
    recognises: Callable[[Record], bool]
    extract: Callable[[Record], Fields]
    fields: frozenset[str]
    required: tuple[tuple[str, ...], ...]
    flat: bool = False


def format_named(name: str) -> Format | None:
    """The format of `--format name`; None for `auto`, where each record or table says itself what it is.

    Raises:
        UsageError: no such format.
    """
    if name != AUTO and name not in FORMATS:
        raise UsageError(f"--format got {name!r}: expected one of {', '.join((AUTO, *FORMATS))}")
    return FORMATS.get(name)


def recognised(record: Record) -> Format | None:
    """The first format whose shape a record, or a dict of a table's column names, has."""
    for candidate in FORMATS.values():
        if candidate.recognises(record):
            return candidate
    return None


def extract(record: object, chosen: Format | None) -> Fields:
    """Fields of a decoded record in the chosen format, or in the one that recognises it.

    Raises:
        BadRecordError: not an object, of no known shape, or refused by its format.
    """
    if not isinstance(record, dict):
        raise BadRecordError(f"the record is {kind_of(record)}, expected an object")
    found = chosen if chosen is not None else recognised(record)
    if found is None:
        raise BadRecordError(f"the record has the shape of no known format, expected one of {', '.join(FORMATS)}")
    return found.extract(record)


def _tools_text(tools: object) -> str:
    if isinstance(tools, str):
        return tools
    if not isinstance(tools, list | dict):
        raise BadRecordError(f"tools is {kind_of(tools)}, expected a list")
    try:
        return orjson.dumps(tools).decode()
    except TypeError:  # lone surrogates, huge integers or depth, for which the standard library has more patience
        return _dump_slowly(tools)


def _dump_slowly(tools: object) -> str:
    try:
        return json.dumps(tools, ensure_ascii=False, separators=(",", ":"), default=str)
    except RecursionError:
        raise BadRecordError("tools is nested too deeply, expected a list of definitions") from None


class _Turns(NamedTuple):
    system: list[str]
    user: str | None


def _turns(messages: object) -> _Turns:
    messages = json_or_text("messages", messages)
    if not isinstance(messages, list):
        raise BadRecordError(f"messages is {kind_of(messages)}, expected a list")
    system: list[str] = []
    user: str | None = None
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            raise BadRecordError("a message has no role, expected objects with role and content")
        if role in _READ_ROLES and (found := content_text("content", message.get("content"))):
            if role == "user":
                user = found if not found.isspace() else user
            else:
                system.append(found)
    return _Turns(system, user)


_READ_ROLES = frozenset({"user", "system", "developer"})
_ID_TYPES = (str, int)
CONTEXT = {"conversation_id": _ID_TYPES, "org_id": _ID_TYPES, "end_user_id": _ID_TYPES, "model": (str,)}
"""Fields that are checked, and not part of the event: what they may be besides null."""


_UNREAD = frozenset({"attributes", *CONTEXT})


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


def _extract_plain(record: Record) -> Fields:
    prompt, system, tools = record.get("prompt"), record.get("system"), record.get("tools")
    messages = record.get("messages")
    account_id = required_identifier("account_id", record.get("account_id"))
    before: list[str] = []
    if (prompt is None or prompt == "") and (messages is not None and messages != ""):
        before, prompt = _turns(messages)
        if prompt is None:
            raise BadRecordError("messages holds no user turn with text, expected one")
    elif prompt is None:
        raise BadRecordError("prompt and messages are missing, expected one of them")
    if system is not None or before or tools is not None:
        pieces = [content_text("system", system), *before, _tools_text(tools) if tools is not None else None]
        system = text("system", "\n".join(piece for piece in pieces if piece and not piece.isspace()))
    _check_context(record)
    return Fields(
        identifier("event_id", record.get("event_id")),
        account_id,
        timestamp(record.get("timestamp")),
        system if isinstance(system, str) and system else None,
        prompt_text("prompt", prompt),
    )


_PLAIN_NEEDS = (("account_id",), ("prompt", "messages"))
_PLAIN_MARKS = frozenset({"account_id", "prompt", "messages"})

FORMATS = {
    "plain": Format(
        name="plain",
        recognises=lambda record: not _PLAIN_MARKS.isdisjoint(record),
        extract=_extract_plain,
        fields=_PLAIN_MARKS | {"event_id", "timestamp", "system", "tools", "attributes"} | set(CONTEXT),
        required=_PLAIN_NEEDS,
        flat=True,
    ),
}
"""Every format, in the order in which `--format auto` tries them: the more particular shapes first."""
