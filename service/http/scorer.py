"""The one thread that scores: it takes all that waits, labels it as one batch, commits its evidence, and answers.

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

import numpy as np
import pyarrow as pa

from classifier.labeler import Labelled
from classifier.pipeline import Pipeline
from classifier.types import CAPABILITIES, EVENT_SCHEMA
from service.http.metrics import Metrics
from service.http.parsing import Event
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.store.opening import Store, StoreConflictError, StoreError
from service.store.recording import Account, Fate, Recorded, record

MOST_TURN = 256
"""Events in a turn, unless one request brings more."""
_TRIES = 3
_TIMESTAMP = EVENT_SCHEMA.field("timestamp").type
_SMOOTHING = 0.2

Answer = dict[str, object] | Problem
"""What `/v1/score` says of an event."""


@dataclass(frozen=True)
class _Job:
    events: Sequence[Event]
    answer: asyncio.Future[list[Answer]]


class Scorer:
    """Scores events in the order in which they come. `pipeline` and `published` may be replaced at any time."""

    def __init__(self, store: Store, pipeline: Pipeline, metrics: Metrics, most_waiting: int, most_wait: float) -> None:
        self._store, self.pipeline, self._metrics = store, pipeline, metrics
        self.published: Published | None = None
        self._most_waiting, self._most_wait = most_waiting, most_wait
        self._jobs: deque[_Job] = deque()
        self._queued = 0
        self._pace = 0.0  # seconds an event of a full turn: small ones take longer by the event, and say less
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Score what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

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

    def _run(self) -> None:
        while jobs := self._take():
            began, n = time.perf_counter(), sum(len(job.events) for job in jobs)
            answers = self._answers([event for job in jobs for event in job.events])
            took = time.perf_counter() - began
            self._pace += _SMOOTHING * (took / max(n, MOST_TURN) - self._pace)
            self._metrics.turn.observe(took)
            self._metrics.turn_events.observe(n)
            _deliver(jobs, answers)

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

    def _answers(self, events: Sequence[Event]) -> list[Answer]:
        try:
            return self._score(events)
        except StoreError as error:
            self._metrics.failed.inc(len(events))
            return [unavailable("store-unavailable", str(error), 2)] * len(events)
        except Exception as error:  # noqa: BLE001 (the edge: an event that cannot be scored must not stop the others)
            if len(events) > 1:
                return [answer for event in events for answer in self._answers([event])]
            self._metrics.failed.inc()
            return [Problem(500, "our-fault", f"Unexpected {type(error).__name__} in scoring, which is our fault.")]

    def _score(self, events: Sequence[Event]) -> list[Answer]:
        pipeline, published = self.pipeline, self.published
        if published is None:
            raise StoreError("No verdicts are published yet.")
        answers: list[Answer] = [{}] * len(events)
        waves = [(wave, pipeline.label(_batch([events[i] for i in wave]))) for wave in _waves(events)]
        recorded = self._record(events, waves, pipeline)
        for (wave, labelled), done in zip(waves, recorded, strict=True):
            said = _say(labelled.labels, done, pipeline, published)
            for i, answer in zip(wave, said, strict=True):
                answers[i] = answer
        counted = sum(isinstance(answer, dict) for answer in answers)
        self._metrics.scored.inc(counted)
        self._metrics.rejected.inc(len(events) - counted)
        return answers

    def _record(
        self, events: Sequence[Event], waves: Sequence[tuple[Sequence[int], Labelled]], pipeline: Pipeline
    ) -> list[Recorded]:
        now = time.time_ns() // 1000
        for left in reversed(range(_TRIES)):
            try:
                with self._store.writing() as connection:
                    return [
                        record(
                            connection,
                            labelled.labels,
                            labelled.units,
                            [events[i].supplied for i in wave],
                            pipeline.baselines,
                            now,
                        )
                        for wave, labelled in waves
                    ]
            except StoreConflictError:
                if not left:
                    raise
        raise AssertionError("unreachable")


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


def _say(labels: pa.Table, recorded: Recorded, pipeline: Pipeline, published: Published) -> list[Answer]:
    """Answers to labelled and recorded events."""
    known: dict[int, Account] = {one.number: one for one in recorded.accounts if one is not None}
    standing = dict(zip(known, published.say(list(known.values())), strict=True))
    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    rows = zip(labels["event_id"].to_pylist(), _prompts(labels), recorded.fates, recorded.accounts, strict=True)
    return [
        {"event_id": event_id, "prompt": prompt, "account": standing[account.number], **ids}
        if fate is not Fate.FOREIGN and account is not None
        else Problem(
            409, "event-id-of-another-account", "event_id was used for another account: give each event its own."
        )
        for event_id, prompt, fate, account in rows
    ]


def _foreign() -> Problem:
    detail = "event_id was used for another account: give each event its own."
    return Problem(409, "event-id-of-another-account", detail)


def _prompts(labels: pa.Table) -> Iterator[dict[str, object]]:
    """`prompt` of each answer."""
    probabilities = np.stack([labels[f"p_{name}"].to_numpy() for name in CAPABILITIES], axis=1)
    templates = labels.select(["template_id", "template_family", "technique", "similarity", "coverage"])
    matched = labels["template_id"].is_valid().to_pylist()
    rows = zip(labels["capability"].to_pylist(), probabilities, labels["p_extraction"].to_numpy(), matched, strict=True)
    for i, (capability, chances, extraction, has_match) in enumerate(rows):
        yield {
            "capability": capability,
            "probabilities": dict(zip(CAPABILITIES, chances, strict=True)),
            "p_extraction": extraction,
            "template": _template(templates.slice(i, 1).to_pylist()[0]) if has_match else None,
        }


def _template(row: dict[str, object]) -> dict[str, object]:
    def short(value: object) -> object:
        return np.float32(value) if isinstance(value, float) else None  # prints the digits that it holds

    return {
        "id": row["template_id"],
        "family": row["template_family"],
        "technique": row["technique"],
        "similarity": short(row["similarity"]),
        "coverage": short(row["coverage"]),
    }


def _deliver(jobs: Sequence[_Job], answers: Sequence[Answer]) -> None:
    """Hand answers to the event loops that wait for them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Sequence[Answer]]]] = {}
    start = 0
    for job in jobs:
        part = answers[start : start + len(job.events)]
        start += len(job.events)
        by_loop.setdefault(job.answer.get_loop(), []).append((job, part))
    for loop, parts in by_loop.items():
        loop.call_soon_threadsafe(_settle, parts)


def _settle(parts: Sequence[tuple[_Job, Sequence[Answer]]]) -> None:
    for job, answers in parts:
        if not job.answer.done():  # the caller may have gone
            job.answer.set_result(list(answers))
