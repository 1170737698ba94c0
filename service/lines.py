"""From a text file to its records as bytes or cells, with their line numbers: between `inputs` and `records`.

What is wrong with a line comes out in its place as a BadRecordError, so that good lines around it are still read.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from classifier.errors import InputError
from service.fields import BadRecordError
from service.inputs import DamagedStreamError, InputFile, read_chunks

MAX_LINE_BYTES = 64 << 20
_REPLAY_BYTES = (
    4 * MAX_LINE_BYTES
)  # what may be read again after quotes that do not close; bounds the time, not the memory
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"the line is too long, expected at most {MAX_LINE_BYTES:,} bytes"
_DAMAGED = "the compressed stream ends early or is corrupt here: what precedes was read, export the file again"


Line = bytes | BadRecordError
"""A line without its newline, or why it cannot be had."""


class Lines(NamedTuple):
    """Consecutive lines; `first` is the number of the first one, from 1."""

    first: int
    lines: list[Line]


class Row(NamedTuple):
    """The cells of a CSV record, or why they cannot be had; `number` is its first line, `size` its bytes."""

    number: int
    cells: list[str] | BadRecordError
    size: int


def read_lines(file: InputFile) -> Iterator[Lines]:
    """Lines of a text file, a chunk's worth at a time, split at LF, without a byte order mark.

    A line over 64 MiB is refused without being held.

    Raises:
        InputError: the file cannot be read, or is UTF-16.
    """
    number, held, size = 1, [b""], 0
    try:
        for chunk in read_chunks(file):
            head, *rest = chunk.split(b"\n")
            size += len(head)
            if size <= MAX_LINE_BYTES:
                held.append(head)
            else:
                held = [b""]
            if not rest:
                continue
            tail = rest.pop()
            yield Lines(number, [_joined(file, number, held, size), *rest])
            number += 1 + len(rest)
            held, size = [tail], len(tail)
    except DamagedStreamError:
        yield Lines(number, [BadRecordError(_DAMAGED)])
        return
    if size:
        yield Lines(number, [_joined(file, number, held, size)])


def read_rows(file: InputFile) -> Iterator[Row]:
    """Records of a CSV file, header first; blank lines are skipped.

    A record whose quotes do not close is refused at its first line, and reading goes on with its second: otherwise one
    stray quote would swallow the good records that follow it.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    source = _CsvLines(read_lines(file))
    rows = csv.reader(source, strict=True)
    while True:
        number = source.start_record()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except BadRecordError as bad:
            yield Row(number, bad, source.size)
        except csv.Error:
            source.replay()
            yield Row(number, BadRecordError("the quotes of a CSV record do not match, expected RFC 4180"), 0)
        else:
            if source.undecodable:
                yield Row(number, BadRecordError("the record is not valid UTF-8"), source.size)
            elif cells:
                yield Row(number, cells, source.size)


class _CsvLines:
    """Decoded lines for `csv.reader`, which remembers those of the record that is being read."""

    def __init__(self, blocks: Iterator[Lines]) -> None:
        self._lines = (line for block in blocks for line in block.lines)
        self._replayed: deque[Line] = deque()
        self._taken: list[Line] = []
        self._budget = _REPLAY_BYTES
        self._number = 1  # of the first line of the record
        self.size = 0
        self.undecodable = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._replayed.popleft() if self._replayed else next(self._lines)
        self._taken.append(line)
        if isinstance(line, BadRecordError):
            raise line
        self.size += len(line)
        if self.size > MAX_LINE_BYTES:
            raise csv.Error("record too long")
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            self.undecodable = True
            return line.decode(errors="replace") + "\n"

    def start_record(self) -> int:
        """Forget the last record; the number of the next one's first line."""
        self._number += len(self._taken)
        self._taken, self.size, self.undecodable = [], 0, False
        return self._number

    def replay(self) -> None:
        """Offer all lines of the refused record but the first again, as long as the budget lasts."""
        self._budget -= self.size
        if self._budget > 0 and len(self._taken) > 1:
            self._replayed.extendleft(reversed(self._taken[1:]))
            del self._taken[1:]


def _joined(file: InputFile, number: int, held: list[bytes], size: int) -> Line:
    if size > MAX_LINE_BYTES:
        return BadRecordError(_TOO_LONG)
    line = b"".join(held)
    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file.path} is UTF-16: expected UTF-8, convert it first")
    return line.removeprefix(_BOM) if number == 1 else line
