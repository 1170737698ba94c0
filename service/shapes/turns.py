"""What was sent in a conversation, whatever wrote it down: system texts, the newest user turn with text, tool lists.

    fields -> **turns** -> plain, api, litellm, langfuse, otel

Roles and parts are those of OpenAI, Anthropic, Gemini, LangChain and OpenTelemetry, which do not contradict each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from service.fields import BadRecordError, Record, content_text, decode_json, json_or_text, kind_of, prompt_text, text

NO_USER_TURN = "messages holds no user turn with text, expected one"
_SYSTEM_ROLES = frozenset({"system", "developer"})
_ROLE_OF_TYPE = {"human": "user", "user": "user", "system": "system"}
_CONTENT = ("content", "parts", "content_parts")


class Turns(NamedTuple):
    """System texts in order, and the newest user turn with text; None if there is none."""

    system: list[str]
    user: str | None


class Texts(NamedTuple):
    """What is scored of a request; `system` holds the tool lists too, None if there is nothing."""

    system: str | None
    prompt: str


def read_turns(messages: object) -> Turns:
    """Of a list of messages, or text that holds one as JSON.

    Tool calls, tool results (also those inside a user turn), images, audio and files have no text of the user's.

    Raises:
        BadRecordError: no list, or a message without a role.
    """
    if type(messages) is not list:
        messages = json_or_text("messages", messages)
        if not isinstance(messages, list):
            raise BadRecordError(f"messages is {kind_of(messages)}, expected a list")
    system: list[str] = []
    user: str | None = None
    for message in messages:
        role = message.get("role") if type(message) is dict else None
        if type(role) is not str:
            role = _role_by_type(message)
        if role == "user":
            found = _text_of(message)
            if found and not found.isspace():
                user = found
        elif role in _SYSTEM_ROLES and (found := _text_of(message)):
            system.append(found)
    return Turns(system, user)


def request_texts(body: Record) -> Texts:
    """What is scored of the body of a request: `messages`, else `input`, else `prompt`, and what goes with them.

    Raises:
        BadRecordError: no text of the user's, or something of the wrong kind.
    """
    messages = body.get("messages")
    turns = read_turns(messages) if messages is not None else _turns_or_text(body)
    if turns.user is None:
        raise BadRecordError(NO_USER_TURN)
    system, instructions, tools = body.get("system"), body.get("instructions"), body.get("tools")
    if tools is None:
        tools = body.get("functions")
    if system is None and instructions is None and tools is None and not turns.system:
        return Texts(None, prompt_text("prompt", turns.user))
    before = [content_text("system", parts_in(system)), _instructions(instructions), *turns.system]
    return Texts(joined_system(before, tools), prompt_text("prompt", turns.user))


def joined_system(pieces: Iterable[str | None], tools: object) -> str | None:
    """System texts and the list of tools as one text; None if all are blank."""
    found = [*pieces, tools_text(tools) if tools is not None else None]
    return text("system", "\n".join(piece for piece in found if piece and not piece.isspace())) or None


def parts_in(content: object) -> object:
    """The parts in a text that was written down as JSON, as OpenLLMetry and tables do.

    A user can send such a text as it is. So it stays a text wherever something that would be passed over holds words.
    """
    if not isinstance(content, str) or not content.startswith("[{"):
        return content
    try:
        parts = json.loads(content, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return content
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "type" in part for part in parts):
        return content
    silent = json.dumps([_passed_over(part) for part in parts], ensure_ascii=False, separators=(",", ":"))
    return parts if silent.isascii() and " " not in silent else content


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, unless a key stands in it twice and a value so would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _passed_over(part: Record) -> Record:
    read = ("text" if "text" in part else "content") if part["type"] == "text" else None
    return {name: value for name, value in part.items() if name != read}


def decoded(value: object) -> object:
    """What a text holds as JSON; the text itself if it holds none."""
    if not isinstance(value, str) or value[:1] not in ("[", "{", '"'):
        return value
    try:
        return decode_json(value)
    except BadRecordError:
        return value


def tools_text(tools: object) -> str:
    """A list of tools as text: the same for a tool in any API's notation, nothing of it left out."""
    tools = decoded(tools)
    if isinstance(tools, str):
        return tools
    if not isinstance(tools, list | dict):
        raise BadRecordError(f"tools is {kind_of(tools)}, expected a list")
    plain = [_plain_tool(tool) for tool in tools] if isinstance(tools, list) else tools
    try:
        return orjson.dumps(plain).decode()
    except TypeError:  # lone surrogates, huge integers or depth, for which the standard library has more patience
        return _dump_slowly(plain)


def _plain_tool(tool: object) -> object:
    """Name, description and parameters first and by these names, whatever else there is after them."""
    if not isinstance(tool, dict):
        return tool
    inner = tool.get("function")
    rest = {**inner, **tool} if isinstance(inner, dict) else dict(tool)
    if isinstance(inner, dict):
        del rest["function"]
    if rest.get("type") in ("function", "custom"):
        del rest["type"]
    for other in ("input_schema", "inputSchema"):
        if other in rest and "parameters" not in rest:
            rest["parameters"] = rest.pop(other)
    first = {name: rest.pop(name) for name in ("name", "description", "parameters") if name in rest}
    return {**first, **rest}


def _dump_slowly(tools: object) -> str:
    try:
        return json.dumps(tools, ensure_ascii=False, separators=(",", ":"), default=str)
    except RecursionError:
        raise BadRecordError("tools is nested too deeply, expected a list of definitions") from None


def _turns_or_text(body: Record) -> Turns:
    """`input` or `prompt`, which may be a text: as it is, since that is how it was sent."""
    value = body.get("input")
    if value is None:
        value = body.get("prompt")
    if value is None:
        raise BadRecordError("messages, input and prompt are missing, expected one of them")
    if isinstance(value, str):
        return Turns([], value)
    if isinstance(value, list) and value and isinstance(value[0], str):  # the older endpoint takes several prompts
        return Turns([], content_text("prompt", value))
    return read_turns(value)


def _instructions(value: object) -> str | None:
    """Text, or in what the Responses API returns, a list of messages."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        return "\n".join(read_turns(value).system)
    return content_text("instructions", value)


def _role_by_type(message: object) -> str | None:
    """Of a message without a role: LangChain's by its type; None for items that are no messages, such as tool calls."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadRecordError("a message has no role, expected objects with role and content")
    return _ROLE_OF_TYPE.get(message["type"])


def _text_of(message: Record) -> str | None:
    content = message.get("content")
    if type(content) is str:
        return content
    return content_text("content", _first(message, _CONTENT) if content is None else content)


def _first(record: Record, names: Sequence[str]) -> object:
    return next((record[name] for name in names if record.get(name) is not None), None)
