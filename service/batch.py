"""Historical traffic, labelled: files in, a run's folder out. The batch path of DESIGN.md section 8.

    records -> parts -> **batch** (drop duplicates, label, write) -> findings (verdicts, run.json)

A part is read ahead while the one before it is labelled and the one before that written; up to the findings, memory
is bounded by three parts, and by 16 bytes an event id that the input supplied. Everything is written so that a run
which is killed at any moment resumes to the same outputs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.certification import Certificate
from classifier.errors import InputError, UsageError
from classifier.evidence import merge_units
from classifier.exceptions import AgreedException
from classifier.labeler import Labelled
from classifier.types import EVENT_SCHEMA, LABEL_SCHEMA
from service.findings import RunSummary, conclude
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
) -> RunSummary:
    """Label files, folders and globs of traffic into the folder `out`; resumes there, or adds to what is there.

    Args:
        account_field: where the account stands in a record, several with commas between; as its format has it if auto.
        population: registered accounts, an upper bound that must not depend on the traffic; those of the run if None.
        workers: processes that label; as many as there are processors if None.
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
        planned = folder.plan(files)
        n_workers = workers if workers is not None else _n_processors()
        with _Labelling(folder, pipeline, n_workers) as labelling:
            _label_all(labelling, planned, progress)
        seconds = {"label": time.monotonic() - started}
        return conclude(folder, pipeline, population, n_workers, seconds, exceptions, certificate)


def begun_catalogue(path: Path) -> str | None:
    """Id of the catalogue that the run in a folder was begun with; None where there is no run."""
    try:
        return str(json.loads((path / RESUME / LEDGER).read_bytes())["catalogue_id"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # what this process may use, which in a container is less than there is
        return len(os.sched_getaffinity(0))
    known = os.cpu_count()
    return known if known is not None else 1


def _label_all(labelling: _Labelling, planned: Sequence[Planned], progress: Callable[[Progress], None]) -> None:
    folder, n_read = labelling.folder, 0
    known = len(folder.inputs)
    for index, item in enumerate(planned):
        begun = tuple(one.recorded for one in planned[: max(index + 1, known)])
        if begun != folder.inputs:
            folder.record(begun)
        for facts in labelling.label_input(item, len(planned) == 1):
            n_read += facts.n_read
            progress(Progress(n_read, index + 1, len(planned)))


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
        self.folder = folder
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
        parts = self._read(item.file, alone)
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

    def _read(self, file: InputFile, alone: bool) -> Iterator[Part]:
        """Parts of a file; one that cannot be read, or not to its end, counts as one rejected record beside others."""
        n_parts = 0
        try:
            settings = self.folder.settings
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

    def _look_ahead(self, parts: Iterator[Part]) -> Iterator[_Ahead]:
        """Parts, the next one read in the reader's thread meanwhile."""
        ahead = self._reader.submit(next, parts, None)
        while (part := ahead.result()) is not None:
            following = self._reader.submit(next, parts, None)
            yield _Ahead(part, following)
            ahead = following

    def _begin(self, part: Part, following: Future[Part | None]) -> _Begun:
        """Set the workers to a part, which is written while they are at the next."""
        events = part.events.filter(pa.array(self._new(part.events))).select(EVENT_SCHEMA.names)
        return _Begun(part, following, len(events), self._workers.label(events))

    def _finish(self, begun: _Begun) -> PartFacts:
        part, following, n_labelled, chunks = begun
        labelled = list(chunks)
        labels = pa.concat_tables([LABEL_SCHEMA.empty_table(), *(one.labels for one in labelled)])
        units = merge_units(one.units for one in labelled)
        last = following.exception() is None and following.result() is None
        facts = PartFacts(part.n_read, n_labelled, len(part.rejected), len(part.events) - n_labelled, last)
        self.folder.write_part(part.part_id, labels, units, part.rejected, facts)
        return facts

    def _new(self, events: pa.RecordBatch) -> NDArray[np.bool_]:
        """Events [n] whose id was not supplied before."""
        supplied = events["supplied_id"].to_numpy(zero_copy_only=False)
        new = np.ones(len(events), bool)
        new[supplied] = self._seen.admit(events["event_id"].filter(events["supplied_id"]).to_pylist())
        return new

    def _recall(self, part_id: str) -> PartFacts:
        """Remember the ids of a part that is done. Ids that were made begin with the digest of their own file."""
        own = f"{part_id[:16]}:"
        self._seen.admit([name for name in self.folder.event_ids(part_id) if not name.startswith(own)])
        return self.folder.facts(part_id)
