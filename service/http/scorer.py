"""The front of scoring, in the event loop: what may wait, what waits for answers, and the process that gives them.

    parsing -> **scorer** (scoring_process) -> routes

What waits is bounded, in number and by the time it would wait. A process that is lost is begun anew; what it was asked
is answered with 503, and may be asked again by its event ids.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING

from classifier.errors import BundleError
from classifier.pipeline import Pipeline
from service.http.answers import Answer
from service.http.frames import Frames, pack
from service.http.loading import ids_of
from service.http.metrics import Metrics
from service.http.parsing import Event
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.http.scoring_process import Begun, Load, Loaded, Publish, begin, end
from service.http.tracing import Traces
from service.http.turns import Done, Job, without_store
from service.http.waiting import Waiting
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

log = logging.getLogger("probewatch.scorer")

_AGAIN_SECONDS = 1.0
_LOAD_SECONDS = 120.0
"""How long a process may take to begin: one that is no fork loads what it needs, on a busy machine too."""


@dataclass(frozen=True)
class _Asked:
    """Events that wait for answers."""

    events: Sequence[Event]
    answers: asyncio.Future[list[Answer]]
    span: SpanContext | None


class Scorer:
    """Scores events in the order in which they come. All but `publish`, `replace` and `store_is_back` are called in the
    event loop that it was started in."""

    def __init__(self, settings: Settings, pipeline: Pipeline, metrics: Metrics, traces: Traces | None = None) -> None:
        self._settings, self.pipeline, self._metrics, self._traces = settings, pipeline, metrics, traces
        self.away: str | None = None
        """Why the store could not be used last, in a sentence; None if it could."""
        self.lost: str | None = "What scores is being started."
        """Why nothing is scored, in a sentence; None if it is."""
        self.published: Published | None = None
        self.waiting = Waiting(settings.most_waiting, settings.most_wait_ms / 1e3)
        self._numbers = count()
        self._asked: dict[int, _Asked] = {}
        self._unsent: list[Job] = []
        self._begun: Begun | None = None
        self._channel: asyncio.Transport | None = None
        self._loads: list[Future[BundleError | None]] = []
        self._patience: asyncio.TimerHandle | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._is_stopped = False

    async def start(self) -> None:
        """Begin to score. To be called while no thread of this process is at work: it may fork."""
        self._loop = asyncio.get_running_loop()
        forks = self._traces is None  # which have a thread at work already
        await self._connect(begin(self._settings, self.pipeline, forks))

    async def stop(self) -> None:
        """End what scores; whoever waits still is told."""
        self._is_stopped = True
        if self._beginning is not None:
            await self._beginning
        if self._channel is not None:
            self._channel.close()
        if self._begun is not None:
            await asyncio.to_thread(end, self._begun)

    def store_is_back(self) -> None:
        """Told by whoever used the store since."""
        self.away = None

    def publish(self, published: Published) -> None:
        """Have answers go by thresholds and campaigns from now on."""
        before, self.published = self.published, published
        has_changed = before is None or before.campaigns is not published.campaigns
        self._loop.call_soon_threadsafe(self._send, _publication(published, has_changed))

    def replace(self, pipeline: Pipeline) -> None:
        """Have events be scored by what was just loaded as `pipeline`. Not to be called in the event loop.

        Raises:
            BundleError: the process that scores could not load it; what was loaded before stays.
        """
        loaded: Future[BundleError | None] = Future()
        self._loop.call_soon_threadsafe(self._ask_to_load, pipeline, loaded)
        refusal = loaded.result()
        if refusal is not None:
            raise refusal
        self.pipeline = pipeline

    def is_full(self, n: int) -> bool:
        """Whether n more events would be refused, which is not counted."""
        return self._without_answer() is not None or self.waiting.too_long(n) is not None

    def refusal(self, n: int) -> Problem | None:
        """503, with when to try again, if n more events would wait too long, or for a store that is away and that
        another request tries; counted as received, and as shed or failed."""
        problem = self._without_answer()
        if problem is not None:
            self._metrics.received.inc(n)
            self._metrics.failed.inc(n)
            return problem
        seconds = self.waiting.too_long(n)
        if seconds is None:
            return None
        self._metrics.received.inc(n)
        self._metrics.shed.inc(n)
        return unavailable("overloaded", "More events come than can be scored: try again.", 1 + int(seconds))

    def submit(self, events: Sequence[Event]) -> asyncio.Future[list[Answer]]:
        """Answers for events, in order, once they are committed."""
        answers: asyncio.Future[list[Answer]] = self._loop.create_future()
        asked = _Asked(events, answers, self._traces.here() if self._traces is not None else None)
        self.waiting.came(len(events))
        if self.lost is not None:
            self._settle(asked, [_lost(self.lost)] * len(events))
            return answers
        number = next(self._numbers)
        self._asked[number] = asked
        self._unsent.append(Job(number, events, time.monotonic()))
        if len(self._unsent) == 1:
            self._loop.call_soon(self._flush)  # with what else comes in this pass of the loop
        return answers

    def _without_answer(self) -> Problem | None:
        if self.lost is not None:
            return _lost(self.lost)
        return without_store(self.away) if self.away is not None and self._asked else None

    def _flush(self) -> None:
        jobs, self._unsent = self._unsent, []
        if jobs:
            self._send(pack(jobs))

    def _send(self, frame: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(frame)

    def _ask_to_load(self, pipeline: Pipeline, loaded: Future[BundleError | None]) -> None:
        if self.lost is not None:  # what is being begun is told when it stands
            self.pipeline = pipeline
            loaded.set_result(None)
            return
        self._loads.append(loaded)
        self._send(pack(Load(ids_of(pipeline))))

    async def _connect(self, begun: Begun) -> None:
        self._begun = begun
        self._channel, _ = await self._loop.create_connection(lambda: _Link(self), sock=begun.channel)
        self._patience = self._loop.call_later(_LOAD_SECONDS, begun.process.kill)

    def take(self, message: object) -> None:
        """A message of the process that scores."""
        if isinstance(message, Done):
            self._take_answers(message)
        elif isinstance(message, Loaded) and self.lost is not None:
            self._begins(message)
        elif isinstance(message, Loaded) and self._loads:
            self._loads.pop(0).set_result(message.refusal)

    def _begins(self, loaded: Loaded) -> None:
        """A process stands, or says why not; it is told what changed here since it was begun."""
        if loaded.refusal is not None:
            self._note_loss(str(loaded.refusal))
        elif loaded.ids != ids_of(self.pipeline):
            self._send(pack(Load(ids_of(self.pipeline))))
        else:
            self._keep_patience()
            self.lost = None
            if self.published is not None:
                log.info("scoring again")
                self._send(_publication(self.published, True))

    def _keep_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _note_loss(self, reason: str) -> None:
        if reason != self.lost and not self._is_stopped:
            log.error("not ready: %s", reason)
        self.lost = reason

    def _take_answers(self, done: Done) -> None:
        now, n_events, n_chars = time.perf_counter(), 0, 0
        self.away = done.away
        spans = []
        for number, answers in done.answers:
            asked = self._asked.pop(number)
            spans.append(asked.span)
            n_events += len(answers)
            n_chars += sum(len(event.prompt) for event in asked.events)
            self._settle(asked, answers)
        self._note_turn(done, now, n_events)
        if self._traces is not None:
            ends = (done.began, done.began + round(done.labelling * 1e9))
            self._traces.note("label", spans, *ends, n_events=n_events, n_chars=n_chars)
            ends = (ends[1], ends[1] + round(done.committing * 1e9))
            self._traces.note("commit", spans, *ends, n_events=n_events, n_chars=n_chars)

    def _note_turn(self, done: Done, now: float, n: int) -> None:
        took = done.labelling + done.committing
        self.waiting.note_pace(n, took, now)
        self._metrics.label.observe(done.labelling)
        self._metrics.turn.observe(took)
        self._metrics.turn_events.observe(n)

    def _settle(self, asked: _Asked, answers: Sequence[Answer]) -> None:
        problems = [answer for answer in answers if isinstance(answer, Problem)]
        failed = sum(problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR for problem in problems)
        self.waiting.left(len(answers))
        self._metrics.scored.inc(len(answers) - len(problems))
        self._metrics.failed.inc(failed)
        self._metrics.rejected.inc(len(problems) - failed)
        if not asked.answers.done():  # the caller may have gone
            asked.answers.set_result(list(answers))

    def lose(self) -> None:
        """The process that scores is gone: whoever waits is told, and another is begun."""
        self._channel = None
        self._keep_patience()
        if self.lost is None:
            self._note_loss("The service stops." if self._is_stopped else "What scores was lost, and is begun anew.")
        reason = self.lost if self.lost is not None else ""
        for asked in list(self._asked.values()):
            self._settle(asked, [_lost(reason)] * len(asked.events))
        self._asked.clear()
        self._unsent.clear()
        for loaded in self._loads:
            loaded.set_result(None)
        self._loads.clear()
        if not self._is_stopped:
            self._beginning = self._loop.create_task(self._begin_anew())

    async def _begin_anew(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            await asyncio.to_thread(end, begun)
        while self._begun is None and not self._is_stopped:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                await self._connect(await asyncio.to_thread(begin, self._settings, self.pipeline, False))
            except (OSError, RuntimeError) as error:  # no room for a process or a thread, for now
                log.error("not ready: no process can be begun (%s)", type(error).__name__)


class _Link(asyncio.Protocol):
    """This end of the socket to the process that scores."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self._frames = scorer, Frames()

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._scorer.take(message)

    def connection_lost(self, _: Exception | None) -> None:
        self._scorer.lose()


def _publication(published: Published, with_campaigns: bool) -> bytes:
    """A frame; campaigns may be many, and seldom change."""
    campaigns = published.campaigns if with_campaigns else None
    return pack(Publish(published.thresholds, published.as_of, campaigns))


def _lost(reason: str) -> Problem:
    return unavailable("scoring-lost", reason, 2)
