"""Static encoder: normalised text -> token ids -> one embedding a prompt and one a window of tokens.

Third step of the flow: text -> **encoder** -> templates, heads. An embedding is the l2-normalised sum of its tokens'
rows (a mean, up to length); rows carry their own weights. A long prompt is read whole: its windows are embedded one by
one and add up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import _sparsetools

from classifier.errors import BundleError

try:
    import gigatoken
except ImportError:  # no wheel for this machine; `Tokenizer.run_by` says so
    HAS_GIGATOKEN = False
else:
    HAS_GIGATOKEN = True

WINDOW_TOKENS = 128
"""Tokens a window: about 500 bytes, so that an ordinary prompt is one window and a template is seen wherever it
stands."""

HEAD_TOKENS, TAIL_TOKENS = 24, 48
VIEWS = ("whole", "window", "head", "tail")
"""How a prompt is read for the heads: whole, its first window, its first words and its last, where asks stand."""

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted(set(range(0x100)) - set(_PRINTED))
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + i): byte for i, byte in enumerate(_OTHERS)}
"""The byte that each character of a token's name in `tokenizer.json` stands for (GPT-2's way to print bytes)."""


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of n texts end to end: text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> NDArray[np.int32]:
        """Ids of one text."""
        return self.ids[self.offsets[text] : self.offsets[text + 1]]

    def take(self, texts: NDArray[np.int64]) -> TokenBatch:
        """Some of the texts, in the order given."""
        pieces = [self.of(int(text)) for text in texts]
        return TokenBatch(np.concatenate(pieces), np.cumsum([0, *map(len, pieces)]))


@dataclass(frozen=True)
class Encoded:
    """What the encoder makes of n texts: an embedding for each of VIEWS, `views` [n, len(VIEWS), d], and window
    embeddings [w, d], all f32, l2-normalised (zero if empty).

    Windows of text i are rows `window_offsets[i]:window_offsets[i + 1]`.
    """

    tokens: TokenBatch
    views: NDArray[np.float32]
    windows: NDArray[np.float32]
    window_offsets: NDArray[np.int64]

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """Of whole texts, [n, d]."""
        return self.views[:, 0]


class Tokenizer:
    """Byte-level BPE from a `tokenizer.json`: by gigatoken or, where that cannot be imported, by Hugging Face
    tokenizers. Ids are the same; the latter takes some 40 times as long, so `run_by` names which it is."""

    def __init__(self, path: Path) -> None:
        self._backend: _Gigatoken | _HuggingFace = _Gigatoken(path) if HAS_GIGATOKEN else _HuggingFace(path)
        self.run_by = self._backend.name
        self._spelling = self._backend.vocabulary()
        self.vocab_size = max(self._spelling) + 1
        self._n_bytes = np.zeros(self.vocab_size, np.int64)
        self._n_bytes[list(self._spelling)] = [len(spelling) for spelling in self._spelling.values()]

    def vocabulary(self) -> dict[int, bytes]:
        """What each token id spells."""
        return dict(self._spelling)

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text of tokens; a character that is cut at either end is left out."""
        return b"".join(map(self._spelling.__getitem__, ids.tolist())).decode("utf-8", "ignore")

    def n_bytes(self, ids: NDArray[np.int32]) -> int:
        """Bytes that tokens spell; those of a whole text spell it, byte for byte."""
        return int(np.add.reduce(self._n_bytes[ids]))

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        """Ids of each text, as it is or in UTF-8."""
        return self._backend.encode(texts)


_FEW = 128
"""Texts up to which it takes less to cut them one by one than to unwrap the columns that gigatoken makes of many."""


class _Gigatoken:
    name = "gigatoken"

    def __init__(self, path: Path) -> None:
        self._bpe = gigatoken.Tokenizer.from_json(path.read_bytes())
        self._lock = Lock()  # it refuses to be called by two threads at once: "Already borrowed"

    def vocabulary(self) -> dict[int, bytes]:
        return dict(self._bpe.vocab)

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        with self._lock:
            return self._encode(texts)

    def _encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        if 0 < len(texts) <= _FEW:
            each = [np.asarray(self._bpe.encode(text), np.int32) for text in texts]
            ids = np.concatenate(each) if len(each) > 1 else each[0]
            return TokenBatch(ids, np.array([0, *accumulate(map(len, each))], np.int64))
        layout = self._bpe.encode_batch(list(texts), parallel=False).layout
        offsets = np.asarray(layout.offsets, np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]].astype(np.int32)
        return TokenBatch(ids, offsets - offsets[0])


class _HuggingFace:
    name = "tokenizers"

    def __init__(self, path: Path) -> None:
        self._bpe = tokenizers.Tokenizer.from_file(str(path))

    def vocabulary(self) -> dict[int, bytes]:
        return {token: bytes(map(_BYTE_OF.__getitem__, name)) for name, token in self._bpe.get_vocab().items()}

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        whole = [text if isinstance(text, str) else text.decode() for text in texts]
        ids = [self._bpe.encode(text).ids for text in whole]  # one by one: `encode_batch` starts threads
        joined = np.fromiter(chain.from_iterable(ids), np.int32)
        return TokenBatch(joined, np.cumsum([0, *map(len, ids)]))


def l2_normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length one; a zero row stays zero."""
    norms = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    norms[norms == 0] = 1
    return np.asarray(rows / norms, np.float32)


def window_offsets(tokens: TokenBatch, size: int = WINDOW_TOKENS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(token offset of each window start plus the end [w + 1], window offset of each text [n + 1]). An empty text has
    one window."""
    per_text = np.maximum(-((tokens.offsets[:-1] - tokens.offsets[1:]) // size), 1)
    owners = _running(per_text)
    starts = np.append((tokens.offsets[:-1] - owners[:-1] * size).repeat(per_text), tokens.offsets[-1])
    starts[:-1] += np.arange(owners[-1]) * size
    return starts, owners


def _running(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the first 0, 1, 2 ... of n counts, [n + 1]."""
    sums = np.zeros(len(counts) + 1, np.int64)
    np.add.accumulate(counts, out=sums[1:])
    return sums


def view_bounds(tokens: TokenBatch) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(first token [n], past the last token [n]) of every text, for each of VIEWS."""
    start, end = tokens.offsets[:-1], tokens.offsets[1:]
    return [
        (start, end),
        (start, np.minimum(start + WINDOW_TOKENS, end)),
        (start, np.minimum(start + HEAD_TOKENS, end)),
        (np.maximum(end - TAIL_TOKENS, start), end),
    ]


@dataclass(frozen=True)
class _Layout:
    """Which tokens of n texts are summed: those of every view of every text, then of every window, r ranges in all.

    Ranges overlap; tokens are cut where any of them begins or ends, so that each row is fetched once and pieces add up.
    `cuts` [p + 1]: tokens at which the p pieces begin, and the end; range i is the sum of the pieces
    `pieces[bounds[i]:bounds[i + 1]]`; `windows` [n + 1]: see `Encoded.window_offsets`.
    """

    cuts: NDArray[np.int32]
    pieces: NDArray[np.int32]
    bounds: NDArray[np.int32]
    windows: NDArray[np.int64]


def _layout(tokens: TokenBatch) -> _Layout:
    starts, owners = window_offsets(tokens)
    n_views = len(tokens) * len(VIEWS)
    first, last = ranges = np.empty((2, n_views + owners[-1]), np.int64)
    for view, sides in enumerate(view_bounds(tokens)):
        ranges[:, view : n_views : len(VIEWS)] = sides
    ranges[:, n_views:] = starts[:-1], starts[1:]
    is_cut = np.zeros(tokens.offsets[-1] + 1, np.bool_)
    is_cut[first] = is_cut[last] = is_cut[0] = True
    cuts = is_cut.nonzero()[0]
    begin, counts = cuts.searchsorted(first), cuts.searchsorted(last)
    counts -= begin
    bounds = _running(counts)
    pieces = np.arange(bounds[-1]) + (begin - bounds[:-1]).repeat(counts)
    return _Layout(cuts.astype(np.int32), pieces.astype(np.int32), bounds.astype(np.int32), owners)


@lru_cache(1024)
def _layout_of_one(length: int) -> _Layout:
    """Of one text by itself, as most come to a service: it takes longer to find than to use, and depends on the number
    of tokens alone."""
    return _layout(TokenBatch(np.empty(0, np.int32), np.array([0, length])))


class StaticEncoder:
    """Embedding table [vocab, d] stored as int8 rows with one scale each, held as f32."""

    def __init__(self, tokenizer: Tokenizer, table: NDArray[np.float32]) -> None:
        self.tokenizer = tokenizer
        self._table = np.ascontiguousarray(table, np.float32)

    @classmethod
    def load(cls, tokenizer_path: Path, table_path: Path) -> StaticEncoder:
        """Read `tokenizer.json` and `embeddings.safetensors` (tensors `rows` int8 [v, d], `scales` f32 [v]).

        Raises:
            BundleError: the tokenizer knows tokens that the table has no row for.
        """
        tokenizer, tensors = Tokenizer(tokenizer_path), load_file(table_path)
        if len(tensors["rows"]) < tokenizer.vocab_size:
            raise BundleError(
                f"encoder {table_path.name}: has {len(tensors['rows']):,} rows, expected one for each of the "
                f"tokenizer's {tokenizer.vocab_size:,} tokens; rebuild the bundle."
            )
        return cls(tokenizer, tensors["rows"].astype(np.float32) * tensors["scales"][:, None])

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> Encoded:
        """Encode normalised texts (see `text.normalise_text`), as they are or in UTF-8."""
        tokens = self.tokenizer.encode(texts)
        layout = _layout_of_one(len(tokens.ids)) if len(tokens) == 1 else _layout(tokens)
        rows = l2_normalise(self._sums(tokens, layout))
        split = len(tokens) * len(VIEWS)
        return Encoded(tokens, rows[:split].reshape(-1, len(VIEWS), self.dimensions), rows[split:], layout.windows)

    def _sums(self, tokens: TokenBatch, layout: _Layout) -> NDArray[np.float32]:
        """Sum of the rows of each range of a layout, [r, d]."""
        pieces = sum_rows(self._table, tokens.ids, layout.cuts)
        return sum_rows(pieces, layout.pieces, layout.bounds)


def sum_rows(rows: NDArray[np.float32], indices: NDArray[np.int32], bounds: NDArray[np.int32]) -> NDArray[np.float32]:
    """Sum of `rows[indices[bounds[i]:bounds[i + 1]]]` for each i, [len(bounds) - 1, d]; added in that order, so that
    equal ranges have equal sums. `rows` is contiguous; indices and bounds are not looked at.

    The kernel beneath a product with `scipy.sparse.csr_matrix`, whose making takes five times as long for one text.
    """
    n, (height, width) = len(bounds) - 1, rows.shape
    sums = np.zeros((n, width), np.float32)
    ones = np.ones(len(indices), np.float32)
    _sparsetools.csr_matvecs(n, height, width, bounds, indices, ones, rows.ravel(), sums.ravel())
    return sums


def quantise(table: NDArray[np.float32]) -> dict[str, NDArray[np.int8] | NDArray[np.float32]]:
    """int8 rows and their scales, such that `rows * scales[:, None]` is within half a step of `table`."""
    scales = np.maximum(np.abs(table).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    return {"rows": np.rint(table / scales[:, None]).astype(np.int8), "scales": scales}


def save_table(table: NDArray[np.float32], path: Path) -> None:
    """Write `embeddings.safetensors` as `StaticEncoder.load` reads it."""
    save_file(quantise(table), path)
