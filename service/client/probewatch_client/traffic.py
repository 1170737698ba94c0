"""From requests to models, as gateways see them, to events. Stands after `watch`.

OpenAI's chat completions, completions and responses, and Anthropic's messages. Only what is scored is sent: system
texts, the last user turn with text, and the tools; no images, no answers, no earlier turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from probewatch_client.events import Event
from probewatch_client.watch import account_of_key

PATHS = ("/chat/completions", "/completions", "/responses", "/messages")
"""How the paths of requests end that carry prompts."""

UNREADABLE = "the body is not a request to a model"
NOBODY = "nothing says whose request it is"
_KEY_HEADERS = ("x-api-key", "api-key")


def event_of_request(headers: Mapping[str, str], body: bytes, account: str) -> Event | str:
    """The event of a request; a reason if there is none.

    Args:
        headers: by lower-case names.
        account: `key`, `header:NAME` or `body:FIELD` (dots lead into objects).
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return UNREADABLE
    if not isinstance(document, dict):
        return UNREADABLE
    account_id = _account_of(headers, document, account)
    return event_of_body(document, account_id) if account_id else NOBODY


def event_of_body(body: Mapping[str, Any], account_id: str) -> Event | str:
    """The event of the fields of a request to a model; a reason if there is none."""
    asked = body.get("messages")
    if asked is None:
        asked = body.get("input", body.get("prompt"))
    turns = _turns(asked)
    if not any(turn["role"] == "user" for turn in turns):
        return UNREADABLE
    system = _text(body.get("system", body.get("instructions")))
    tools = body.get("tools", body.get("functions"))
    model = body.get("model")
    return Event(
        account_id,
        messages=turns,
        system=system or None,
        tools=tools if isinstance(tools, list) and tools else None,
        model=model if isinstance(model, str) and model else None,
    )


def field_at(body: Mapping[str, Any], name: str) -> str:
    """A text or whole number in nested objects, as text; empty if there is none."""
    value: Any = body
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return str(value).strip() if isinstance(value, str) or type(value) is int else ""


def _account_of(headers: Mapping[str, str], body: Mapping[str, Any], account: str) -> str:
    kind, _, name = account.partition(":")
    if kind == "header":
        return headers.get(name.lower(), "").strip()
    if kind == "body":
        return field_at(body, name)
    scheme, _, key = headers.get("authorization", "").partition(" ")
    found = [key.strip() if scheme.lower() == "bearer" else "", *(headers.get(name, "") for name in _KEY_HEADERS)]
    return next((account_of_key(one) for one in found if one), "")


def _turns(asked: object) -> list[dict[str, str]]:
    """System turns, and the last user turn with text."""
    if isinstance(asked, str) or (isinstance(asked, list) and asked and all(isinstance(one, str) for one in asked)):
        return _turn("user", asked)
    system: list[dict[str, str]] = []
    user: list[dict[str, str]] = []
    for message in asked if isinstance(asked, list) else ():
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            system += _turn("system", message.get("content"))
        elif role == "user":
            found = _turn("user", message.get("content"))
            user = found if found else user
    return [*system, *user]


def _turn(role: str, content: object) -> list[dict[str, str]]:
    text = _text(content)
    return [{"role": role, "content": text}] if text.strip() else []


def _text(content: object) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    parts: Sequence[object] = content if isinstance(content, list) else ()
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "\n".join(text for text in texts if isinstance(text, str))
