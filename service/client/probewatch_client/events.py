"""What is sent to be scored: events, as bytes of JSON. Stands after `errors`.

An event has its id before it is sent for the first time. So sending it again never counts it twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from probewatch_client.errors import BadInputError

MOST_EVENTS = 1_000
"""Events in one request."""
MOST_BYTES = 16 << 20
"""Of one request, unless a single event is larger."""


def new_event_id() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Event:
    """One request that an account sent to the model: `prompt`, or `messages` as in the chat APIs.

    Attributes:
        model, org_id, end_user_id: context, which is shown and never evidence.
        timestamp: when it was sent, with time zone; if None, when the service gets it.
    """

    account_id: str
    prompt: str | None = field(default=None, repr=False)
    messages: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    system: str | None = field(default=None, repr=False)
    tools: Sequence[Any] | None = field(default=None, repr=False)
    timestamp: datetime | None = None
    event_id: str = field(default_factory=new_event_id)
    model: str | None = None
    org_id: str | None = None
    end_user_id: str | None = None


@dataclass(frozen=True)
class Encoded:
    """An event as it is sent."""

    event_id: str
    body: bytes = field(repr=False)


def encode(event: Event) -> Encoded:
    """The event as JSON.

    Raises:
        BadInputError: no account, no time zone, or something that JSON does not know.
    """
    if not event.account_id:
        raise BadInputError("account_id is empty: expected the id of the account that sent the prompt.")
    if (event.prompt is None) == (event.messages is None):
        raise BadInputError("An event needs either prompt or messages: give one of them.")
    if event.timestamp is not None and event.timestamp.tzinfo is None:
        raise BadInputError("timestamp has no time zone: give one, such as datetime.now(UTC).")
    names = ("account_id", "prompt", "messages", "system", "tools", "event_id", "model", "org_id", "end_user_id")
    fields = {name: value for name in names if (value := getattr(event, name)) is not None}
    if event.timestamp is not None:
        fields["timestamp"] = event.timestamp.isoformat()
    try:
        return Encoded(event.event_id, json.dumps(fields, separators=(",", ":"), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        raise BadInputError("The event holds something that is no JSON: expected text, numbers and lists.") from None


def cut(events: Iterable[Encoded]) -> list[list[Encoded]]:
    """The events in parts, in order, each small enough for one request."""
    parts: list[list[Encoded]] = []
    size = 0
    for event in events:
        if not parts or len(parts[-1]) == MOST_EVENTS or size + len(event.body) > MOST_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(event)
        size += len(event.body) + 1
    return parts
