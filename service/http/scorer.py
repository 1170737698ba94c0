"""What scores: takes all that waits, labels it as one batch, commits its evidence, and answers.

    parsing -> **scorer** (pipeline, recording) -> routes

Group commit and micro-batching are one thing here. What waits is bounded, in number and by the time it would wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Queue

import pyarrow as pa
from sqlalchemy import Connection

from classifier.evidence import Baselines
from classifier.labeler import Labelled
from classifier.pipeline import Pipeline
from classifier.types import EVENT_SCHEMA
from service.http.answers import Answer, say
from service.http.metrics import Metrics
from service.http.parsing import Event
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.store.opening import Store, StoreConflictError, StoreError
from service.store.recording import Recorded, record

MOST_TURN = 256
"""Events in a turn, unless one request brings more."""
MOST_LABELLED = 1
"""Turns that are labelled and wait to be committed."""
_TRIES = 3
_TIMESTAMP = EVENT_SCHEMA.field("timestamp").type
_SMOOTHING = 0.2


@dataclass(frozen=True)
class _Job:
    events: Sequence[Event]
    answer: asyncio.Future[list[Answer]]


@dataclass(frozen=True)
class _Wave:
    """Events without a repeated id, labelled: their places among those of the turn, and what they were labelled as."""

    places: Sequence[int]
    labelled: Labelled
    supplied: Sequence[bool]


@dataclass(frozen=True)
class _Turn:
    """What is labelled at once. `answers`: None where there is none yet."""

    jobs: Sequence[_Job]
    answers: list[Answer | None]
    waves: Sequence[_Wave]
    pipeline: Pipeline


class Scorer:
    """Scores events in the order in which they come. `pipeline` and `published` may be replaced at any time.

    One thread labels what waits, another commits what is labelled: while the disk is waited for, the next are labelled.
    """

    def __init__(self, store: Store, pipeline: Pipeline, metrics: Metrics, most_waiting: int, most_wait: float) -> None:
        self._store, self.pipeline, self._metrics = store, pipeline, metrics
        self.published: Published | None = None
        self._most_waiting, self._most_wait = most_waiting, most_wait
        self._jobs: deque[_Job] = deque()
        self._queued = 0
        self._pace = 0.0  # seconds an event of a full turn: small ones take longer by the event, and say less
        self._wake = threading.Condition()
        self._stopping = False
        self._labelled: Queue[_Turn | None] = Queue(MOST_LABELLED)
        works = (self._label_all, self._commit_all)
        self._threads = [threading.Thread(target=work, name="scorer", daemon=True) for work in works]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Score what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        for thread in self._threads:
            thread.join()

    def submit(self, events: Sequence[Event]) -> asyncio.Future[list[Answer]]:
        """Answers for events, in order, once they are committed.

        Raises:
            Problem: 503, with when to try again; what was refused is counted as shed.
        """
        queued = self._queued
        expected = (queued + len(events)) * self._pace
        if queued and (queued + len(events) > self._most_waiting or expected > self._most_wait):
            self._metrics.shed.inc(len(events))
            raise unavailable("overloaded", f"{queued:,} events wait to be scored: try again.", 1 + int(expected))
        answer: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._jobs.append(_Job(events, answer))
            self._queued += len(events)
            self._wake.notify()
        return answer

    def _take(self) -> list[_Job]:
        """What waits, up to MOST_TURN events; nothing once it is time to end."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._stopping)
            jobs: list[_Job] = []
            n = 0
            while self._jobs and (not jobs or n + len(self._jobs[0].events) <= MOST_TURN):
                jobs.append(self._jobs.popleft())
                n += len(jobs[-1].events)
            self._queued -= n
            return jobs

    def _label_all(self) -> None:
        while jobs := self._take():
            began = time.perf_counter()
            turn = self._label(jobs)
            self._metrics.label.observe(time.perf_counter() - began)
            self._labelled.put(turn)  # waits while the disk is behind, and counts that too
            took = time.perf_counter() - began
            self._pace += _SMOOTHING * (took / max(len(turn.answers), MOST_TURN) - self._pace)
            self._metrics.turn.observe(took)
            self._metrics.turn_events.observe(len(turn.answers))
        self._labelled.put(None)

    def _label(self, jobs: Sequence[_Job]) -> _Turn:
        pipeline, events = self.pipeline, [event for job in jobs for event in job.events]
        answers: list[Answer | None] = [None] * len(events)
        try:
            waves = [_wave(pipeline, events, places) for places in _waves(events)]
        except Exception:  # noqa: BLE001 (the edge: an event that cannot be labelled must not stop the others)
            waves = []
            for i in range(len(events)):
                try:
                    waves.append(_wave(pipeline, events, [i]))
                except Exception as error:  # noqa: BLE001
                    answers[i] = _our_fault(error)
        return _Turn(jobs, answers, waves, pipeline)

    def _commit_all(self) -> None:
        """Commit all that is labelled by now in one transaction, and answer."""
        ended = False
        while not ended:
            turns = [self._labelled.get()]
            while not self._labelled.empty():
                turns.append(self._labelled.get())
            ended = None in turns
            self._commit([turn for turn in turns if turn is not None])

    def _commit(self, turns: Sequence[_Turn]) -> None:
        try:
            recorded = iter(self._record([wave for turn in turns for wave in turn.waves], turns))
        except StoreError as error:
            for turn in turns:
                _fill(turn, unavailable("store-unavailable", str(error), 2))
        except Exception as error:  # noqa: BLE001 (the edge)
            if len(turns) > 1:
                for turn in turns:
                    self._commit([turn])
                return
            for turn in turns:
                _fill(turn, _our_fault(error))
        else:
            for turn in turns:
                self._say(turn, recorded)
        for turn in turns:
            self._count(turn)
            _deliver(turn)

    def _record(self, waves: Sequence[_Wave], turns: Sequence[_Turn]) -> list[Recorded]:
        if self.published is None:
            raise StoreError("No verdicts are published yet.")
        now = time.time_ns() // 1000
        baselines = turns[0].pipeline.baselines if turns else self.pipeline.baselines
        for left in reversed(range(_TRIES)):
            try:
                with self._store.writing() as connection:
                    return [
                        part for joined in _joined(waves) for part in _record_joined(connection, joined, baselines, now)
                    ]
            except StoreConflictError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _say(self, turn: _Turn, recorded: Iterator[Recorded]) -> None:
        published = self.published
        assert published is not None  # once published, always
        for wave in turn.waves:
            said = say(wave.labelled.labels, next(recorded), turn.pipeline, published)
            for place, answer in zip(wave.places, said, strict=True):
                turn.answers[place] = answer

    def _count(self, turn: _Turn) -> None:
        problems = [answer for answer in turn.answers if isinstance(answer, Problem)]
        failed = sum(problem.status >= 500 for problem in problems)
        self._metrics.scored.inc(len(turn.answers) - len(problems))
        self._metrics.failed.inc(failed)
        self._metrics.rejected.inc(len(problems) - failed)


def _wave(pipeline: Pipeline, events: Sequence[Event], places: Sequence[int]) -> _Wave:
    own = [events[i] for i in places]
    return _Wave(places, pipeline.label(_batch(own)), [event.supplied for event in own])


def _joined(waves: Sequence[_Wave]) -> list[list[_Wave]]:
    """Waves in order, together as long as no event id is repeated: what is recorded at once costs less."""
    joined: list[list[_Wave]] = []
    seen: set[str] = set()
    for wave in waves:
        ids = set(wave.labelled.labels["event_id"].to_pylist())
        if not joined or seen & ids:
            joined.append([])
            seen = set()
        joined[-1].append(wave)
        seen |= ids
    return joined


def _record_joined(
    connection: Connection, waves: Sequence[_Wave], baselines: Baselines, now: int
) -> Iterator[Recorded]:
    """Record waves at once; what became of each."""
    labels = pa.concat_tables([wave.labelled.labels for wave in waves])
    units = pa.concat_tables([wave.labelled.units for wave in waves])
    supplied = [own for wave in waves for own in wave.supplied]
    done, start = record(connection, labels, units, supplied, baselines, now), 0
    for wave in waves:
        end = start + len(wave.places)
        yield Recorded(done.fates[start:end], done.accounts[start:end])
        start = end


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
