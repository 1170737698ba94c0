"""Surface features: the cheap counts that a bag of tokens cannot see (lines, labels, fences, slots, open endings, script).

Stands beside the encoder: text -> **surface** -> heads. Computed for a whole batch on one byte buffer, about 3 us a 500-byte prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PUNCTUATION = "`{}[]()<>#*-_=;:,.?!\"'/\\|$%&+@"
_LINE_START = "-*#<[{}\"'`(|>"
_LINE_END = ":.,;{}?)]>`\""
_LAST = ":?.!}])>`\"';,"
_RUNS = ("```", "{{", "[[", "\n\n", "**", "##", "<|", "</", "__", "==", "...", "\\n", "://")


def _classes() -> tuple[list[str], NDArray[np.float32]]:
    """Byte classes as a 0/1 matrix [256, K]: a histogram of bytes times it gives the counts of every class."""
    groups: list[tuple[str, Sequence[int]]] = [
        ("lower", range(97, 123)),
        ("upper", range(65, 91)),
        ("digit", range(48, 58)),
        ("space", (32,)),
        ("newline", (10,)),
        ("tab", (9,)),
        ("cjk_lead", range(0xE3, 0xEE)),
        ("latin_lead", range(0xC3, 0xC6)),
        ("cyrillic_lead", range(0xD0, 0xD3)),
        ("other_lead", (0xC2, *range(0xC6, 0xD0), *range(0xD3, 0xE3), *range(0xEE, 0xF8))),
        *((f"char_{c}", (ord(c),)) for c in _PUNCTUATION),
    ]
    table = np.zeros((256, len(groups)), np.float32)
    for column, (_, members) in enumerate(groups):
        table[list(members), column] = 1
    return [name for name, _ in groups], table


_CLASS_NAMES, _CLASS_TABLE = _classes()
_START_NAMES = ["digit", "upper", "indent", *_LINE_START]
_LAST_NAMES = [*_LAST, "letter", "digit"]

SURFACE_NAMES = (
    "log_bytes",
    "log_lines",
    *(f"share_{n}" for n in _CLASS_NAMES),
    *(f"starts_{n}" for n in _START_NAMES),
    *(f"ends_{n}" for n in _LINE_END),
    *(f"runs_{n!r}" for n in _RUNS),
    *(f"last_{n}" for n in _LAST_NAMES),
)
"""Columns of the surface array, in order."""


def _lookup(chars: str, extra: Sequence[tuple[int, Sequence[int]]] = (), offset: int = 0) -> NDArray[np.uint8]:
    """Byte -> column (0 means none): `chars` from 1 + offset on, plus explicit (column, bytes) groups."""
    table = np.zeros(256, np.uint8)
    for column, char in enumerate(chars, start=1 + offset):
        table[ord(char)] = column
    for column, members in extra:
        table[list(members)] = column
    return table


_START_TABLE = _lookup(_LINE_START, [(1, range(48, 58)), (2, range(65, 91)), (3, (9, 32))], offset=3)
_END_TABLE = _lookup(_LINE_END)
_LAST_TABLE = _lookup(
    _LAST,
    [(len(_LAST) + 1, (*range(65, 91), *range(97, 123), *range(128, 256))), (len(_LAST) + 2, range(48, 58))],
)


def surface_features(texts: Sequence[str]) -> NDArray[np.float32]:
    """Features [n, len(SURFACE_NAMES)], all about 0 to 7: logs of counts per 100 bytes, per 10 lines, or indicators."""
    stripped = [text.strip().encode("utf-8", "replace") for text in texts]
    n = len(stripped)
    lengths = np.fromiter(map(len, stripped), np.int64, n)
    buffer = np.frombuffer(b"\n".join([*stripped, b""]), np.uint8)  # every text ends with one newline of its own
    ends = np.cumsum(lengths + 1) - 1
    starts = ends - lengths
    owner = np.repeat(np.arange(n), lengths + 1)
    histogram = np.bincount(owner * 256 + buffer, minlength=n * 256).reshape(n, 256).astype(np.float32)
    newlines = np.flatnonzero(buffer == 10)
    lines = np.bincount(owner[newlines], minlength=n).astype(np.float32)
    line_starts = np.concatenate([[0], newlines[:-1] + 1]).astype(np.int64) if n else newlines
    return np.concatenate(
        [
            np.log1p(lengths)[:, None],
            np.log1p(lines)[:, None],
            _per(histogram @ _CLASS_TABLE, lengths / 100),
            _per(_count(_START_TABLE[buffer[line_starts]], owner[line_starts], n, len(_START_NAMES)), lines / 10),
            _per(_count(_END_TABLE[buffer[np.maximum(newlines - 1, 0)]], owner[newlines], n, len(_LINE_END)), lines / 10),
            _per(_count_runs(buffer, owner, n), lengths / 100),
            _one_hot(_LAST_TABLE[buffer[np.maximum(ends - 1, starts)]], len(_LAST_NAMES)),
        ],
        axis=1,
        dtype=np.float32,
    )


def _per(counts: NDArray[np.float32], size: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(counts / np.maximum(size, 1)[:, None]).astype(np.float32)


def _count(columns: NDArray[np.uint8], owner: NDArray[np.int64], n: int, width: int) -> NDArray[np.float32]:
    """How often each column 1..width occurs for each owner: [n, width]."""
    counts = np.bincount(owner * (width + 1) + columns, minlength=n * (width + 1))
    return counts.reshape(n, width + 1)[:, 1:].astype(np.float32)


def _count_runs(buffer: NDArray[np.uint8], owner: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """Occurrences of each string of `_RUNS`: [n, len(_RUNS)]. A run never spans two texts: texts are stripped, newline-ended."""
    counts = np.empty((n, len(_RUNS)), np.float32)
    for column, run in enumerate(_RUNS):
        codes = run.encode()
        hits = np.flatnonzero(buffer[: len(buffer) - len(codes) + 1] == codes[0])
        for shift, code in enumerate(codes[1:], start=1):
            hits = hits[buffer[hits + shift] == code]
        counts[:, column] = np.bincount(owner[hits], minlength=n)
    return counts


def _one_hot(columns: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    return (columns[:, None] == np.arange(1, width + 1)).astype(np.float32)
