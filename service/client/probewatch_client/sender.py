"""Sends events behind the scenes: bounded, in batches, in a thread of its own. Stands after `settings`.

    hook -> offer -> **queue** -> thread -> Client.score_batch

Nothing is dropped unsaid: observed = scored + refused + dropped + waiting, at any time, and a line of log gives the
counts whenever events were lost. What the service cannot take now waits; only what does not fit is dropped.
"""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from probewatch_client.client import Client
from probewatch_client.core import Retry, pause_after
from probewatch_client.errors import ConflictError, ProbewatchError, RefusedError, ServerFaultError
from probewatch_client.events import MOST_EVENTS, Encoded
from probewatch_client.results import Failure, Outcome
from probewatch_client.settings import HookSettings

log = logging.getLogger("probewatch_client")

_GATHER = 0.05  # seconds in which events gather into a batch
_SAY_EVERY = 10.0  # seconds
_TIMEOUT = 10.0
_ONCE = Retry(tries=1)  # what fails stays here, where its number is bounded
_PAUSES = Retry(first=0.5, most=10)
_FINAL = (RefusedError, ConflictError, ServerFaultError)


@dataclass(frozen=True)
class Counts:
    """Events so far. observed = scored + refused + dropped + waiting.

    Attributes:
        refused: the service will never take them. dropped: there was no room, or no time at the end.
        skipped: requests that became no event, by reason; not among the observed.
    """

    observed: int
    scored: int
    refused: int
    dropped: int
    waiting: int
    skipped: dict[str, int]


class Sender:
    """A bounded queue before the service. Its thread starts with the first event; `close` sends what waits."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._queue: deque[Encoded] = deque()
        self._bytes = self._busy = 0  # bytes that wait or are being sent; events being sent
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._said, self._said_at, self._waits_said_at = 0, -_SAY_EVERY, -_SAY_EVERY
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = self._closed = False

    def offer(self, events: Sequence[Encoded], or_drop: bool = True) -> bool:
        """Take events to be sent, all or none: whether there was room. What is not taken was dropped if `or_drop`."""
        size = sum(len(event.body) for event in events)
        with self._changed:
            room = self._settings.most_waiting - len(self._queue) - self._busy
            fits = len(events) <= room and self._bytes + size <= self._settings.most_waiting_bytes and not self._closing
            if fits or or_drop:
                self._counts["observed"] += len(events)
            if fits:
                self._queue.extend(events)
                self._bytes += size
                self._start()
                self._changed.notify_all()
            elif or_drop:
                self._counts["dropped"] += len(events)
        if not fits and or_drop:
            self._say()
        return fits

    def count(self, what: str) -> None:
        """Count an event that was `scored` or `refused` without waiting here."""
        with self._changed:
            self._counts["observed"] += 1
            self._counts[what] += 1

    def skip(self, reason: str) -> None:
        """Count a request that becomes no event."""
        with self._changed:
            self._skipped[reason] += 1
        self._say()

    def counts(self) -> Counts:
        """What became of all events so far."""
        with self._changed:
            known = {name: self._counts[name] for name in ("observed", "scored", "refused", "dropped")}
            return Counts(**known, waiting=len(self._queue) + self._busy, skipped=dict(self._skipped))

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits: whether that was so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, seconds)

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits for so long at most; the rest is dropped and counted. Nothing is taken afterwards."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.flush(seconds)
        with self._changed:
            self._closed = True
            self._counts["dropped"] += len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        atexit.unregister(self.close)
        self._say(now=True)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # a process that was forked off has no thread yet
            self._thread = threading.Thread(target=self._run, name="probewatch-sender", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def _run(self) -> None:
        failed = 0
        with Client(self._settings.url, self._settings.key, timeout=_TIMEOUT, retry=_ONCE) as client:
            while events := self._take():
                reason = self._settle(events, self._send(client, events))
                failed = failed + 1 if reason is not None else 0
                if reason is not None:
                    self._rest(pause_after(_PAUSES, failed, reason, random.random()), reason)

    def _take(self) -> list[Encoded]:
        """The next batch; nothing once all is sent and it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            self._changed.wait_for(lambda: len(self._queue) >= MOST_EVENTS or self._closing, _GATHER)
            events = [self._queue.popleft() for _ in range(min(MOST_EVENTS, len(self._queue)))]
            self._busy = len(events)
            return events

    def _send(self, client: Client, events: Sequence[Encoded]) -> list[Outcome]:
        try:
            return client.score_batch(events)
        except ProbewatchError as error:
            return [Failure(event.event_id, error) for event in events]
        except Exception as error:  # noqa: BLE001 (the edge: this thread must live, and its events be accounted for)
            unexpected = ProbewatchError(f"unexpected {type(error).__name__}")
            return [Failure(event.event_id, unexpected) for event in events]

    def _settle(self, events: Sequence[Encoded], outcomes: Sequence[Outcome]) -> ProbewatchError | None:
        """Count what is done and put back what is not: why it is not."""
        later: list[Encoded] = []
        reason: ProbewatchError | None = None
        with self._changed:
            for event, outcome in zip(events, outcomes, strict=True):
                if isinstance(outcome, Failure) and not isinstance(outcome.error, _FINAL):
                    later.append(event)
                    reason = outcome.error
                    continue
                self._counts["refused" if isinstance(outcome, Failure) else "scored"] += 1
                self._bytes -= len(event.body)
            if self._closed:
                self._counts["dropped"] += len(later)
                later.clear()
            self._queue.extendleft(reversed(later))
            self._busy = 0
            self._changed.notify_all()
        self._say()
        return reason

    def _rest(self, seconds: float, reason: ProbewatchError) -> None:
        moment = time.monotonic()
        if moment - self._waits_said_at >= _SAY_EVERY:
            self._waits_said_at = moment
            log.warning("events wait, since the service does not take them: %s", reason)
        with self._changed:
            self._changed.wait_for(lambda: self._closed, min(seconds, 1.0) if self._closing else seconds)

    def _say(self, now: bool = False) -> None:
        """Log the counts if events were lost since, at most every 10 seconds."""
        counts = self.counts()
        lost = counts.refused + counts.dropped + sum(counts.skipped.values())
        moment = time.monotonic()
        if lost > self._said and (now or moment - self._said_at >= _SAY_EVERY):
            self._said, self._said_at = lost, moment
            log.warning("some requests do not count: %s", counts)
