"""What scores: takes all that waits, labels it as one batch, commits its evidence, and answers.

    parsing -> **scorer** (pipeline, recording) -> routes

Group commit and micro-batching are one thing here. What waits is bounded, in number and by the time it would wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlalchemy import Connection

from classifier.evidence import Baselines
from classifier.labeler import Labelled
from classifier.pipeline import Pipeline
from classifier.types import EVENT_SCHEMA
from service.context import Context, contexts_of
from service.excerpts import excerpt
from service.http.answers import Answer, say
from service.http.metrics import Metrics
from service.http.parsing import Event
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.http.tracing import Traces
from service.store.excerpts import keep_excerpts
from service.store.opening import Store, StoreConflictError, StoreError
from service.store.recording import Fate, Recorded, record

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

MOST_TURN = 256
"""Events in a turn; the request that reaches it is still part of it."""
FEW = 32
"""Events that are never too slow: a turn of so many takes hardly longer than one of a single event."""
LEAST_EXCERPT = 0.9
"""Extraction probability from which the beginning of a prompt is kept, where excerpts are: a match has more."""
_TRIES = 3
_TIMESTAMP = EVENT_SCHEMA.field("timestamp").type
_SMOOTHING = 0.2


@dataclass(frozen=True)
class _Job:
    events: Sequence[Event]
    answer: asyncio.Future[list[Answer]]
    asked: float  # time.monotonic()
    span: SpanContext | None


@dataclass(frozen=True)
class _Wave:
    """Events without a repeated id, labelled: their places among those of the turn, and what they were labelled as."""

    places: Sequence[int]
    labelled: Labelled
    supplied: Sequence[bool]
    contexts: Sequence[Context | None]
    excerpts: Mapping[str, tuple[float, str]]  # by event id: how strong, and the redacted text


@dataclass(frozen=True)
class _Turn:
    """What is labelled at once. `answers`: None where there is none yet."""

    jobs: Sequence[_Job]
    answers: list[Answer | None]
    waves: Sequence[_Wave]
    pipeline: Pipeline
    began: float


class _NotTriedError(StoreError):
    """What was asked for before the store was found to be away is not tried, but answered alike."""


class Scorer:
    """Scores events in the order in which they come. `pipeline` and `published` may be replaced at any time.

    One thread labels what waits, another commits what is labelled: while the disk is waited for, the next are labelled.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        metrics: Metrics,
        most_waiting: int,
        most_wait: float,
        store_seconds: float,
        most_excerpt: int = 0,
        traces: Traces | None = None,
    ) -> None:
        """`most_excerpt`: characters of an excerpt; none are kept if 0."""
        self._store, self.pipeline, self._metrics, self._traces = store, pipeline, metrics, traces
        self._most_excerpt, self._store_seconds = most_excerpt, store_seconds
        self.away: str | None = None
        """Why the store could not be used last, in a sentence; None if it could."""
        self._away_since, self._trying = 0.0, False
        self.published: Published | None = None
        self._most_waiting, self._most_wait = most_waiting, most_wait
        self._came = self._taken = 0  # events so far; the event loop counts the ones, the thread that labels the others
        self._pace = 0.0  # seconds from one answer to the next, of late
        self._answered = 0.0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._labelled: SimpleQueue[_Turn | None] = SimpleQueue()
        self._free = threading.Semaphore()  # held by a turn that is labelled and waits to be committed
        works = (self._label_all, self._commit_all)
        self._threads = [threading.Thread(target=work, name="scorer", daemon=True) for work in works]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Score what waits, then end."""
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def store_is_back(self) -> None:
        """Told by whoever used the store since."""
        self.away = None

    def refusal(self, n: int) -> Problem | None:
        """503, with when to try again, if n more events would wait too long, or for a store that is away and that
        another request tries; counted as received, and as shed or failed.

        The wait is how many wait already, those not counted that are being scored, times how long one takes.
        """
        if self.away is not None and self._trying:
            self._metrics.received.inc(n)
            self._metrics.failed.inc(n)
            return _without_store(self.away)
        there = self._came - self._taken
        expected = there * self._pace
        too_many = there + n > self._most_waiting
        too_slow = there + n > FEW and expected > self._most_wait
        if not there or not (too_many or too_slow):
            return None
        self._metrics.received.inc(n)
        self._metrics.shed.inc(n)
        return unavailable("overloaded", f"{there:,} events wait to be scored: try again.", 1 + int(expected))

    def submit(self, events: Sequence[Event]) -> asyncio.Future[list[Answer]]:
        """Answers for events, in order, once they are committed."""
        answer: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._trying = True
        self._came += len(events)
        span = self._traces.here() if self._traces is not None else None
        self._jobs.put(_Job(events, answer, time.monotonic(), span))
        return answer

    def _take(self) -> tuple[list[_Job], bool]:
        """What waits, up to MOST_TURN events, once the turn before is being committed; and whether nothing comes after.

        Nothing is labelled ahead of that: more come meanwhile, and what is done at once costs less.
        """
        self._free.acquire()
        jobs: list[_Job] = []
        n = 0
        while n < MOST_TURN and not (jobs and self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                return jobs, True
            jobs.append(job)
            n += len(job.events)
            self._taken += len(job.events)
        return jobs, False

    def _label_all(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._take()
            if jobs:
                began = time.perf_counter()
                with self._span("label", jobs):
                    turn = self._label(jobs, began)
                self._metrics.label.observe(time.perf_counter() - began)
                self._labelled.put(turn)
        self._labelled.put(None)

    def _span(self, name: str, jobs: Sequence[_Job]) -> AbstractContextManager[None]:
        if self._traces is None:
            return nullcontext()
        n_events = sum(len(job.events) for job in jobs)
        n_chars = sum(len(event.prompt) for job in jobs for event in job.events)
        return self._traces.span(name, [job.span for job in jobs], n_events=n_events, n_chars=n_chars)

    def _label(self, jobs: Sequence[_Job], began: float) -> _Turn:
        pipeline, events = self.pipeline, [event for job in jobs for event in job.events]
        answers: list[Answer | None] = [None] * len(events)
        try:
            waves = [self._wave(pipeline, events, places) for places in _waves(events)]
        except Exception:  # noqa: BLE001 (the edge: an event that cannot be labelled must not stop the others)
            waves = []
            for i in range(len(events)):
                try:
                    waves.append(self._wave(pipeline, events, [i]))
                except Exception as error:  # noqa: BLE001
                    answers[i] = _our_fault(error)
        return _Turn(jobs, answers, waves, pipeline, began)

    def _wave(self, pipeline: Pipeline, events: Sequence[Event], places: Sequence[int]) -> _Wave:
        own = [events[i] for i in places]
        contexts = contexts_of([event.context for event in own], pipeline.hash_key)
        labelled = pipeline.label(_batch(own))
        excerpts = _excerpts(own, labelled.labels, self._most_excerpt) if self._most_excerpt else {}
        return _Wave(places, labelled, [event.supplied for event in own], contexts, excerpts)

    def _commit_all(self) -> None:
        """Commit each turn in one transaction, and answer."""
        while (turn := self._labelled.get()) is not None:
            self._free.release()
            with self._span("commit", turn.jobs):
                self._commit(turn)
            now, n = time.perf_counter(), len(turn.answers)
            took = now - max(turn.began, self._answered)
            self._pace += _SMOOTHING * (took / max(n, FEW) - self._pace)
            self._answered = now
            self._metrics.turn.observe(now - turn.began)
            self._metrics.turn_events.observe(n)

    def _commit(self, turn: _Turn) -> None:
        asked = max((job.asked for job in turn.jobs), default=0.0)
        try:
            if self.away is not None and asked < self._away_since:
                raise _NotTriedError(self.away)  # it has waited for one attempt, which may have taken long
            recorded = self._record(turn)
            self.away = None
        except StoreError as error:
            if not isinstance(error, _NotTriedError | StoreConflictError):
                self.away, self._away_since = str(error), time.monotonic()
            _fill(turn, _without_store(str(error)))
        except Exception as error:  # noqa: BLE001 (the edge)
            _fill(turn, _our_fault(error))
        else:
            self._say(turn, recorded)
        self._trying = False
        self._count(turn)
        _deliver(turn)

    def _record(self, turn: _Turn) -> list[Recorded]:
        if self.published is None:
            raise StoreError("No verdicts are published yet.")
        now = time.time_ns() // 1000
        for left in reversed(range(_TRIES)):
            try:
                with self._store.writing(self._store_seconds) as connection:
                    return [_recorded(connection, wave, turn.pipeline.baselines, now) for wave in turn.waves]
            except StoreConflictError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _say(self, turn: _Turn, recorded: Sequence[Recorded]) -> None:
        published = self.published
        assert published is not None  # once published, always
        for wave, done in zip(turn.waves, recorded, strict=True):
            said = say(wave.labelled.labels, done, turn.pipeline, published)
            for place, answer in zip(wave.places, said, strict=True):
                turn.answers[place] = answer

    def _count(self, turn: _Turn) -> None:
        problems = [answer for answer in turn.answers if isinstance(answer, Problem)]
        failed = sum(problem.status >= 500 for problem in problems)
        self._metrics.scored.inc(len(turn.answers) - len(problems))
        self._metrics.failed.inc(failed)
        self._metrics.rejected.inc(len(problems) - failed)


def _excerpts(events: Sequence[Event], labels: pa.Table, most: int) -> dict[str, tuple[float, str]]:
    """Of the events that say much: by their ids, p_extraction and the redacted beginning."""
    chances = labels["p_extraction"].to_pylist()
    pairs = zip(events, chances, strict=True)
    return {event.event_id: (p, excerpt(event.prompt, most)) for event, p in pairs if p >= LEAST_EXCERPT}


def _recorded(connection: Connection, wave: _Wave, baselines: Baselines, now: int) -> Recorded:
    """Record a wave; what became of its events."""
    labels = wave.labelled.labels
    done = record(connection, labels, wave.labelled.units, wave.supplied, baselines, now, wave.contexts)
    if wave.excerpts:
        rows = zip(labels["event_id"].to_pylist(), done.fates, done.accounts, strict=True)
        counted = [(name, one) for name, fate, one in rows if fate is Fate.COUNTED and name in wave.excerpts]
        keep_excerpts(
            connection, [(one.number, name, now, *wave.excerpts[name]) for name, one in counted if one is not None]
        )
    return done


def _without_store(reason: str) -> Problem:
    return unavailable("store-unavailable", reason, 2)


def _our_fault(error: Exception) -> Problem:
    return Problem(500, "our-fault", f"Unexpected {type(error).__name__} in scoring, which is our fault.")


def _fill(turn: _Turn, problem: Problem) -> None:
    """Answer what has no answer yet."""
    turn.answers[:] = [problem if answer is None else answer for answer in turn.answers]


def _waves(events: Sequence[Event]) -> Iterator[list[int]]:
    """Indices of events in lists without a repeated event id: a retry beside its original comes after it."""
    left = list(range(len(events)))
    while left:
        seen: set[str] = set()
        wave: list[int] = []
        rest: list[int] = []
        for i in left:
            (rest if events[i].event_id in seen else wave).append(i)
            seen.add(events[i].event_id)
        yield wave
        left = rest


def _batch(events: Sequence[Event]) -> pa.RecordBatch:
    columns = [
        pa.array([event.event_id for event in events], pa.string()),
        pa.array([event.account_id for event in events], pa.string()),
        pa.array([event.us for event in events], pa.int64()).cast(_TIMESTAMP),
        pa.array([event.system for event in events], pa.string()),
        pa.array([event.prompt for event in events], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def _deliver(turn: _Turn) -> None:
    """Hand answers to the event loops that wait for them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, list[Answer]]]] = {}
    answers = [answer for answer in turn.answers if answer is not None]
    start = 0
    for job in turn.jobs:
        part = answers[start : start + len(job.events)]
        start += len(job.events)
        by_loop.setdefault(job.answer.get_loop(), []).append((job, part))
    for loop, parts in by_loop.items():
        loop.call_soon_threadsafe(_settle, parts)


def _settle(parts: Sequence[tuple[_Job, list[Answer]]]) -> None:
    for job, answers in parts:
        if not job.answer.done():  # the caller may have gone
            job.answer.set_result(answers)
