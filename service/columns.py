"""Events as columns: built from extracted fields, or taken whole from the columns of a table where that is safe.

Stands between `formats` and `records`. The short cut for tables only ever answers for rows it is sure of; all others go
through the format's extractor, one by one, so both ways agree by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from classifier.types import EVENT_SCHEMA
from service import timestamps
from service.fields import MAX_ID_BYTES, MAX_PROMPT_BYTES, BadRecordError, Fields, as_object
from service.formats import Format, Reading, format_of
from service.shapes.plain import CONTEXT

NAMES = ("model", "org_id", "end_user_id")
"""Context of an event: shown, never evidence."""
PART_SCHEMA = pa.schema(
    [
        *EVENT_SCHEMA,
        pa.field("supplied_id", pa.bool_(), nullable=False),
        *(pa.field(name, pa.string()) for name in NAMES),
    ]
)
_VISIBLE = (
    "[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # whatever str.isspace() is false for
)

_TOO_DEEP = "the record is nested too deeply, expected a request"

Mask = npt.NDArray[np.bool_]


class Refused(NamedTuple):
    """A record that gives no event; `row` is its number in the file, from 1."""

    row: int
    reason: str


@dataclass(frozen=True)
class Columns:
    """Fields of n events as Arrow arrays [n]; null where a record has none.

    Attributes:
        row: number of the record in the file, int64 [n], ascending from 1.
        nth: which event of its record, from 1, int64 [n]; 0 where a record is one event.
    """

    row: npt.NDArray[np.int64]
    nth: npt.NDArray[np.int64]
    event_id: pa.StringArray
    account_id: pa.StringArray
    micros: pa.Int64Array
    system: pa.StringArray
    prompt: pa.StringArray
    model: pa.StringArray
    org_id: pa.StringArray
    end_user_id: pa.StringArray

    def events(self, digest: str) -> pa.RecordBatch:
        """PART_SCHEMA; a missing time becomes the row as microseconds since 1970, a missing id `digest[:16]:row`, or
        `digest[:16]:row:nth` for an event of a record that holds several."""
        row = pa.array(self.row)
        event_id, micros = self.event_id, self.micros
        supplied = event_id.is_valid()
        if event_id.null_count:
            made = pc.binary_join_element_wise(pa.scalar(digest[:16]), row.cast(pa.string()), ":")
            if self.nth.any():
                longer = pc.binary_join_element_wise(made, pa.array(self.nth).cast(pa.string()), ":")
                made = pc.if_else(pa.array(self.nth > 0), longer, made)
            event_id = pc.coalesce(event_id, made)
        if micros.null_count:
            micros = pc.coalesce(micros, row)
        stamp = micros.cast(EVENT_SCHEMA.field("timestamp").type)
        context = (getattr(self, name) for name in NAMES)
        arrays = [event_id, self.account_id, stamp, self.system, self.prompt, supplied, *context]
        return pa.RecordBatch.from_arrays(arrays, schema=PART_SCHEMA)


class Read(NamedTuple):
    """What came of some records: together they are all of them."""

    columns: Columns
    refused: list[Refused]


class Gatherer:
    """Extracted fields and refusals, one record at a time.

    Fields are kept in one flat list, not as tuples: tens of thousands of live tuples make the garbage collector, which
    walks them over and over, take a third of the time.
    """

    def __init__(self) -> None:
        self._cells: list[str | int | None] = []
        self._rows: list[int] = []
        self._nth: list[int] = []
        self._refused: list[Refused] = []

    def __len__(self) -> int:
        return len(self._rows) + len(self._refused)

    def take(self, row: int, record: object, how: Reading) -> None:
        """The events of a decoded record, or why it gives none."""
        try:
            found = as_object(record)
            source = format_of(found, how)
            several = source.unfold(found) if source.unfold is not None else None
        except (BadRecordError, RecursionError) as bad:
            self.refuse(row, bad)
            return
        accounts = how.accounts_in(source)
        if several is None:
            self._take_one(row, 0, found, source, accounts)
        else:
            for nth, one in enumerate(several, 1):
                self._take_one(row, nth, one, source, accounts)

    def _take_one(self, row: int, nth: int, record: object, source: Format, accounts: Sequence[str]) -> None:
        try:
            fields = source.extract(as_object(record), accounts)
        except (BadRecordError, RecursionError) as bad:
            self.refuse(row, bad)
        else:
            self._cells.extend(fields)
            self._rows.append(row)
            self._nth.append(nth)

    def refuse(self, row: int, bad: BadRecordError | RecursionError) -> None:
        self._refused.append(Refused(row, str(bad) if isinstance(bad, BadRecordError) else _TOO_DEEP))

    def read(self) -> Read:
        """All that was gathered, in the order in which it was."""
        width = len(Fields._fields)
        kinds = [pa.int64() if name == "timestamp" else pa.string() for name in Fields._fields]
        columns = [pa.array(self._cells[index::width], kind) for index, kind in enumerate(kinds)]
        rows, nth = np.array(self._rows, np.int64), np.array(self._nth, np.int64)
        return Read(Columns(rows, nth, *columns), self._refused)


def read_table(table: Mapping[str, pa.Array], row: npt.NDArray[np.int64], source: Format, how: Reading) -> Read:
    """Events of columns of equal length n in a format; `row` [n] are their numbers in the file."""
    accounts, how = how.accounts_in(source), replace(how, format=source)
    if not source.flat or len(accounts) != 1:
        return _extract_rows(table, row, how, np.ones(len(row), bool))
    whole, sure = _take_whole(table, row, accounts[0])
    if sure.all():
        return Read(whole, [])
    read = _extract_rows(table, row, how, ~sure)
    return Read(_merge(whole, sure, read.columns), read.refused)


def plain_column(column: pa.Array) -> pa.Array:
    """Dictionaries and views as the types that all of Arrow's kernels take; any other column as it is."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


class _Taken(NamedTuple):
    """A column as taken whole, and for which rows that is safe [n]."""

    values: pa.Array
    sure: Mask


def _take_whole(table: Mapping[str, pa.Array], row: npt.NDArray[np.int64], account_field: str) -> tuple[Columns, Mask]:
    missing = pa.nulls(len(row))
    account = _take_ids(table.get(account_field, missing))
    event = _take_ids(table.get("event_id", missing))
    prompt = _take_text(table.get("prompt", missing))
    system = _take_text(table.get("system", missing))
    micros = _take_micros(table.get("timestamp", missing))
    sure = account.sure & event.sure & prompt.sure & system.sure & micros.sure
    sure &= _mask(account.values.is_valid()) & _mask(prompt.values.is_valid())
    for name in ("tools", "attributes", *CONTEXT):
        sure &= _passes_unread(name, table.get(name, missing))
    context = [_take_name(table.get(name, missing)) for name in NAMES]
    taken = [one.values for one in (event, account, micros, system, prompt)]
    return Columns(row, np.zeros(len(row), np.int64), *taken, *context), sure


def _take_ids(column: pa.Array) -> _Taken:
    if pa.types.is_integer(column.type):
        return _Taken(column.cast(pa.string()), np.ones(len(column), bool))
    taken = _take_text(column, MAX_ID_BYTES)
    return _Taken(taken.values, taken.sure & ~_mask(pc.match_substring(taken.values, "\0")))


def _take_text(column: pa.Array, limit: int = MAX_PROMPT_BYTES) -> _Taken:
    """Text, with blank text as null; sure unless it is too long or is not text."""
    texts = _as_text(column)
    if texts is None:
        return _Taken(pa.nulls(len(column), pa.string()), _mask(column.is_null()))
    visible = pc.match_substring_regex(texts, _VISIBLE)
    short = pc.less_equal(pc.binary_length(texts), limit)
    values = texts if visible.null_count == 0 and pc.all(visible).as_py() else pc.if_else(visible, texts, None)
    return _Taken(values, _mask(short) | _mask(texts.is_null()))


def _take_name(column: pa.Array) -> pa.StringArray:
    """Context as `context_name` has it: null for what is no name."""
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.string())
    taken = _take_text(column, MAX_ID_BYTES)
    right = taken.sure & ~_mask(pc.match_substring(taken.values, "\0"))
    return taken.values if right.all() else pc.if_else(pa.array(right), taken.values, None)


def _take_micros(column: pa.Array) -> _Taken:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros = timestamps.micros_of_instants(column)
    elif pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()):
        micros = timestamps.micros_of_numbers(column.cast(pa.float64() if pa.types.is_floating(kind) else pa.int64()))
    else:
        texts = _take_text(column)
        column, micros = texts.values, timestamps.micros_of_text(texts.values)
        return _Taken(micros, texts.sure & _mask(pc.or_(micros.is_valid(), column.is_null())))
    return _Taken(micros, _mask(pc.or_(micros.is_valid(), column.is_null())))


def _passes_unread(name: str, column: pa.Array) -> Mask:
    """Rows in which a field beside the event's needs no look: it is absent, or its type alone makes it right."""
    kind = column.type
    if name in CONTEXT:
        right = _is_text(kind) or (pa.types.is_integer(kind) and int in CONTEXT[name])
    else:
        right = name == "attributes" and (pa.types.is_struct(kind) or pa.types.is_map(kind))
    if right:
        return np.ones(len(column), bool)
    absent = pc.equal(pc.binary_length(column), 0) if _is_text(kind) else column.is_null()
    return _mask(pc.fill_null(absent, True))


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _as_text(column: pa.Array) -> pa.StringArray | None:
    """A text or binary column as valid UTF-8, or None if it is neither."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.string())
    if not _is_text(column.type):
        return None
    try:
        texts = column.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return texts


def _extract_rows(table: Mapping[str, pa.Array], row: npt.NDArray[np.int64], how: Reading, which: Mask) -> Read:
    gathered = Gatherer()
    values = [_python_values(column, which) for column in table.values()]
    for number, *cells in zip(row[which].tolist(), *values, strict=True):
        gathered.take(number, dict(zip(table, cells, strict=True)), how)
    return gathered.read()


def _python_values(column: pa.Array, which: Mask) -> list[object]:
    """Values as an extractor takes them: maps as dicts, instants in microseconds, and bytes where text is not UTF-8."""
    if pa.types.is_nested(column.type):
        return [_python_value(column[index]) for index in np.flatnonzero(which).tolist()]
    column = column.filter(pa.array(which))
    if _is_text(column.type):
        return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        # An instant outside the range may not fit a datetime; any value that is out of range says the same of it.
        micros = pc.coalesce(timestamps.micros_of_instants(column), pa.scalar(0, pa.int64()))
        column = pc.if_else(column.is_valid(), micros, None).cast(pa.timestamp("us", tz="UTC"))
    return column.to_pylist()  # type: ignore[no-any-return]


def _python_value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except ValueError:  # text inside that is not UTF-8, or instants that do not fit a datetime
        return b""


def _decoded(value: bytes | None) -> object:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _merge(whole: Columns, sure: Mask, others: Columns) -> Columns:
    """Rows of `whole` that are sure and all of `others`, in the order of the file."""
    row = np.concatenate([whole.row[sure], others.row])
    order = np.argsort(row, kind="stable")
    keep = pa.array(sure)

    def both(ours: pa.Array, theirs: pa.Array) -> pa.Array:
        return pa.concat_arrays([ours.filter(keep), theirs]).take(pa.array(order))

    names = [one.name for one in fields(Columns) if one.name not in ("row", "nth")]
    columns = [both(getattr(whole, name), getattr(others, name)) for name in names]
    return Columns(row[order], np.concatenate([whole.nth[sure], others.nth])[order], *columns)


def _mask(values: pa.Array) -> Mask:
    filled: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return filled.astype(bool)
