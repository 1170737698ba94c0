"""What the nodes of a cluster do for a run: read inputs into parts, label a part, settle a part whose turn has come.

    cluster -> read -> label -> cluster (whose turn, which repeats) -> settle -> cluster

Rows go from stage to stage, one a part, and Ray holds back what the next stage is too slow for. All that is written is
written under temporary names and renamed, and is the same whoever writes it, so a task may be run again at any time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from classifier.bundle import default_bundle_dir
from classifier.errors import BundleError, InputError, OutputError, ProbewatchError, UsageError
from classifier.pipeline import Pipeline
from service.batch import new_events, parts_of, supplied_ids
from service.context import context_table
from service.held import count_attempt, held_parts, hold, recall, settle
from service.inputs import InputFile
from service.records import Part, Rejection
from service.run import PartFacts, RunFolder, Settings
from service.seen import SeenIds, digests
from service.versions import version_of

TOKEN = "token"
_Row = Mapping[str, Any]
_PLACE = [
    *(("input", pa.int32()), ("ordinal", pa.int32()), ("last", pa.bool_())),
    *(("part_id", pa.string()), ("done", pa.bool_()), ("n_read", pa.int64()), ("failed", pa.list_(pa.string()))),
]
READ_SCHEMA = pa.schema([*_PLACE, ("n_rejected", pa.int64()), ("events", pa.large_binary())])
"""A part that was read: the how manieth of which input, from 0, `last` of it, and `done` if it is in place. `events`:
PART_SCHEMA as an Arrow stream; null where the part is labelled already. An input without a part is one row without
`part_id`. `failed`: exit code and sentence of an error, which travel like this since Ray wraps what is raised."""
LABELLED_SCHEMA = pa.schema([*_PLACE, ("ids", pa.large_binary())])
"""A part that is in place or held. `ids`: digests of those of its events that the input supplied, 16 bytes each."""


@dataclass(frozen=True)
class Source:
    """An input as nodes see it: `file` by its absolute path, None where all parts are in place; `written` as the user
    wrote it; `done`: parts that are in place, in order."""

    written: str
    file: InputFile | None
    done: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What a node must know of a run.

    Attributes:
        folder: absolute, of the run; it holds `token`, so that a node which sees another folder there is found out.
        bundle: folder of the bundle; None for the one that is shipped, wherever that lies on a node.
        catalogue: folder of the local catalogue; its version is that of the settings.
        version: of probewatch.
    """

    folder: Path
    token: str
    settings: Settings
    sources: tuple[Source, ...]
    bundle: Path | None
    hash_key: bytes
    catalogue: Path | None
    version: str

    def open_folder(self) -> RunFolder:
        """The run's folder, on this node.

        Raises:
            UsageError: another version of probewatch is installed here.
            OutputError: it is not seen here.
        """
        if (here := version_of("probewatch")) != self.version:
            raise UsageError(
                f"Node {_node()} has probewatch {here}: expected {self.version} as where the command runs, install it."
            )
        folder = RunFolder(self.folder, self.settings, ())
        try:
            seen = (folder.held / TOKEN).read_text()
        except OSError:
            seen = ""
        if seen != self.token:
            raise OutputError(
                f"{self.folder}: node {_node()} does not see the folder of the run there; choose an --out on storage "
                "that all nodes share under the same path."
            )
        return folder

    def load_pipeline(self) -> Pipeline:
        """Bundle and catalogue, as where the command runs.

        Raises:
            BundleError: they are not the same here, or cannot be read.
        """
        version = self.settings.catalogue_id if self.catalogue is not None else None
        bundle = self.bundle if self.bundle is not None else default_bundle_dir()
        try:
            pipeline = Pipeline.load(bundle, self.hash_key, self.catalogue, version)
        except BundleError as error:
            raise BundleError(f"On node {_node()}: {error}") from error
        expected = (self.settings.bundle_id, self.settings.catalogue_id)
        if (pipeline.bundle_id, pipeline.catalogue_id) != expected:
            raise BundleError(
                f"Node {_node()} has bundle {pipeline.bundle_id} and catalogue {pipeline.catalogue_id}: expected "
                f"{expected[0]} and {expected[1]} as where the command runs, install the same there."
            )
        return pipeline


def read_input(rows: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Parts of an input, in order, as tables (READ_SCHEMA) of one row. `rows`: one, `input` its index."""
    (index,) = rows["input"].to_pylist()
    ahead: _Row | None = None
    ordinal = 0
    try:
        for row in _parts_of(job.sources[index], job):
            if ahead is not None:
                yield _table(READ_SCHEMA, ahead, input=index, ordinal=ordinal, last=False)
                ordinal += 1
            ahead = row
    except ProbewatchError as error:
        ahead = {"failed": _failed(error)}
    yield _table(READ_SCHEMA, ahead if ahead is not None else {}, input=index, ordinal=ordinal, last=True)


def _parts_of(source: Source, job: Job) -> Iterator[_Row]:
    if source.file is None:
        yield from ({"part_id": part_id, "done": True} for part_id in source.done)
        return
    folder = job.open_folder()
    _check_seen(source.file, source.written)
    done, held = frozenset(source.done), held_parts(folder)
    for part in parts_of(source.file, job.settings, alone=len(job.sources) == 1):
        if part.part_id in done or part.part_id in held:
            yield {"part_id": part.part_id, "done": part.part_id in done}
        else:
            yield _row_of(part, source, folder)


def _row_of(part: Part, source: Source, folder: RunFolder) -> _Row:
    """A part that is to be labelled; its rejected records are written down."""
    folder.write_rejections(part.part_id, [_as_written(one, source) for one in part.rejected])
    return {
        **{"part_id": part.part_id, "done": False, "n_read": part.n_read},
        **{"n_rejected": len(part.rejected), "events": _pack(part.events)},
    }


def _check_seen(file: InputFile, written: str) -> None:
    if not isinstance(file.path, Path):
        return  # a store's objects are the same wherever they are read
    try:
        size = file.path.stat().st_size
    except OSError:
        size = None
    if size != file.size:
        seen = "does not see it" if size is None else f"sees {size:,} bytes there, expected {file.size:,}"
        raise InputError(
            f"{written}: node {_node()} {seen}; put inputs on storage that all nodes share under the same path "
            f"({file.path})."
        )


def _as_written(rejection: Rejection, source: Source) -> Rejection:
    """A rejection that names the input as the user wrote it."""
    where = rejection.source
    return Rejection(source.written, rejection.line, rejection.reason.replace(where, source.written))


class LabelPart:
    """A worker: bundle and catalogue loaded once, then one part after the other."""

    def __init__(self, job: Job) -> None:
        self._loaded: _Loaded | ProbewatchError
        try:
            self._loaded = _Loaded(job.open_folder(), job.load_pipeline())
        except ProbewatchError as error:  # raised here, Ray would say only that a worker died
            self._loaded = error

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Label a part (READ_SCHEMA) and hold it; returns what is in it (LABELLED_SCHEMA)."""
        (row,) = rows.drop_columns(["events"]).to_pylist()
        if row["failed"] is not None or row["part_id"] is None:
            return _table(LABELLED_SCHEMA, row, n_read=0)
        if isinstance(self._loaded, ProbewatchError):
            return _table(LABELLED_SCHEMA, row, failed=_failed(self._loaded))
        try:
            return _label(row, rows["events"][0], *self._loaded)
        except ProbewatchError as error:
            return _table(LABELLED_SCHEMA, row, failed=_failed(error))


class _Loaded(NamedTuple):
    folder: RunFolder
    pipeline: Pipeline


def _label(row: _Row, events: pa.Scalar, folder: RunFolder, pipeline: Pipeline) -> pa.Table:
    part_id = row["part_id"]
    if events.is_valid:
        count_attempt(folder, part_id)
        sent = _unpack(events.as_buffer())
        new = new_events(sent, SeenIds())
        facts = PartFacts(row["n_read"], len(new), row["n_rejected"], len(sent) - len(new), row["last"])
        folder.write_context(part_id, context_table(sent, pipeline.hash_key))
        hold(folder, part_id, pipeline.label(new), facts)
    if row["done"]:
        names, facts = folder.event_ids(part_id), folder.facts(part_id)
    else:
        names, facts = recall(folder, part_id)
    return _table(LABELLED_SCHEMA, row, n_read=facts.n_read, ids=digests(supplied_ids(part_id, names)).tobytes())


def settle_part(job: Job, part_id: str, repeats: Sequence[int]) -> None:
    """Finish a held part. `repeats`: which of its supplied ids, in order, earlier parts had."""
    folder = job.open_folder()
    names = supplied_ids(part_id, recall(folder, part_id)[0]) if len(repeats) else []
    settle(folder, part_id, [names[i] for i in repeats])


def _failed(error: ProbewatchError) -> list[str]:
    return [str(error.exit_code), str(error)]


def _table(schema: pa.Schema, row: _Row, **changes: Any) -> pa.Table:
    values = {**row, **changes}
    return pa.Table.from_pylist([{name: values.get(name) for name in schema.names}], schema)


def _pack(events: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema) as stream:
        stream.write_batch(events)
    return bytes(sink.getvalue().to_pybytes())


def _unpack(packed: pa.Buffer) -> pa.RecordBatch:
    return pa.ipc.open_stream(packed).read_next_batch()


def _node() -> str:
    return socket.gethostname()
