"""The client without I/O: what is asked, how answers are read, when to ask again. Stands after `events`, `reading`.

call (a request as data) -> [a shell sends it] -> reply -> **answer_of**, **pause_before_retry**
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

from probewatch_client.errors import (
    BadAnswerError,
    BadInputError,
    BusyError,
    NoAnswerError,
    NotAllowedError,
    ProbewatchError,
    Problem,
    ProblemError,
    RefusedError,
    error_of,
)
from probewatch_client.events import Encoded, Event, cut, encode
from probewatch_client.reading import read
from probewatch_client.results import (
    AccountDetail,
    AccountPage,
    CampaignDetail,
    CampaignList,
    Failure,
    Loaded,
    Outcome,
    Review,
    Score,
    TemplateList,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """When to ask again. `first`, `most`: seconds of the first and the longest pause; `patience`: of all together."""

    tries: int = 5
    first: float = 0.1
    most: float = 5.0
    patience: float = 30.0

    def __post_init__(self) -> None:
        if self.tries < 1 or min(self.first, self.most, self.patience) < 0:
            raise BadInputError("Retry needs at least 1 try and times of 0 seconds or more.")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `repeatable`: doing it twice does no harm."""

    method: str
    path: str
    read: Callable[[object], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True

    @property
    def words(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """What came back. `retry_after`: that header, as it was sent."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None


# --- what is asked ---


def base_url(url: str) -> str:
    """The URL without a slash at its end. Raises BadInputError unless it is one of HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise BadInputError("The URL of the service cannot be used: expected one such as https://probewatch:8080.")
    return url.rstrip("/")


def headers_of(key: str | None) -> dict[str, str]:
    """Headers of every request. Raises BadInputError for a key that no header can hold."""
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise BadInputError("The API key cannot be used: expected the text that `probewatch keys add` printed.")
    return {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key is not None else {})


def score(event: Event) -> Call[Score]:
    return Call("POST", "/v1/score", partial(read, Score), body=encode(event).body)


def score_batch(events: Sequence[Encoded]) -> Call[Sequence[Score | Problem]]:
    body = b'{"events":[' + b",".join(event.body for event in events) + b"]}"
    return Call("POST", "/v1/score/batch", partial(_batch_answers, len(events)), body=body)


def accounts(asked: Mapping[str, str | datetime | int | None]) -> Call[AccountPage]:
    query = {
        name: value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in asked.items()
        if value is not None
    }
    return Call("GET", "/v1/accounts", partial(read, AccountPage), query)


def account(account_id: str) -> Call[AccountDetail]:
    return Call("GET", f"/v1/accounts/{_id('account_id', account_id)}", partial(read, AccountDetail))


def review(account_id: str, state: str, reason: str, until: datetime | None) -> Call[Review]:
    document = {"state": state, "reason": reason} | ({"until": until.isoformat()} if until is not None else {})
    path = f"/v1/accounts/{_id('account_id', account_id)}/reviews"
    return Call("POST", path, partial(read, Review), body=json.dumps(document).encode(), repeatable=False)


def erase(account_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/accounts/{_id('account_id', account_id)}", lambda _: None, repeatable=False)


def campaigns() -> Call[CampaignList]:
    return Call("GET", "/v1/campaigns", partial(read, CampaignList))


def campaign(campaign_id: str) -> Call[CampaignDetail]:
    return Call("GET", f"/v1/campaigns/{_id('campaign_id', campaign_id)}", partial(read, CampaignDetail))


def templates() -> Call[TemplateList]:
    return Call("GET", "/v1/templates", partial(read, TemplateList))


def reload() -> Call[Loaded]:
    return Call("POST", "/v1/reload", partial(read, Loaded))


def _id(name: str, value: str) -> str:
    if not value or value in (".", ".."):
        raise BadInputError(f"{name} cannot be asked for: expected the id of one that is there.")
    return quote(value, safe="")


def _batch_answers(n: int, document: object) -> list[Score | Problem]:
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != n:
        raise BadAnswerError(f"The answer to {n:,} events holds no {n:,} results: is it the service that answers?")
    return [_problem(one) if "status" in one else read(Score, one, f"results[{i}]") for i, one in enumerate(results)]


# --- what came back ---


def answer_of(call: Call[T], reply: Reply, now: datetime) -> T:
    """The result. Raises the ProbewatchError that a reply other than success stands for."""
    if not 200 <= reply.status < 300:
        raise _error_of(call.words, reply, now)
    return call.read(_document(call.words, reply) if reply.body else None)


def no_answer(call: Call[T], url: str, reason: str, sent: bool) -> NoAnswerError:
    """The error of a request that got no answer. `reason`: in a few words."""
    what = "it may have been done all the same" if sent and not call.repeatable else "nothing was counted twice"
    advice = "check the URL and that the service runs (`/readyz` says whether it is ready)"
    return NoAnswerError(f"{call.words} got no answer from {url}: {reason}; {what}. What to do: {advice}.", sent)


def _error_of(asked: str, reply: Reply, now: datetime) -> ProbewatchError:
    try:
        problem = _problem(_document(asked, reply))
    except BadAnswerError:
        if reply.status not in (429, 502, 503, 504):  # those are what balancers say of a service that is not there
            return BadAnswerError(
                f"{asked} got {reply.status} without a problem document: expected the service; check the URL, and what "
                "stands between."
            )
        problem = Problem(reply.status, "in-between", "", "Something before the service answered.")
    return error_of(asked, problem, _seconds(reply.retry_after, now))


def _document(asked: str, reply: Reply) -> object:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        raise BadAnswerError(f"{asked} got {reply.status} and no JSON: is it the service that answers?") from None


def _problem(document: object) -> Problem:
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    kind, detail, title = (fields.get(name) for name in ("type", "detail", "title"))
    status = fields.get("status")
    if not isinstance(kind, str) or not isinstance(detail, str) or not isinstance(status, int):
        raise BadAnswerError("The answer is no problem document: is it the service that answers?")
    return Problem(status, kind.rpartition(":")[2], str(title), detail)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Of a Retry-After header: seconds or a date; None if there is none that can be read."""
    if retry_after is None:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo if moment.tzinfo else UTC) - now).total_seconds())


# --- when to ask again ---


def pause_before_retry(
    retry: Retry, call: Call[T], error: ProbewatchError, tried: int, spent: float, chance: float
) -> float | None:
    """Seconds to wait before asking again; None if that is not to be done.

    Args:
        tried: how often it was asked, from 1. spent: seconds since the first time. chance: uniform in [0, 1).
    """
    lost = isinstance(error, NoAnswerError) and (call.repeatable or not error.sent)
    if tried >= retry.tries or not (lost or isinstance(error, BusyError)):
        return None
    pause = pause_after(retry, tried, error, chance)
    return pause if spent + pause <= retry.patience else None


def pause_after(retry: Retry, tried: int, error: ProbewatchError | None, chance: float) -> float:
    """Seconds: twice as long each time, spread by chance so that clients do not return together; what was asked for."""
    asked = error.retry_after if isinstance(error, ProblemError) and error.retry_after is not None else 0.0
    backoff = min(retry.most, retry.first * 2.0 ** min(tried - 1, 30))
    return asked + backoff * (0.5 + chance / 2)


# --- batches ---


class Batch:
    """What is still to be asked of many events, and what became of the others.

    A part that is refused as a whole is halved, so that one event that cannot be read takes no other with it. Events
    that the service could not score just then go again, `tries` times at most.
    """

    def __init__(self, events: Sequence[Encoded], retry: Retry) -> None:
        places = iter(range(len(events)))
        self._left = deque([(next(places), event) for event in part] for part in cut(events))
        self._outcomes: dict[int, Outcome] = {}
        self._again: list[tuple[int, Encoded]] = []
        self._retry, self._turn = retry, 1

    def part(self) -> list[Encoded]:
        """What to ask next; nothing when all is done."""
        return [event for _, event in self._left[0]] if self._left else []

    def answered(self, answers: Sequence[Score | Problem], chance: float) -> float:
        """Take the answers to the part; seconds to wait before the next."""
        for (at, event), answer in zip(self._left.popleft(), answers, strict=True):
            if isinstance(answer, Score):
                self._outcomes[at] = answer
                continue
            error = error_of("POST /v1/score/batch", answer)
            self._outcomes[at] = Failure(event.event_id, error)
            if isinstance(error, BusyError):
                self._again.append((at, event))
        return self._go_again(chance)

    def failed(self, error: ProbewatchError, chance: float) -> float:
        """Take it that the part has no answer; seconds to wait. Raises the error if it holds for all parts."""
        if isinstance(error, NotAllowedError | BadAnswerError):
            raise error
        part = self._left.popleft()
        if isinstance(error, RefusedError) and len(part) > 1:
            middle = len(part) // 2
            self._left.extendleft((part[middle:], part[:middle]))
        else:
            self._outcomes.update({at: Failure(event.event_id, error) for at, event in part})
        return self._go_again(chance)

    @property
    def outcomes(self) -> list[Outcome]:
        """For each event, in order."""
        return [self._outcomes[at] for at in sorted(self._outcomes)]

    def _go_again(self, chance: float) -> float:
        if self._left or not self._again or self._turn >= self._retry.tries:
            return 0.0
        pause = pause_after(self._retry, self._turn, None, chance)
        self._turn += 1
        self._left.append(self._again)
        self._again = []
        return pause
