"""Labelling on every core: one process a core, all with the tables of one bundle and catalogue.

    batch -> **workers** -> Pipeline.label

Processes, because most of the labelling holds the interpreter's lock: two threads were no faster than one. On Linux
they are forked, so that what is loaded is loaded once and lies once in memory and in the cache that the cores share.
A part too small to pay for starting processes is labelled in this one, and the outputs are the same either way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from classifier.errors import BundleError, OutputError, ProbewatchError
from classifier.labeler import Labelled

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

CHUNK = 4096
"""Events that a worker labels at once: enough to outweigh passing them, few enough to keep every worker busy."""
FEW = 16_384
"""Events up to which starting processes would take longer than it saves."""

_FORKS = sys.platform == "linux"  # elsewhere libraries of the system are not made for it

_Packed = tuple[pa.Buffer, pa.Buffer]
_loaded: list[Pipeline | ProbewatchError] = []
"""In a worker process: its pipeline, or what loading it ended in."""


class Workers:
    """Up to `n` processes that label with one pipeline. Started by the first part that is worth it."""

    def __init__(self, pipeline: Pipeline, n: int) -> None:
        self._pipeline = pipeline
        self._n = n
        self._pool: ProcessPoolExecutor | None = None

    def start_for(self, n_events: int) -> None:
        """Start the processes if so many events are worth it. To be called while no thread of this process is at work:
        a fork leaves whatever others hold locked for ever."""
        if self._pool is None and self._n > 1 and n_events > FEW:
            self._pool = self._forked() if _FORKS else self._spawned()
            self._pool.submit(int)  # with it all are started

    def label(self, events: pa.RecordBatch) -> Iterator[Labelled]:
        """Label events (EVENT_SCHEMA), chunk by chunk, in order. The work begins now, whenever the outcome is asked
        for."""
        if self._pool is None:
            return iter([self._pipeline.label(events)])
        pool, bundle_id = self._pool, self._pipeline.bundle_id
        starts = range(0, events.num_rows, CHUNK)
        chunks = [pool.submit(_label, bundle_id, _pack(events.slice(start, CHUNK))) for start in starts]
        return (_labelled(chunk) for chunk in chunks)

    def _forked(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._n, get_context("fork"), _begin, (self._pipeline,))

    def _spawned(self) -> ProcessPoolExecutor:
        local = self._pipeline.catalogue
        version = (local.path, local.id) if local is not None else (None, None)  # by id: it may be added to
        arguments = (self._pipeline.folder, self._pipeline.hash_key, *version)
        return ProcessPoolExecutor(self._n, get_context("spawn"), _load, arguments)

    def shutdown(self) -> None:
        """Let go of the processes; chunks that nobody waits for are not labelled."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _begin(pipeline: Pipeline | ProbewatchError) -> None:
    """First thing in a worker: leave interrupts to the parent, and never outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _loaded[:] = [pipeline]


def _load(folder: Path, hash_key: bytes, catalogue: Path | None, version: str | None) -> None:
    """`_begin` where bundle and catalogue must be loaded again."""
    from classifier.pipeline import Pipeline

    try:
        _begin(Pipeline.load(folder, hash_key, catalogue, version))
    except ProbewatchError as error:  # raised here it would be lost: the pool says only that a worker broke
        _begin(error)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers: they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _label(bundle_id: str, events: pa.Buffer) -> _Packed:
    pipeline = _loaded[0]
    if isinstance(pipeline, ProbewatchError):
        raise pipeline
    if pipeline.bundle_id != bundle_id:
        raise BundleError(f"bundle {bundle_id}: was replaced by {pipeline.bundle_id} during the run; repeat it.")
    (batch,) = _unpack(events).to_batches()
    labelled = pipeline.label(batch)
    return _pack(labelled.labels), _pack(labelled.units)


def _labelled(chunk: Future[_Packed]) -> Labelled:
    try:
        labels, units = chunk.result()
    except BrokenProcessPool as error:
        raise OutputError(
            "A worker process was killed, most likely for want of memory: repeat the command with fewer --workers."
        ) from error
    return Labelled(_unpack(labels), _unpack(units))


def _pack(rows: pa.RecordBatch | pa.Table) -> pa.Buffer:
    """Rows as an Arrow stream: a slice sent as it is would take all rows of its part along."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write(rows)
    return sink.getvalue()


def _unpack(packed: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()
