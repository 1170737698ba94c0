"""The two shells around the core, which do its I/O: `Client` waits, `AsyncClient` awaits. Stands after `core`.

Both have the same methods, word for word; what they ask and how answers are read is in `core` alone.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeVar

import httpx

from probewatch_client import core
from probewatch_client.core import Batch, Call, Reply, Retry, answer_of, pause_before_retry
from probewatch_client.errors import BadInputError, NoAnswerError, ProbewatchError
from probewatch_client.events import Encoded, Event, encode
from probewatch_client.results import (
    Account,
    AccountDetail,
    Campaign,
    CampaignDetail,
    Loaded,
    Outcome,
    Review,
    Score,
    TemplateList,
)

T = TypeVar("T")

_SECONDS = 10.0
_RETRY = Retry()


class Client:
    """Talks to a probewatch service. Safe to share between threads; closes with `with`, or `close`.

    Args:
        url: such as `https://probewatch:8080`.
        key: what `probewatch keys add` printed; None where the service has no keys.
        timeout: seconds that any step of a request may take.
        retry: when to ask again.
        tls: which certificates are trusted; if None, those that httpx brings.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = _SECONDS,
        retry: Retry = _RETRY,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url, self._retry = core.base_url(url), retry
        self._http = httpx.Client(
            base_url=self._url,
            headers=core.headers_of(key),
            timeout=_checked(timeout),
            verify=tls if tls is not None else True,
        )

    def score(self, event: Event) -> Score:
        """Score one event; it is counted once, however often it is sent. Raises ProbewatchError."""
        return self._send(core.score(event))

    def score_batch(self, events: Iterable[Event | Encoded]) -> list[Outcome]:
        """Score any number of events: for each, in order, its Score or the Failure that became of it.

        Raises:
            BadInputError: an event that cannot be sent; nothing was.
            NotAllowedError, BadAnswerError: not with this key, or not the service; events before may be counted.
        """
        batch = Batch([encode(one) if isinstance(one, Event) else one for one in events], self._retry)
        while part := batch.part():
            try:
                pause = batch.answered(self._send(core.score_batch(part)), random.random())
            except ProbewatchError as error:
                pause = batch.failed(error, random.random())
            time.sleep(pause)
        return batch.outcomes

    def accounts(
        self,
        *,
        decision: str | None = None,
        campaign_id: str | None = None,
        family: str | None = None,
        seen_since: datetime | None = None,
        page: int = 100,
    ) -> Iterator[Account]:
        """All accounts that meet the conditions, by id; a request for each page of so many."""
        asked = _filter(decision, campaign_id, family, seen_since, page)
        while True:
            found = self._send(core.accounts(asked))
            yield from found.accounts
            if found.cursor is None:
                return
            asked = {**asked, "cursor": found.cursor}

    def account(self, account_id: str) -> AccountDetail:
        """An account as of now, and why. Raises NotFoundError."""
        return self._send(core.account(account_id))

    def review(self, account_id: str, state: str, reason: str, until: datetime | None = None) -> Review:
        """Say what an analyst concludes: `confirmed`, `dismissed` or `watched`. Raises NotFoundError."""
        return self._send(core.review(account_id, state, reason, until))

    def erase(self, account_id: str) -> None:
        """Erase all that is known of an account. Raises NotFoundError."""
        self._send(core.erase(account_id))

    def campaigns(self) -> tuple[Campaign, ...]:
        """Campaigns as last published, largest first."""
        return self._send(core.campaigns()).campaigns

    def campaign(self, campaign_id: str) -> CampaignDetail:
        """A campaign and its accounts. Raises NotFoundError."""
        return self._send(core.campaign(campaign_id))

    def templates(self) -> TemplateList:
        """The signatures that prompts are matched against."""
        return self._send(core.templates())

    def reload(self) -> Loaded:
        """Have the service load bundle and catalogue again. Raises ConflictError if they are refused."""
        return self._send(core.reload())

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._url!r})"

    def _send(self, call: Call[T]) -> T:
        began, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return answer_of(call, self._try(call), datetime.now(UTC))
            except ProbewatchError as error:
                spent = time.monotonic() - began
                pause = pause_before_retry(self._retry, call, error, tried, spent, random.random())
                if pause is None:
                    raise
            time.sleep(pause)

    def _try(self, call: Call[T]) -> Reply:
        try:
            return _reply(
                self._http.request(call.method, call.path, params=dict(call.query) or None, content=call.body)
            )
        except httpx.RequestError as error:
            raise _lost(call, self._url, error) from None


class AsyncClient:
    """`Client`, awaited. For one event loop; closes with `async with`, or `close`."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = _SECONDS,
        retry: Retry = _RETRY,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url, self._retry = core.base_url(url), retry
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers=core.headers_of(key),
            timeout=_checked(timeout),
            verify=tls if tls is not None else True,
        )

    async def score(self, event: Event) -> Score:
        """Score one event; it is counted once, however often it is sent. Raises ProbewatchError."""
        return await self._send(core.score(event))

    async def score_batch(self, events: Iterable[Event | Encoded]) -> list[Outcome]:
        """Score any number of events: for each, in order, its Score or the Failure that became of it.

        Raises:
            BadInputError: an event that cannot be sent; nothing was.
            NotAllowedError, BadAnswerError: not with this key, or not the service; events before may be counted.
        """
        batch = Batch([encode(one) if isinstance(one, Event) else one for one in events], self._retry)
        while part := batch.part():
            try:
                pause = batch.answered(await self._send(core.score_batch(part)), random.random())
            except ProbewatchError as error:
                pause = batch.failed(error, random.random())
            await asyncio.sleep(pause)
        return batch.outcomes

    async def accounts(
        self,
        *,
        decision: str | None = None,
        campaign_id: str | None = None,
        family: str | None = None,
        seen_since: datetime | None = None,
        page: int = 100,
    ) -> AsyncIterator[Account]:
        """All accounts that meet the conditions, by id; a request for each page of so many."""
        asked = _filter(decision, campaign_id, family, seen_since, page)
        while True:
            found = await self._send(core.accounts(asked))
            for one in found.accounts:
                yield one
            if found.cursor is None:
                return
            asked = {**asked, "cursor": found.cursor}

    async def account(self, account_id: str) -> AccountDetail:
        """An account as of now, and why. Raises NotFoundError."""
        return await self._send(core.account(account_id))

    async def review(self, account_id: str, state: str, reason: str, until: datetime | None = None) -> Review:
        """Say what an analyst concludes: `confirmed`, `dismissed` or `watched`. Raises NotFoundError."""
        return await self._send(core.review(account_id, state, reason, until))

    async def erase(self, account_id: str) -> None:
        """Erase all that is known of an account. Raises NotFoundError."""
        await self._send(core.erase(account_id))

    async def campaigns(self) -> tuple[Campaign, ...]:
        """Campaigns as last published, largest first."""
        return (await self._send(core.campaigns())).campaigns

    async def campaign(self, campaign_id: str) -> CampaignDetail:
        """A campaign and its accounts. Raises NotFoundError."""
        return await self._send(core.campaign(campaign_id))

    async def templates(self) -> TemplateList:
        """The signatures that prompts are matched against."""
        return await self._send(core.templates())

    async def reload(self) -> Loaded:
        """Have the service load bundle and catalogue again. Raises ConflictError if they are refused."""
        return await self._send(core.reload())

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._url!r})"

    async def _send(self, call: Call[T]) -> T:
        began, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return answer_of(call, await self._try(call), datetime.now(UTC))
            except ProbewatchError as error:
                spent = time.monotonic() - began
                pause = pause_before_retry(self._retry, call, error, tried, spent, random.random())
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _try(self, call: Call[T]) -> Reply:
        try:
            return _reply(
                await self._http.request(call.method, call.path, params=dict(call.query) or None, content=call.body)
            )
        except httpx.RequestError as error:
            raise _lost(call, self._url, error) from None


def _checked(timeout: float) -> float:
    if not timeout > 0:
        raise BadInputError(f"timeout is {timeout}: expected seconds above 0.")
    return timeout


def _filter(
    decision: str | None, campaign_id: str | None, family: str | None, seen_since: datetime | None, page: int
) -> dict[str, str | datetime | int | None]:
    if seen_since is not None and seen_since.tzinfo is None:
        raise BadInputError("seen_since has no time zone: give one, such as datetime.now(UTC).")
    asked = {"decision": decision, "campaign_id": campaign_id, "family": family}
    return {**asked, "seen_since": seen_since, "limit": page}


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.content, response.headers.get("retry-after"))


_REASONS: tuple[tuple[type[httpx.RequestError], str, bool], ...] = (
    (httpx.ConnectTimeout, "no connection in time", False),
    (httpx.PoolTimeout, "no connection was free in time", False),
    (httpx.ConnectError, "no connection", False),
    (httpx.TimeoutException, "too slow", True),
)


def _lost(call: Call[T], url: str, error: httpx.RequestError) -> NoAnswerError:
    for kind, reason, sent in _REASONS:
        if isinstance(error, kind):
            return core.no_answer(call, url, reason, sent)
    return core.no_answer(call, url, f"the connection was lost ({type(error).__name__})", sent=True)
