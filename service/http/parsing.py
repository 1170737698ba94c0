"""From the bytes of a request to validated fields: by the same extractor as files. Stands after `problems`."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from service.fields import BadRecordError, Fields, decode_json, kind_of
from service.formats import FORMATS
from service.http.problems import Problem
from service.settings import MOST_BATCH

_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)  # or a string, which is stepped over
_PLAIN = FORMATS["plain"]


class Event(NamedTuple):
    """A validated event; `supplied`: it came with its id, so it may come again."""

    event_id: str
    supplied: bool
    account_id: str
    us: int
    system: str | None
    prompt: str
    context: tuple[str | None, str | None, str | None] = (None, None, None)  # model, org_id, end_user_id


@dataclass(frozen=True)
class Limits:
    """What a body may be: nesting, and how far ahead of the clock an event's time, in us."""

    most_depth: int
    most_ahead_us: int


def parse_json(body: bytes, limits: Limits) -> object:
    """The JSON value of a body; Problem 400 unless it is one, and not too deep."""
    if _depth_exceeds(body, limits.most_depth):
        raise Problem(400, "too-deep", f"The body is nested deeper than {limits.most_depth} levels: flatten it.")
    try:
        return decode_json(body)
    except BadRecordError:
        raise Problem(400, "bad-json", "The body is not valid JSON in UTF-8: expected one object.") from None


def parse_event(record: object, limits: Limits) -> Event:
    """An event; Problem 422 with the sentence that `label` would write to rejected.jsonl."""
    try:
        if not isinstance(record, Mapping):
            raise BadRecordError(f"the record is {kind_of(record)}, expected an object")
        return _event(_PLAIN.extract(record, _PLAIN.accounts), limits)
    except BadRecordError as bad:
        said = str(bad)
        raise Problem(422, "bad-event", f"{said[0].upper()}{said[1:]}.") from None


def parse_batch(document: object) -> Sequence[object]:
    """The records of a batch; Problem 422 unless there are 1 to 1,000."""
    records = document.get("events") if isinstance(document, Mapping) else None
    if not isinstance(records, list) or not 1 <= len(records) <= MOST_BATCH:
        got = f"{len(records):,} events" if isinstance(records, list) else "no list of events"
        raise Problem(422, "bad-batch", f'The batch has {got}: expected 1 to {MOST_BATCH:,} in "events".')
    return records


def _event(fields: Fields, limits: Limits) -> Event:
    now = time.time_ns() // 1000
    us = fields.timestamp if fields.timestamp is not None else now
    if us > now + limits.most_ahead_us:
        raise BadRecordError("timestamp is ahead of the clock of this server, expected the time of the event")
    supplied = fields.event_id is not None
    name = fields.event_id if fields.event_id is not None else uuid4().hex
    return Event(name, supplied, fields.account_id, us, fields.system, fields.prompt, fields[-3:])


def _depth_exceeds(body: bytes, most: int) -> bool:
    """Whether brackets outside of strings nest deeper; counts them first, since few bodies hold that many at all."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    depth = 0
    for token in _BRACKETS.finditer(body):
        kind = token[0][:1]
        depth += (kind in b"[{") - (kind in b"]}")
        if depth > most:
            return True
    return False
