"""Scoring itself: what waits is labelled as one batch, its evidence committed, and answered. No threads or sockets.

    parsing -> **turns** (pipeline, recording, answers) -> scoring_process

Group commit and micro-batching are one thing here: a turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from classifier.evidence import Baselines
from classifier.pipeline import Pipeline
from classifier.rows import LabelRow, Rows, Sent
from service.context import Context, contexts_of
from service.excerpts import excerpt
from service.http.answers import Answer, say
from service.http.parsing import Event
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.store.excerpts import keep_excerpts
from service.store.opening import Store, StoreConflictError, StoreError
from service.store.recording import Fate, Recorded, record

LEAST_EXCERPT = 0.9
"""Extraction probability from which the beginning of a prompt is kept, where excerpts are: a match has more."""
_TRIES = 3


class Job(NamedTuple):
    """What one request asks for. `number`: what its asker knows it by; `asked`: time.monotonic() of then."""

    number: int
    events: Sequence[Event]
    asked: float


class Done(NamedTuple):
    """What became of a turn: answers to its jobs, and why the store could not be used, in a sentence, if it could not.

    `began`: time.time_ns() of then; `labelling`, `committing`: seconds.
    """

    answers: Sequence[tuple[int, Sequence[Answer]]]
    away: str | None
    began: int
    labelling: float
    committing: float


@dataclass(frozen=True)
class _Wave:
    """Events without a repeated id, labelled: their places among those of the turn, and what they were labelled as."""

    places: Sequence[int]
    labelled: Rows
    supplied: Sequence[bool]
    contexts: Sequence[Context | None]
    excerpts: Mapping[str, tuple[float, str]]  # by event id: how strong, and the redacted text


class _NotTriedError(StoreError):
    """What was asked for before the store was found to be away is not tried, but answered alike."""


class Turns:
    """Scores jobs. `pipeline` and `published` may be replaced between turns, or by another thread."""

    def __init__(self, store: Store, pipeline: Pipeline, store_seconds: float, most_excerpt: int = 0) -> None:
        """`most_excerpt`: characters of an excerpt; none are kept if 0."""
        self._writer, self.pipeline = store.writer(), pipeline
        self._store_seconds, self._most_excerpt = store_seconds, most_excerpt
        self.published: Published | None = None
        self._away: str | None = None
        self._away_since = 0.0

    def score(self, jobs: Sequence[Job]) -> Done:
        """Label, commit and answer jobs at once."""
        began, first = time.time_ns(), time.perf_counter()
        pipeline, events = self.pipeline, [event for job in jobs for event in job.events]
        answers: list[Answer | None] = [None] * len(events)
        waves = self._label(pipeline, events, answers)
        then = time.perf_counter()
        self._commit(pipeline, waves, answers, max(job.asked for job in jobs))
        last = time.perf_counter()
        return Done(_by_job(jobs, answers), self._away, began, then - first, last - then)

    def close(self) -> None:
        self._writer.close()

    def _label(self, pipeline: Pipeline, events: Sequence[Event], answers: list[Answer | None]) -> list[_Wave]:
        try:
            return [self._wave(pipeline, events, places) for places in _waves(events)]
        except Exception:  # noqa: BLE001 (the edge: an event that cannot be labelled must not stop the others)
            waves = []
        for i in range(len(events)):
            try:
                waves.append(self._wave(pipeline, events, [i]))
            except Exception as error:  # noqa: BLE001
                answers[i] = _our_fault(error)
        return waves

    def _wave(self, pipeline: Pipeline, events: Sequence[Event], places: Sequence[int]) -> _Wave:
        own = [events[i] for i in places]
        contexts = contexts_of([event.context for event in own], pipeline.hash_key)
        labelled = pipeline.label_few(
            [Sent(one.event_id, one.account_id, one.us, one.system, one.prompt) for one in own]
        )
        excerpts = _excerpts(own, labelled.labels, self._most_excerpt) if self._most_excerpt else {}
        return _Wave(places, labelled, [event.supplied for event in own], contexts, excerpts)

    def _commit(
        self, pipeline: Pipeline, waves: Sequence[_Wave], answers: list[Answer | None], last_asked: float
    ) -> None:
        """Commit a turn in one transaction, and answer it."""
        try:
            if self._away is not None and last_asked < self._away_since:
                raise _NotTriedError(self._away)  # it has waited for one attempt, which may have taken long
            if self.published is None:
                raise _NotTriedError("No verdicts are published yet.")
            recorded = self._record(waves, pipeline.baselines)
            self._away = None
            self._say(waves, recorded, pipeline, self.published, answers)
        except StoreError as error:
            if not isinstance(error, _NotTriedError | StoreConflictError):
                self._away, self._away_since = str(error), time.monotonic()
            _fill(answers, without_store(str(error)))
        except Exception as error:  # noqa: BLE001 (the edge)
            _fill(answers, _our_fault(error))

    def _record(self, waves: Sequence[_Wave], baselines: Baselines) -> list[Recorded]:
        now = time.time_ns() // 1000
        for left in reversed(range(_TRIES)):
            try:
                with self._writer.writing(self._store_seconds) as connection:
                    return [_recorded(connection, wave, baselines, now) for wave in waves]
            except StoreConflictError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _say(
        self,
        waves: Sequence[_Wave],
        recorded: Sequence[Recorded],
        pipeline: Pipeline,
        published: Published,
        answers: list[Answer | None],
    ) -> None:
        for wave, done in zip(waves, recorded, strict=True):
            said = say(wave.labelled.labels, done, pipeline, published)
            for place, answer in zip(wave.places, said, strict=True):
                answers[place] = answer


def without_store(reason: str) -> Problem:
    return unavailable("store-unavailable", reason, 2)


def _our_fault(error: Exception) -> Problem:
    return Problem(500, "our-fault", f"Unexpected {type(error).__name__} in scoring, which is our fault.")


def _fill(answers: list[Answer | None], problem: Problem) -> None:
    """Answer what has no answer yet."""
    answers[:] = [problem if answer is None else answer for answer in answers]


def _by_job(jobs: Sequence[Job], answers: Sequence[Answer | None]) -> list[tuple[int, list[Answer]]]:
    left = iter(answer for answer in answers if answer is not None)
    return [(job.number, [next(left) for _ in job.events]) for job in jobs]


def _excerpts(events: Sequence[Event], labels: Sequence[LabelRow], most: int) -> dict[str, tuple[float, str]]:
    """Of the events that say much: by their ids, p_extraction and the redacted beginning."""
    chances = [float(label.p_extraction) for label in labels]
    pairs = zip(events, chances, strict=True)
    return {event.event_id: (p, excerpt(event.prompt, most)) for event, p in pairs if p >= LEAST_EXCERPT}


def _recorded(connection: Connection, wave: _Wave, baselines: Baselines, now: int) -> Recorded:
    """Record a wave; what became of its events."""
    done = record(connection, wave.labelled, wave.supplied, baselines, now, wave.contexts)
    if wave.excerpts:
        rows = zip(wave.labelled.labels, done.fates, done.accounts, strict=True)
        named = ((label.event_id, fate, one) for label, fate, one in rows)
        counted = [(name, one) for name, fate, one in named if fate is Fate.COUNTED and name in wave.excerpts]
        keep_excerpts(
            connection, [(one.number, name, now, *wave.excerpts[name]) for name, one in counted if one is not None]
        )
    return done


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
