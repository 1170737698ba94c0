"""The engine of several machines: Ray Data reads and labels the inputs, this puts the parts in place in their order.

    batch -> **cluster** -> cluster_work (on the nodes) -> parts in place -> batch

Only a repeated event id, of which the first in the order of the inputs counts, ties one part to another. So parts are
labelled as they come and held in the run's folder; here, where the ids of a run come together, each part is told in
its turn which of its ids were there before, and a node settles it. Nothing is labelled twice, and what is in place at
any time is what one machine would have put there. This process holds ids alone, 16 bytes each.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import secrets
import socket
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from classifier.bundle import default_bundle_dir
from classifier.errors import BundleError, InputError, OutputError, ProbewatchError, UsageError
from service.batch import Engine, Progress, Work, n_processors
from service.cluster_work import TOKEN, Job, LabelPart, Source, read_input, settle_part
from service.files import output_errors
from service.findings import Ran
from service.held import release
from service.records import MAX_PART_BYTES
from service.run import Planned, RunFolder
from service.seen import SeenIds
from service.versions import version_of

WORKERS_A_READER = 4
"""Workers that one reader keeps busy: a record is read several times as fast as it is labelled."""
SETTLING = 4
"""Parts a worker that may be settled at once; above, reading waits."""
PARTS_IN_MEMORY = 8
"""Parts a worker, of up to 64 MiB, for which a local Ray's store has room."""
CONNECT_SECONDS = 10
SETTLE_SECONDS = 60
_EXECUTOR = "StreamingExecutor"
"""What names of threads begin with in which Ray Data gives out its tasks."""
_QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}
_ERRORS = {str(kind.exit_code): kind for kind in (UsageError, InputError, BundleError, OutputError)}


def on_cluster(address: str | None) -> Engine:
    """The engine that labels in the Ray cluster at an address, HOST:PORT or `auto`; in one of this machine if None.

    Raises:
        UsageError: the address is of a client, through which Ray Data does not work.
    """
    if address is not None and "://" in address:
        raise UsageError(
            f"--address got {address}: expected HOST:PORT, or auto on a machine of the cluster; run the command there."
        )
    return partial(_label, address)


def _label(address: str | None, work: Work) -> Ran:
    with _ray(address, work.workers), _failures():
        n_workers = work.workers if work.workers is not None else max(1, int(ray.cluster_resources().get("CPU", 0)))
        _label_all(work, n_workers)
    return Ran("ray", n_workers, n_processors())


def _label_all(work: Work, n_workers: int) -> None:
    work.folder.record([one.recorded for one in work.planned])
    job, n_read = _job(work), 0
    with closing(_labelled(job, n_workers)) as parts:  # closed later, it would look for another Ray
        for part in _put_in_place(_in_turn(parts), job, work.folder, n_workers):
            n_read += part.n_read
            if part.part_id is not None:
                work.progress(Progress(n_read, part.input + 1, len(work.planned)))


@contextmanager
def _ray(address: str | None, workers: int | None) -> Iterator[None]:
    """A connection to the cluster at an address; a Ray on this machine alone, which is stopped again, if None."""
    # Read when Ray starts: nothing is sent anywhere, and what Ray Data itself sets up is not warned of.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, too
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)  # inputs, not parts
    with _muted():
        if address is None:
            n = workers if workers is not None else n_processors()
            memory = n * PARTS_IN_MEMORY * MAX_PART_BYTES
            ray.init("local", num_cpus=n, object_store_memory=memory, include_dashboard=False, **_QUIET)
        else:
            _connect(address)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # where Ray tells of each worker that died
        try:
            yield
        finally:
            _settle()
            ray.shutdown()


def _settle() -> None:
    """Wait for what Ray Data still runs in this process. It waits two seconds itself, in which a busy machine may not
    have made an actor; and a thread that asks for Ray while it is shut down has it end this process, silently."""
    for thread in threading.enumerate():
        if thread.name.startswith(_EXECUTOR):
            thread.join(SETTLE_SECONDS)


@contextmanager
def _failures() -> Iterator[None]:
    """What Ray gives up on, as a sentence; what our own code did not expect stays what it is."""
    try:
        yield
    except ray.exceptions.UserCodeException:
        raise
    except ray.exceptions.RayError as error:
        if isinstance(cause := getattr(error, "cause", None), ProbewatchError):
            raise cause from error
        raise UsageError(
            f"Ray gave up ({type(error).__name__}): expected machines that stay up, each with the same versions of "
            "probewatch, Ray and Python; check them with ray status, and repeat the command to go on."
        ) from error


def _connect(address: str) -> None:
    try:
        if address != "auto":
            _reach(address)  # Ray itself would try for minutes, and then end this process
        ray.init(address, **_QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--address got {address}: expected a Ray cluster there, with the versions of Ray and Python that are here "
            f"({ray.__version__}, {platform.python_version()}); start one with ray start --head. "
            "If it asks for a token, set RAY_AUTH_MODE=token here, too."
        ) from error


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


@contextmanager
def _muted() -> Iterator[None]:
    """Ray's core says on descriptor 2 how it is set up, past Python and its logging."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _job(work: Work) -> Job:
    folder, pipeline = work.folder, work.pipeline
    job = Job(
        folder=folder.path.resolve(),
        token=secrets.token_hex(8),
        settings=folder.settings,
        sources=tuple(_source(one, folder) for one in work.planned),
        bundle=None if pipeline.folder == default_bundle_dir() else pipeline.folder.resolve(),
        hash_key=pipeline.hash_key,
        catalogue=pipeline.catalogue.path.resolve() if pipeline.catalogue is not None else None,
        version=version_of("probewatch"),
    )
    with output_errors(folder.held):
        (folder.held / TOKEN).write_text(job.token)
    return job


def _source(planned: Planned, folder: RunFolder) -> Source:
    digest = planned.recorded.digest
    file = planned.file
    if file is not None:
        file = None if folder.is_complete(digest) else replace(file, path=file.path.resolve())
    return Source(planned.recorded.path, file, tuple(folder.part_ids(digest)))


class _Turn(NamedTuple):
    """A part that is in place (`done`) or held; see LABELLED_SCHEMA. `part_id`: None for an input without parts."""

    input: int
    ordinal: int
    last: bool
    part_id: str | None
    done: bool
    n_read: int
    ids: NDArray[np.uint64]


def _labelled(job: Job, n_workers: int) -> Generator[_Turn]:
    """Parts as the cluster has labelled them, in any order."""
    rows = ray.data.from_items([{"input": i} for i in range(len(job.sources))], override_num_blocks=len(job.sources))
    context = rows.context
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = 1  # a block a part: what is read is labelled at once
    once = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    readers = ray.data.TaskPoolStrategy(size=math.ceil(n_workers / WORKERS_A_READER))
    parts = rows.map_batches(read_input, fn_args=(job,), compute=readers, num_cpus=0, **once)
    pool = ray.data.ActorPoolStrategy(size=n_workers)
    labelled = parts.map_batches(LabelPart, fn_constructor_args=(job,), compute=pool, num_cpus=1, **once)
    for table in labelled.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in table.to_pylist():
            if (failed := row.pop("failed")) is not None:
                raise _ERRORS[failed[0]](failed[1])
            ids = row.pop("ids")
            yield _Turn(**row, ids=np.frombuffer(ids if ids is not None else b"", np.uint64).reshape(-1, 2))


def _in_turn(parts: Iterable[_Turn]) -> Iterator[_Turn]:
    """Parts in the order of the inputs; those that come early are kept."""
    early: dict[tuple[int, int], _Turn] = {}
    turn = (0, 0)
    for part in parts:
        early[part.input, part.ordinal] = part
        while (due := early.pop(turn, None)) is not None:
            yield due
            turn = (due.input + 1, 0) if due.last else (due.input, due.ordinal + 1)


class _Settling(NamedTuple):
    part: _Turn
    settled: ray.ObjectRef | None


def _put_in_place(parts: Iterable[_Turn], job: Job, folder: RunFolder, n_workers: int) -> Iterator[_Turn]:
    """Have parts settled that come in turn, and put them in place, still in turn."""
    settle = ray.remote(settle_part).options(num_cpus=0, scheduling_strategy="SPREAD")
    shared = ray.put(job)
    seen = SeenIds()
    waiting: deque[_Settling] = deque()
    for part in parts:
        repeats = np.flatnonzero(~seen.admit_digests(part.ids))
        held = part.part_id is not None and not part.done
        waiting.append(_Settling(part, settle.remote(shared, part.part_id, repeats) if held else None))
        while waiting and (len(waiting) > SETTLING * n_workers or _is_settled(waiting[0])):
            yield _place(waiting.popleft(), folder)
    while waiting:
        yield _place(waiting.popleft(), folder)


def _is_settled(one: _Settling) -> bool:
    return one.settled is None or bool(ray.wait([one.settled], timeout=0)[0])


def _place(one: _Settling, folder: RunFolder) -> _Turn:
    if one.settled is not None and one.part.part_id is not None:
        ray.get(one.settled)
        folder.place_labels(one.part.part_id)
        release(folder, one.part.part_id)
    return one.part
