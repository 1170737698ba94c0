"""The folder of a labelled run: who may write in it, what it was made with, which parts of it are done.

Used by `batch`, which fills it. A part is done when its labels file is there: everything else of the part is renamed
into place before it. What resuming needs stands in `resume/`; `run.json` is written last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from classifier.errors import OutputError
from classifier.types import SCHEMA_VERSION
from service.files import output_errors, replacing
from service.formats import AUTO
from service.inputs import InputFile
from service.places import place_of
from service.records import Rejection

LABELS, EVIDENCE, CONTEXT, RESUME = "labels", "evidence", "context", "resume"
LEDGER, LOCK, SPILL, HELD = "ledger.json", "lock", "spill", "held"
OUTPUTS = ("accounts.parquet", "campaigns.parquet", "discovered.parquet", "rejected.jsonl", "run.json", "report.html")
_FEW_VALUES = (
    *(
        "account_id",
        "capability",
        "template_id",
        "template_family",
        "technique",
        "benign_app",
        "family",
        "model",
        "org_id",
    ),
    *("channel", "y", "y_public", "matched"),
)


@dataclass(frozen=True)
class Settings:
    """What the parts of a run depend on, so that parts made under others are not mixed in."""

    bundle_id: str
    catalogue_id: str
    format: str
    rows_per_part: int
    account_field: str = AUTO


@dataclass(frozen=True)
class Recorded:
    """An input of the run: as the user wrote it, where it lay, what it held, and other paths that held the same."""

    path: str
    location: str
    digest: str
    size: int
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartFacts:
    """Counts of a part that is done: n_read = n_labelled + n_rejected + n_duplicates. `last` of its file."""

    n_read: int
    n_labelled: int
    n_rejected: int
    n_duplicates: int
    last: bool


@dataclass(frozen=True)
class Planned:
    """An input of the run, and its file unless it is complete and was not given again."""

    recorded: Recorded
    file: InputFile | None


class RunFolder:
    """A run's folder, held for writing; made by `open_run`. Methods that write raise OutputError where they cannot."""

    def __init__(self, path: Path, settings: Settings, inputs: Sequence[Recorded]) -> None:
        self.path = path
        self.settings = settings
        self.inputs = tuple(inputs)

    @cached_property
    def _parts(self) -> dict[str, set[str]]:
        """Parts that are done, by the first 16 digits of their input's digest."""
        parts: dict[str, set[str]] = {}
        for file in (self.path / LABELS).glob("*.parquet"):
            parts.setdefault(file.stem[:16], set()).add(file.stem)
        return parts

    @property
    def held(self) -> Path:
        """Where parts wait that were labelled before it was their turn."""
        return self.path / RESUME / HELD

    @property
    def spill(self) -> Path:
        """Where a database may put what does not fit memory."""
        return self.path / RESUME / SPILL

    def plan(self, files: Sequence[InputFile]) -> list[Planned]:
        """What to label, in order: the inputs of earlier runs in theirs, then the new ones.

        Raises:
            OutputError: a recorded input has changed since, or is unfinished and was not given again.
        """
        by_digest = {file.digest: file for file in files}
        places = {str(path.resolve()) for file in files for path in (file.path, *file.copies)}
        planned = []
        for known in self.inputs:
            file = by_digest.pop(known.digest, None)
            if file is None and self._places(known) & places:
                if not any(self.facts(part).n_labelled for part in self.part_ids(known.digest)):
                    continue  # nothing came of it before it was mended
                raise OutputError(
                    f"{self.path}: {known.path} has changed since it was labelled there; choose another --out, or "
                    "start over with --fresh."
                )
            if file is None and self.part_ids(known.digest) and not self.is_complete(known.digest):
                raise OutputError(
                    f"{self.path}: {known.path} was labelled there in part only; give it again among the inputs, or "
                    "start over with --fresh."
                )
            if file is not None or self.is_complete(known.digest):
                planned.append(Planned(known, file))
        return planned + [Planned(_record_of(file), file) for file in by_digest.values()]

    def _places(self, known: Recorded) -> set[str]:
        """Where an input lay, and its copies."""
        return {known.location, *(str(place_of(copy).resolve()) for copy in known.copies)}

    def record(self, inputs: Sequence[Recorded]) -> None:
        """Write down the inputs of the run."""
        self.inputs = tuple(inputs)
        document = {"schema_version": SCHEMA_VERSION, **asdict(self.settings), "inputs": [asdict(i) for i in inputs]}
        self.write_json(f"{RESUME}/{LEDGER}", document)

    def part_ids(self, digest: str) -> list[str]:
        """Parts of an input that are done, in order."""
        return sorted(self._parts.get(digest[:16], ()))

    def files(self, place: str, prefix: str = "") -> list[Path]:
        """Files in LABELS or EVIDENCE of all parts, in the order of the inputs."""
        parts = (part for item in self.inputs for part in self.part_ids(item.digest))
        return [self.path / place / f"{prefix}{part}.parquet" for part in parts]

    def is_complete(self, digest: str) -> bool:
        """Whether all parts of an input are done."""
        parts = self.part_ids(digest)
        expected = [f"{digest[:16]}-{ordinal:06d}" for ordinal in range(len(parts))]
        return bool(parts) and parts == expected and self.facts(parts[-1]).last

    def facts(self, part_id: str) -> PartFacts:
        """Counts of a part that is done."""
        path = self.path / LABELS / f"{part_id}.parquet"
        try:
            metadata = pq.read_metadata(path)
            facts = json.loads(metadata.metadata[b"part"])
            return PartFacts(**facts, n_labelled=metadata.num_rows)
        except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
            raise OutputError(
                f"{path}: is not a part of a labelled run (truncated or from elsewhere); delete it, or start over with "
                "--fresh."
            ) from error

    def event_ids(self, part_id: str) -> list[str]:
        """Ids of the events that a part labelled."""
        table = pq.read_table(self.path / LABELS / f"{part_id}.parquet", columns=["event_id"])
        return list(table["event_id"].to_pylist())

    def write_part(
        self, part_id: str, labels: pa.Table, units: pa.Table, rejected: Sequence[Rejection], facts: PartFacts
    ) -> None:
        """Put a part in place, its labels last."""
        self.write_rejections(part_id, rejected)
        self.write_labelled(part_id, labels, units, facts, LABELS)
        self._count_in(part_id)

    def write_rejections(self, part_id: str, rejected: Sequence[Rejection]) -> None:
        """Put the rejected records of a part in place, if there are any."""
        if rejected:
            with replacing(self.path / RESUME / f"{part_id}.rejected.jsonl") as temporary:
                temporary.write_bytes(b"".join(_json_line(asdict(rejection)) for rejection in rejected))

    def write_labelled(self, part_id: str, labels: pa.Table, units: pa.Table, facts: PartFacts, place: str) -> None:
        """Put the units of a part in place, then its labels into the folder `place`, from where they may be placed."""
        self.write_table(f"{EVIDENCE}/units-{part_id}.parquet", units)
        counts = {name: value for name, value in asdict(facts).items() if name != "n_labelled"}
        self.write_table(f"{place}/{part_id}.parquet", labels, {"part": json.dumps(counts)})

    def write_context(self, part_id: str, context: pa.Table) -> None:
        """Put the context of a part in place, if there is any: before its labels, which say that it is done."""
        if context.num_rows:
            self.write_table(f"{CONTEXT}/{part_id}.parquet", context)

    def place_labels(self, part_id: str) -> None:
        """Put labels in place that `write_labelled` left among what is held: with that the part is done."""
        name = f"{part_id}.parquet"
        with output_errors(self.path / LABELS / name):
            (self.held / name).replace(self.path / LABELS / name)
        self._count_in(part_id)

    def _count_in(self, part_id: str) -> None:
        self._parts.setdefault(part_id[:16], set()).add(part_id)

    def write_table(self, name: str, table: pa.Table, extra: Mapping[str, str] | None = None) -> None:
        """Put a Parquet file in place, its metadata saying what it was made with."""
        self.write_rows(name, table.schema, [table], extra)

    def write_rows(
        self, name: str, schema: pa.Schema, tables: Iterable[pa.Table], extra: Mapping[str, str] | None = None
    ) -> None:
        """`write_table` of tables, one after the other, of which one is held at a time."""
        metadata = {
            "schema_version": str(SCHEMA_VERSION),
            "bundle_id": self.settings.bundle_id,
            "catalogue_id": self.settings.catalogue_id,
            **(extra if extra is not None else {}),
        }
        few = [column for column in schema.names if column in _FEW_VALUES]
        with (
            replacing(self.path / name) as temporary,
            pq.ParquetWriter(
                temporary,
                schema.with_metadata(metadata),
                compression="zstd",
                compression_level=1,
                use_dictionary=few,
            ) as writer,
        ):
            for table in tables:
                writer.write_table(table.replace_schema_metadata(metadata))

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Put a JSON file in place."""
        text = json.dumps(document, indent=2, allow_nan=False)
        with replacing(self.path / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8", newline="\n")

    def retract(self) -> None:
        """Take away run.json, which says that all else is in place."""
        (self.path / "run.json").unlink(missing_ok=True)

    def write_rejected(self) -> None:
        """Put rejected.jsonl in place: the rejections of all parts, in order."""
        with replacing(self.path / "rejected.jsonl") as temporary, temporary.open("wb") as target:
            for part_id in (part for item in self.inputs for part in self.part_ids(item.digest)):
                piece = self.path / RESUME / f"{part_id}.rejected.jsonl"
                if piece.exists():
                    with piece.open("rb") as source:
                        shutil.copyfileobj(source, target)


@contextmanager
def open_run(path: Path, settings: Settings, fresh: bool = False) -> Iterator[RunFolder]:
    """Hold a run's folder for writing, made if it is not there; `fresh` first deletes what an earlier run wrote in it.

    Raises:
        OutputError: it cannot be made or written, holds something else or a run with other settings, or is in use.
    """
    with output_errors(path):
        _prepare(path)
        lock = (path / RESUME / LOCK).open("wb")
    with lock:
        _take(lock.fileno(), path)
        with output_errors(path):
            if fresh:
                _remove_run(path)
            _remove_leftovers(path)
        has_parts = any((path / LABELS).glob("*.parquet"))
        is_new = not has_parts or not (path / RESUME / LEDGER).exists()
        folder = RunFolder(path, settings, [] if is_new else _recorded(path, settings))
        if is_new:  # before anything else is written: by it the folder is known as a run's
            folder.record([])
            shutil.rmtree(folder.held, ignore_errors=True)
        with output_errors(path):
            for place in (path / LABELS, path / EVIDENCE, path / CONTEXT, folder.spill, folder.held):
                place.mkdir(exist_ok=True)
        yield folder
        for place in (folder.spill, folder.held):
            shutil.rmtree(place, ignore_errors=True)


def _prepare(path: Path) -> None:
    """Make the folder, unless what is there is not a run."""
    path.mkdir(parents=True, exist_ok=True)
    strangers = [name for name in os.listdir(path) if name != RESUME]
    if strangers and not (path / RESUME / LEDGER).exists():
        raise OutputError(f"{path}: holds files and is not a labelled run; choose a new or empty folder for --out.")
    (path / RESUME).mkdir(exist_ok=True)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(
            f"{path}: another probewatch is writing there; wait for it, or choose another --out."
        ) from error


def _remove_run(path: Path) -> None:
    """Delete what runs write, and nothing else; the ledger, which marks the folder as a run's, is replaced later."""
    for name in (LABELS, EVIDENCE, CONTEXT, f"{RESUME}/{SPILL}"):
        shutil.rmtree(path / name, ignore_errors=True)
    pieces = (path / RESUME).glob("*.rejected.jsonl")
    for file in (*(path / name for name in OUTPUTS), *pieces):
        file.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Delete what a killed run was writing."""
    shutil.rmtree(path / RESUME / SPILL, ignore_errors=True)
    for folder in (path, *(path / name for name in (LABELS, EVIDENCE, CONTEXT, RESUME, f"{RESUME}/{HELD}"))):
        for file in folder.glob(".*.tmp"):
            file.unlink(missing_ok=True)


def _recorded(path: Path, settings: Settings) -> list[Recorded]:
    """Inputs of the run that is there. Raises OutputError if it was made with other settings."""
    ledger = path / RESUME / LEDGER
    try:
        document = json.loads(ledger.read_bytes())
        inputs = [Recorded(**{**item, "copies": tuple(item["copies"])}) for item in document.pop("inputs")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise OutputError(f"{ledger}: cannot be read; start over with --fresh.") from error
    for name, expected in {"schema_version": SCHEMA_VERSION, **asdict(settings)}.items():
        if document.get(name) != expected:
            raise OutputError(
                f"{path}: was labelled with {name.replace('_', ' ')} {document.get(name)}, this run has {expected}; "
                "choose another --out, or start over with --fresh."
            )
    return inputs


def _json_line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _record_of(file: InputFile) -> Recorded:
    copies = tuple(str(path) for path in file.copies)
    return Recorded(str(file.path), str(file.path.resolve()), file.digest, file.size, copies)
