"""Historical traffic, labelled: files in, a run's folder out. The batch path of DESIGN.md section 8.

    records -> parts -> **batch** (drop duplicates, label, write) -> findings (verdicts, run.json)

The parts are labelled by an engine: the processes of this machine, which are here, or a cluster (`cluster`). Here, a
part is read ahead while the one before it is labelled and the one before that written; up to the findings, memory
is bounded by three parts, and by 16 bytes an event id that the input supplied. Everything is written so that a run
which is killed at any moment resumes to the same outputs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from classifier.certification import Certificate
from classifier.errors import InputError, UsageError
from classifier.exceptions import AgreedException
from classifier.labeler import Labelled
from classifier.types import EVENT_SCHEMA, LABEL_SCHEMA
from classifier.units import merge_units
from service.context import context_table
from service.findings import Ran, RunSummary, conclude
from service.formats import AUTO, reading
from service.places import StoreError
from service.records import PART_SCHEMA, ROWS_PER_PART, InputFile, Part, Rejection, expand_inputs, read_parts
from service.run import LEDGER, RESUME, PartFacts, Planned, RunFolder, Settings, open_run
from service.seen import SeenIds
from service.workers import Workers

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline


@dataclass(frozen=True)
class Progress:
    """How far a run is: records read, and which of its inputs is being labelled, from 1."""

    n_read: int
    input: int
    n_inputs: int


@dataclass(frozen=True)
class Work:
    """What an engine is to do: label what is not labelled of the inputs `planned` for a folder, as if in their order.
    `workers`: at once, as many as there are processors if None. `progress` is called after every part."""

    folder: RunFolder
    pipeline: Pipeline
    planned: Sequence[Planned]
    workers: int | None
    progress: Callable[[Progress], None]

    @property
    def alone(self) -> bool:
        """Whether there is one input, so that it is an error if it cannot be read."""
        return len(self.planned) == 1


Engine = Callable[[Work], Ran]
"""Two engines leave the same parts."""


def label_here(work: Work) -> Ran:
    """The engine of one machine: its processors label, one part after the other."""
    n_workers = work.workers if work.workers is not None else n_processors()
    with _Labelling(work.folder, work.pipeline, n_workers) as labelling:
        _label_all(labelling, work)
    return Ran("local", n_workers, n_workers)


def label(
    paths: Sequence[str],
    out: Path,
    *,
    pipeline: Pipeline,
    format: str = AUTO,
    account_field: str = AUTO,
    population: int | None = None,
    workers: int | None = None,
    fresh: bool = False,
    exceptions: Sequence[AgreedException] = (),
    certificate: Certificate | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    engine: Engine = label_here,
) -> RunSummary:
    """Label files, folders and globs of traffic into the folder `out`; resumes there, or adds to what is there.

    Args:
        account_field: where the account stands in a record, several with commas between; as its format has it if auto.
        population: registered accounts, an upper bound that must not depend on the traffic; those of the run if None.
        workers: processes that label; as many as there are processors if None.
        engine: what labels the parts.
        fresh: delete what an earlier run wrote in `out` first.
        exceptions: matches that were agreed to count for nothing; as given now, whatever earlier runs were given.
        certificate: what evidence is held against, and what is promised; that of bundle and catalogue if None.
        progress: called after every part, in this thread.

    Raises:
        UsageError: no such format, no account field, no worker, or a population below the accounts of the run.
        InputError: an input cannot be read, or none of its records could be labelled.
        OutputError: `out` cannot be used.
    """
    reading(format, account_field)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers got {workers}: expected at least 1.")
    started = time.monotonic()
    files = expand_inputs(paths)
    settings = Settings(pipeline.bundle_id, pipeline.catalogue_id, format, ROWS_PER_PART, account_field)
    with open_run(out, settings, fresh) as folder:
        ran = engine(Work(folder, pipeline, folder.plan(files), workers, progress))
        seconds = {"label": time.monotonic() - started}
        return conclude(folder, pipeline, population, ran, seconds, exceptions, certificate)


def begun_catalogue(path: Path) -> str | None:
    """Id of the catalogue that the run in a folder was begun with; None where there is no run."""
    try:
        return str(json.loads((path / RESUME / LEDGER).read_bytes())["catalogue_id"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def n_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # in a container less than there are
        return len(os.sched_getaffinity(0))
    known = os.cpu_count()
    return known if known is not None else 1


def _label_all(labelling: _Labelling, work: Work) -> None:
    folder, planned, n_read = work.folder, work.planned, 0
    known = len(folder.inputs)
    for index, item in enumerate(planned):
        begun = tuple(one.recorded for one in planned[: max(index + 1, known)])
        if begun != folder.inputs:
            folder.record(begun)
        for facts in labelling.label_input(item, work.alone):
            n_read += facts.n_read
            work.progress(Progress(n_read, index + 1, len(planned)))


def parts_of(file: InputFile, settings: Settings, alone: bool) -> Iterator[Part]:
    """Parts of a file; one that cannot be read, or not to its end, counts as one rejected record beside others.

    Raises:
        InputError: it cannot be read, and is `alone`.
    """
    n_parts = 0
    try:
        for part in read_parts(file, settings.format, settings.rows_per_part, settings.account_field):
            n_parts += 1
            yield part
    except StoreError:
        raise  # nothing is wrong with the file: the run goes on with it when the command is repeated
    except InputError as error:
        if alone:
            raise
        refused = [Rejection(str(file.path), 0, str(error))]
        nothing = pa.RecordBatch.from_pylist([], PART_SCHEMA)
        yield Part(f"{file.digest[:16]}-{n_parts:06d}", nothing, refused, 1)


def new_events(events: pa.RecordBatch, seen: SeenIds) -> pa.RecordBatch:
    """Events (PART_SCHEMA) whose id was not supplied before, as EVENT_SCHEMA."""
    supplied = events["supplied_id"].to_numpy(zero_copy_only=False)
    new = np.ones(len(events), bool)
    new[supplied] = seen.admit(events["event_id"].filter(events["supplied_id"]).to_pylist())
    return events.filter(pa.array(new)).select(EVENT_SCHEMA.names)


def supplied_ids(part_id: str, event_ids: Iterable[str]) -> list[str]:
    """Ids among those of a part that its input supplied. Ids that were made begin with the digest of their own file."""
    own = f"{part_id[:16]}:"
    return [name for name in event_ids if not name.startswith(own)]


class _Ahead(NamedTuple):
    """A part, and the one after it, None at the end of the file."""

    part: Part
    following: Future[Part | None]


class _Begun(NamedTuple):
    """A part that is being labelled: `n_labelled` of its events are new, `chunks` come in order."""

    part: Part
    following: Future[Part | None]
    n_labelled: int
    chunks: Iterator[Labelled]


class _Labelling:
    """The workers and the memory of ids that the inputs of a run share."""

    def __init__(self, folder: RunFolder, pipeline: Pipeline, n_workers: int) -> None:
        self.folder, self._hash_key = folder, pipeline.hash_key
        self._seen = SeenIds()
        self._workers = Workers(pipeline, n_workers)
        self._reader = ThreadPoolExecutor(1, "read")

    def __enter__(self) -> _Labelling:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._workers.shutdown()

    def label_input(self, item: Planned, alone: bool) -> Iterator[PartFacts]:
        """Label what is not labelled of an input; yields the facts of its parts, those of earlier runs too.

        `alone`: no other input is there, so that it is an error if this one cannot be read.
        """
        if item.file is None or self.folder.is_complete(item.recorded.digest):
            for part_id in self.folder.part_ids(item.recorded.digest):
                yield self._recall(part_id)
            return
        done = set(self.folder.part_ids(item.recorded.digest))
        parts = parts_of(item.file, self.folder.settings, alone)
        begun: _Begun | None = None
        for part, following in self._look_ahead(parts):
            coming = None if part.part_id in done else self._begin(part, following)
            if begun is not None:
                yield self._finish(begun)
            if coming is None:
                yield self._recall(part.part_id)
            begun = coming
        if begun is not None:
            yield self._finish(begun)

    def _look_ahead(self, parts: Iterator[Part]) -> Iterator[_Ahead]:
        """Parts, the next one read in the reader's thread meanwhile."""
        ahead = self._reader.submit(next, parts, None)
        while (part := ahead.result()) is not None:
            self._workers.start_for(len(part.events))  # nothing is read meanwhile
            following = self._reader.submit(next, parts, None)
            yield _Ahead(part, following)
            ahead = following

    def _begin(self, part: Part, following: Future[Part | None]) -> _Begun:
        """Set the workers to a part, which is written while they are at the next."""
        events = new_events(part.events, self._seen)
        return _Begun(part, following, len(events), self._workers.label(events))

    def _finish(self, begun: _Begun) -> PartFacts:
        part, following, n_labelled, chunks = begun
        labelled = list(chunks)
        labels = pa.concat_tables([LABEL_SCHEMA.empty_table(), *(one.labels for one in labelled)])
        units = merge_units(one.units for one in labelled)
        last = following.exception() is None and following.result() is None
        facts = PartFacts(part.n_read, n_labelled, len(part.rejected), len(part.events) - n_labelled, last)
        self.folder.write_context(part.part_id, context_table(part.events, self._hash_key))
        self.folder.write_part(part.part_id, labels, units, part.rejected, facts)
        return facts

    def _recall(self, part_id: str) -> PartFacts:
        """Remember the ids of a part that is done."""
        self._seen.admit(supplied_ids(part_id, self.folder.event_ids(part_id)))
        return self.folder.facts(part_id)
