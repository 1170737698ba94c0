"""The fields of an event and the checks that every format shares, one value at a time: what `formats` is built from.

A check returns the value as it goes on, or raises BadRecordError with a sentence that quotes nothing of the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from service.timestamps import to_micros

MAX_PROMPT_BYTES = 16 << 20
MAX_ID_BYTES = 1024

Record = Mapping[str, object]


class BadRecordError(ValueError):
    """Why a record is refused: one sentence that quotes nothing of the record."""


class Fields(NamedTuple):
    """What an event is made of; a NamedTuple because one is made per record, and columns are its transpose.

    `timestamp` is in microseconds since 1970 UTC; None where the record has no time, id or system text. `model`,
    `org_id` and `end_user_id` are context: shown, never evidence.
    """

    event_id: str | None
    account_id: str
    timestamp: int | None
    system: str | None
    prompt: str
    model: str | None = None
    org_id: str | None = None
    end_user_id: str | None = None


def kind_of(value: object) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, bool):
        return "a boolean"
    names = {type(None): "null", str: "text", bytes: "text that is not valid UTF-8", int: "a number", float: "a number"}
    return names.get(
        type(value), "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a value"
    )


def as_object(record: object) -> Record:
    """A record that is an object."""
    if type(record) is not dict:
        raise BadRecordError(f"the record is {kind_of(record)}, expected an object")
    return record


def identifier(name: str, value: object) -> str | None:
    """A text or integer id as text; None if null or blank. NUL, lone surrogates and over 1,024 bytes are refused."""
    if value is None:
        return None
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise BadRecordError(f"{name} is {kind_of(value)}, expected text or an integer")
    if "\0" in value:
        raise BadRecordError(f"{name} holds a NUL byte, expected text without")
    if _utf8_length(value) is None:
        raise BadRecordError(f"{name} holds a lone surrogate, expected valid Unicode")
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        raise BadRecordError(f"{name} is too long, expected at most {MAX_ID_BYTES:,} bytes")
    return None if not value or value.isspace() else value


def context_name(value: object) -> str | None:
    """A name that is shown beside an event; None for whatever could be none, since no event is refused for it."""
    if type(value) is int:
        value = str(value)
    if type(value) is not str or not value or value.isspace() or "\0" in value:
        return None
    size = _utf8_length(value)
    return value if size is not None and size <= MAX_ID_BYTES else None


def text(name: str, value: object) -> str:
    """A text of at most 16 MiB, with lone surrogates, which no UTF-8 file can hold, replaced by U+FFFD."""
    if type(value) is not str:
        raise BadRecordError(f"{name} is {kind_of(value)}, expected text")
    size = _utf8_length(value)
    if size is None:
        value = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
        size = len(value.encode())
    if size > MAX_PROMPT_BYTES:
        raise BadRecordError(f"{name} is too long, expected at most {MAX_PROMPT_BYTES:,} bytes")
    return value


def prompt_text(name: str, value: object) -> str:
    """A `text` with something in it."""
    found = text(name, value)
    if not found or found.isspace():
        raise BadRecordError(f"{name} is empty, expected text")
    return found


def content_text(name: str, content: object) -> str | None:
    """Text of a message's content: text, or a list of parts of which those with text count; None if there is none."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRecordError(f"{name} is {kind_of(content)}, expected text or a list of parts")
    pieces: list[str] = []
    for part in content:
        piece = _part_text(part) if isinstance(part, dict) else part
        if isinstance(piece, str):
            pieces.append(piece)
        elif piece is not None or not isinstance(part, dict):
            raise BadRecordError(f"a part of {name} is {kind_of(piece)}, expected text or an object with text")
    return "\n".join(pieces)


def _part_text(part: Record) -> object:
    """In OpenTelemetry a text part has it in `content`; Anthropic's documents may hold text that the user wrote."""
    found = part.get("text")
    if found is None and part.get("type") == "text":
        return part.get("content")
    source = part.get("source") if found is None else None
    return source.get("data") if isinstance(source, dict) and source.get("type") == "text" else found


def first_of(record: Record, names: Sequence[str]) -> object:
    """The first value that is there of several names."""
    for name in names:
        value = record.get(name)
        if value is not None:
            return value
    return None


def at(record: object, path: str) -> object:
    """The value at a dotted path; a key may hold dots itself, and text on the way may hold an object as JSON."""
    if isinstance(record, str) and record.startswith("{"):
        record = json_or_text("metadata", record)
    if not isinstance(record, dict):
        return None
    if path in record:
        return record[path]
    dot = path.find(".")
    while dot >= 0:
        if path[:dot] in record and (found := at(record[path[:dot]], path[dot + 1 :])) is not None:
            return found
        dot = path.find(".", dot + 1)
    return None


def context_at(record: Record, path: str) -> str | None:
    """The name at a path, as `context_name` has it; None where the way there cannot be read."""
    try:
        return context_name(at(record, path))
    except BadRecordError:
        return None


def account_at(paths: Sequence[str], *places: Record) -> str:
    """The account: the first of the fields that holds an id, each looked for in every place.

    Raises:
        BadRecordError: none does, or one holds what is no id.
    """
    for path in paths:
        for place in places:
            value = place.get(path)
            if value is None and "." in path:
                value = at(place, path)
            if value is not None and (found := identifier(path, value)) is not None:
                return found
    looked = f"{', '.join(paths[:-1])} and {paths[-1]} are" if len(paths) > 1 else f"{paths[0]} is"
    raise BadRecordError(f"{looked} missing or empty, expected an account: name its field with --account-field")


def timestamp(value: object) -> int | None:
    """Microseconds since 1970 UTC; None if null or blank."""
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return None
    micros = to_micros(value)
    if micros is None:
        raise BadRecordError("timestamp is unreadable, expected ISO 8601 or an epoch, within 1990 to 2100")
    return micros


def decode_json(data: bytes | str) -> object:
    """A JSON value; lone surrogates in escapes are let through, for the checks of the field they are in."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _decode_slowly(data)


def json_or_text(name: str, value: object) -> object:
    """What a text holds as JSON (columns of CSV and Parquet carry structure as text); anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return decode_json(value)
    except BadRecordError:
        raise BadRecordError(f"{name} is text that is not valid JSON, expected a list or an object") from None


def _decode_slowly(data: bytes | str) -> object:
    try:
        return json.loads(data.decode() if isinstance(data, bytes) else data, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise BadRecordError("the line is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise BadRecordError("the line is not valid JSON") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _utf8_length(value: str) -> int | None:
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        return None
