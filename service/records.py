"""Traffic in: from files to parts of validated events, the head of the batch path (DESIGN.md section 8).

`inputs` finds the files, `lines` splits text, `formats` and `columns` take the fields out; here they are cut into parts
whose boundaries depend on the content alone, which is what lets a run resume. Memory is bounded by a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from classifier.errors import InputError, UsageError
from service.columns import PART_SCHEMA, Gatherer, Read, Refused, plain_column, read_table
from service.fields import BadRecordError, decode_json
from service.formats import AUTO, FORMATS, Format, Reading, reading, recognised
from service.inputs import InputFile, Kind, expand_inputs
from service.lines import Row, read_lines, read_rows
from service.places import open_parquet, store_errors

__all__ = ["PART_SCHEMA", "InputFile", "Part", "Rejection", "expand_inputs", "read_parts"]

ROWS_PER_PART = 65_536
MAX_PART_BYTES = 64 << 20  # of input; a part is cut at the first record that reaches it
_TABLES = ", ".join(
    f"{name} ({', '.join(' or '.join(group) for group in found.required)})"
    for name, found in FORMATS.items()
    if found.required
)


@dataclass(frozen=True)
class Rejection:
    """A record that was read and is not labelled; `line` is a line of a text file, a row of a Parquet file, from 1;
    0 for a file that cannot be read."""

    source: str
    line: int
    reason: str


@dataclass(frozen=True)
class Part:
    """A run of consecutive records of one file: `n_read = len(events) + len(rejected)`.

    Attributes:
        part_id: first 16 digits of the file's digest and the ordinal of the part in it, `0123456789abcdef-000000`.
        events: PART_SCHEMA, in the order of the file; `supplied_id` is false where the id is the digest and the row.
        rejected: in the order of the file.
    """

    part_id: str
    events: pa.RecordBatch
    rejected: list[Rejection]
    n_read: int


def read_parts(
    file: InputFile, format: str = AUTO, rows_per_part: int = ROWS_PER_PART, account_field: str = AUTO
) -> Iterator[Part]:
    """Parts of a file in order: each of `rows_per_part` records, fewer where they are over 64 MiB together.

    A record is what gives an event or a rejection; of a line that holds several, all are in one part, which may so hold
    more than `rows_per_part`.

    Raises:
        UsageError: no such format, no account field, or no rows in a part.
        InputError: the file cannot be read, is not what its suffix says, or lacks a column.
    """
    how = reading(format, account_field)
    if rows_per_part < 1:
        raise UsageError(f"rows_per_part got {rows_per_part}: expected at least 1")
    return _numbered(file, _READERS[file.kind](file, how, rows_per_part) if file.size else iter(()))


def _numbered(file: InputFile, slices: Iterator[Read]) -> Iterator[Part]:
    for ordinal, (columns, refused) in enumerate(slices):
        rejected = [Rejection(str(file.path), row, reason) for row, reason in sorted(refused)]
        events = columns.events(file.digest)
        yield Part(f"{file.digest[:16]}-{ordinal:06d}", events, rejected, len(events) + len(rejected))


def _read_jsonl(file: InputFile, how: Reading, rows_per_part: int) -> Iterator[Read]:
    gathered, size = Gatherer(), 0
    for number, line in chain.from_iterable(enumerate(block.lines, block.first) for block in read_lines(file)):
        try:
            if isinstance(line, BadRecordError):
                raise line
            if not line or line.isspace():
                continue
            size += len(line)
            record = decode_json(line)
        except BadRecordError as bad:
            gathered.refuse(number, bad)
        else:
            gathered.take(number, record, how)
        if len(gathered) >= rows_per_part or size >= MAX_PART_BYTES:
            yield gathered.read()
            gathered, size = Gatherer(), 0
    if len(gathered):
        yield gathered.read()


def _read_csv(file: InputFile, how: Reading, rows_per_part: int) -> Iterator[Read]:
    records = read_rows(file)
    header = next(records, None)
    if header is None:
        return
    if isinstance(header.cells, BadRecordError):
        raise InputError(f"{file.path} has an unreadable header: {header.cells}, expected comma-separated column names")
    names = [name.strip() for name in header.cells]
    source = _format_of_table(file, names, how)
    gathered, size = _Cells(names), 0
    for row in records:
        size += row.size
        gathered.add(row)
        if len(gathered) >= rows_per_part or size >= MAX_PART_BYTES:
            yield gathered.read(source, how)
            gathered, size = _Cells(names), 0
    if len(gathered):
        yield gathered.read(source, how)


class _Cells:
    """Rows of a CSV file on their way to columns; flat for the reason that `Gatherer` gives."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._cells: list[str] = []
        self._rows: list[int] = []
        self._refused: list[Refused] = []

    def __len__(self) -> int:
        return len(self._rows) + len(self._refused)

    def add(self, row: Row) -> None:
        if isinstance(row.cells, BadRecordError):
            self._refused.append(Refused(row.number, str(row.cells)))
        elif len(row.cells) != len(self._names):
            reason = f"the row has {len(row.cells)} cells, expected {len(self._names)} as in the header"
            self._refused.append(Refused(row.number, reason))
        else:
            self._cells += row.cells
            self._rows.append(row.number)

    def read(self, source: Format, how: Reading) -> Read:
        width = len(self._names)
        wanted = [(index, name) for index, name in enumerate(self._names) if how.wants(source, name)]
        table = {name: pa.array(self._cells[index::width], pa.string()) for index, name in wanted}
        read = read_table(table, np.array(self._rows, np.int64), source, how)
        return Read(read.columns, self._refused + read.refused)


def _read_parquet(file: InputFile, how: Reading, rows_per_part: int) -> Iterator[Read]:
    with _corrupt_is_input_error(file):
        # Buffered, not pre-buffered: a column chunk of a large row group is read piecemeal, so memory stays bounded.
        parquet = pq.ParquetFile(
            open_parquet(file.path), pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
        )
        names = parquet.schema_arrow.names
    with parquet:
        source = _format_of_table(file, names, how)
        wanted = [name for name in names if how.wants(source, name)]
        rows = min(rows_per_part, _rows_within(parquet.metadata, MAX_PART_BYTES))
        first = 1
        for batch in _rebatched(file, parquet.iter_batches(batch_size=rows, columns=wanted), rows):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield read_table(columns, np.arange(first, first + len(batch), dtype=np.int64), source, how)
            first += len(batch)
    if first - 1 != parquet.metadata.num_rows:
        raise InputError(
            f"{file.path} holds {first - 1:,} rows: expected {parquet.metadata.num_rows:,}, export it again"
        )


def _format_of_table(file: InputFile, names: list[str], how: Reading) -> Format:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"{file.path} has {len(repeated)} column names more than once: expected each once, rename them"
        )
    source = how.format if how.format is not None else recognised(dict.fromkeys(names))
    if source is None:
        raise InputError(f"{file.path} has the columns of no known format: expected one of {_TABLES}, rename them")
    heads = how.heads_in(source)
    for group in (tuple(heads), *source.required) if source.flat else source.required:
        if not any(name in names for name in group):
            expected = " or ".join(group)
            raise InputError(f"{file.path} has no column {expected}: expected one in {source.name}, add or rename it")
    return source


def _rows_within(metadata: pq.FileMetaData, limit: int) -> int:
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    per_row = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1.0)
    return max(1, int(limit / max(per_row, 1.0)))


@contextmanager
def _corrupt_is_input_error(file: InputFile) -> Iterator[None]:
    try:
        with store_errors(file.path):
            yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
        raise InputError(
            f"{file.path} is not a readable Parquet file: it is truncated or corrupt, export it again"
        ) from error


def _guarded(file: InputFile, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with _corrupt_is_input_error(file):
        yield from batches


def _rebatched(file: InputFile, batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one excepted: Arrow may cut at pages and row groups."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in _guarded(file, batches):
        batch = pa.RecordBatch.from_arrays([plain_column(column) for column in batch.columns], names=batch.schema.names)
        while count + len(batch) >= rows:
            yield pa.concat_batches([*held, batch.slice(0, rows - count)])
            batch, held, count = batch.slice(rows - count), [], 0
        if len(batch):
            held.append(batch)
            count += len(batch)
    if held:
        yield pa.concat_batches(held)


_READERS: dict[Kind, Callable[[InputFile, Reading, int], Iterator[Read]]] = {
    Kind.JSONL: _read_jsonl,
    Kind.CSV: _read_csv,
    Kind.PARQUET: _read_parquet,
}
