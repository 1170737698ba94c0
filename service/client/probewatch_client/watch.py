"""What every hook does with a request: note it behind the scenes, or ask for a verdict. Stands after `sender`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import weakref
from dataclasses import dataclass

import httpx

from probewatch_client.client import AsyncClient
from probewatch_client.core import Retry
from probewatch_client.errors import BadInputError, ConflictError, RefusedError
from probewatch_client.events import Event, encode
from probewatch_client.sender import Counts, Sender
from probewatch_client.settings import HookSettings

log = logging.getLogger("probewatch_client")

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on; if not, the status and the sentence that its sender gets."""

    allowed: bool
    status: int = 200
    sentence: str = ""


ALLOWED = Verdict(True)
FLAGGED = Verdict(False, 403, "This account may not use the model now. Ask the provider's support why.")
UNJUDGED = Verdict(False, 503, "The request could not be checked in time. Try again.")


class Watch:
    """The part of a hook that knows nothing of its host."""

    def __init__(self, settings: HookSettings) -> None:
        self.settings = settings
        self.sender = Sender(settings)
        self._tls = httpx.create_ssl_context()  # takes longer than a request may wait, so not when the first one comes
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = weakref.WeakKeyDictionary()

    def note(self, event: Event) -> None:
        """Have an event scored behind the scenes. Never waits, never raises."""
        try:
            self.sender.offer([encode(event)])
        except BadInputError:
            self.sender.skip("not an event")

    async def judge(self, event: Event | None, why_not: str = "not an event") -> Verdict:
        """Score an event, or one that could not be made out for a reason, and say whether its request may go on."""
        if event is None:
            self.sender.skip(why_not)
            return self._unjudged()
        if not self.settings.enforce:
            self.note(event)
            return ALLOWED
        try:
            async with asyncio.timeout(self.settings.timeout):
                score = await self._client().score(event)
        except Exception as error:  # noqa: BLE001 (the edge: nothing here may break the request of another's process)
            self._count_later(event, error)
            return self._unjudged()
        self.sender.count("scored")
        return FLAGGED if score.account.decision in self.settings.block else ALLOWED

    def counts(self) -> Counts:
        """What became of all events so far."""
        return self.sender.counts()

    async def close(self) -> None:
        """Send what waits, for a few seconds at most, and close."""
        await asyncio.to_thread(self.sender.close)
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def _unjudged(self) -> Verdict:
        return UNJUDGED if self.settings.enforce and self.settings.fail_closed else ALLOWED

    def _count_later(self, event: Event, error: Exception) -> None:
        """An event without a verdict in time still counts, under the same id; one that was refused does not."""
        if isinstance(error, BadInputError):
            self.sender.skip("not an event")
        elif isinstance(error, RefusedError | ConflictError):
            self.sender.count("refused")
        else:
            self.note(event)

    def _client(self) -> AsyncClient:
        """That of this event loop, since connections cannot leave theirs."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            settings = self.settings
            retry = Retry(tries=1)
            self._clients[loop] = AsyncClient(
                settings.url, settings.key, timeout=settings.timeout, retry=retry, tls=self._tls
            )
        return self._clients[loop]


def account_of_key(key: str) -> str:
    """The account of an API key: part of its SHA-256, or of what is one already, which LiteLLM hands out."""
    digest = key if _HEX.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()
    return f"key-{digest[:32]}"
