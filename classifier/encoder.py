"""Static encoder: normalised text -> token ids -> one embedding a prompt and one a window of tokens.

Third step of the flow: text -> **encoder** -> templates, heads. An embedding is the l2-normalised sum of its tokens'
rows (a mean, up to length); rows carry their own weights. A long prompt is read whole: its windows are embedded one by
one and add up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

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

    def vocabulary(self) -> dict[int, bytes]:
        """What each token id spells."""
        return dict(self._spelling)

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text of tokens; a character that is cut at either end is left out."""
        return b"".join(map(self._spelling.__getitem__, ids.tolist())).decode("utf-8", "ignore")

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        """Ids of each text, as it is or in UTF-8."""
        return self._backend.encode(texts)


class _Gigatoken:
    name = "gigatoken"

    def __init__(self, path: Path) -> None:
        self._bpe = gigatoken.Tokenizer.from_json(path.read_bytes())

    def vocabulary(self) -> dict[int, bytes]:
        return dict(self._bpe.vocab)

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> TokenBatch:
        if len(texts) == 1:  # a shorter way, that skips the columnar wrapper
            ids = np.asarray(self._bpe.encode(texts[0]), np.int32)
            return TokenBatch(ids, np.array([0, len(ids)], np.int64))
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
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)


def window_offsets(tokens: TokenBatch, size: int = WINDOW_TOKENS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(token offset of each window start plus the end [w + 1], window offset of each text [n + 1]). An empty text has
    one window."""
    lengths = np.diff(tokens.offsets)
    per_text = np.maximum(-(-lengths // size), 1)
    owners = np.concatenate([[0], np.cumsum(per_text)])
    ordinal = np.arange(owners[-1]) - np.repeat(owners[:-1], per_text)
    starts = np.repeat(tokens.offsets[:-1], per_text) + ordinal * size
    return np.append(starts, tokens.offsets[-1]), owners


def view_bounds(tokens: TokenBatch) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(first token [n], past the last token [n]) of every text, for each of VIEWS."""
    start, end = tokens.offsets[:-1], tokens.offsets[1:]
    return [
        (start, end),
        (start, np.minimum(start + WINDOW_TOKENS, end)),
        (start, np.minimum(start + HEAD_TOKENS, end)),
        (np.maximum(end - TAIL_TOKENS, start), end),
    ]


class StaticEncoder:
    """Embedding table [vocab, d] stored as int8 rows with one scale each, held as f32."""

    def __init__(self, tokenizer: Tokenizer, table: NDArray[np.float32]) -> None:
        self.tokenizer = tokenizer
        self._table = np.ascontiguousarray(table, np.float32)

    @classmethod
    def load(cls, tokenizer_path: Path, table_path: Path) -> StaticEncoder:
        """Read `tokenizer.json` and `embeddings.safetensors` (tensors `rows` int8 [v, d], `scales` f32 [v])."""
        tensors = load_file(table_path)
        return cls(Tokenizer(tokenizer_path), tensors["rows"].astype(np.float32) * tensors["scales"][:, None])

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    def encode(self, texts: Sequence[str] | Sequence[bytes]) -> Encoded:
        """Encode normalised texts (see `text.normalise_text`), as they are or in UTF-8."""
        tokens = self.tokenizer.encode(texts)
        starts, owners = window_offsets(tokens)
        views = [np.stack(sides, axis=1).ravel() for sides in zip(*view_bounds(tokens), strict=True)]
        sums = self._sums(tokens.ids, *map(np.append, views, (starts[:-1], starts[1:])))
        rows = l2_normalise(sums)
        split = len(tokens) * len(VIEWS)
        return Encoded(tokens, rows[:split].reshape(-1, len(VIEWS), self.dimensions), rows[split:], owners)

    def _sums(self, ids: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum of the rows of `ids[first[i]:last[i]]` for each i. These overlap; tokens are cut where any of them begins
        or ends, so that each row is fetched once and pieces add up."""
        is_cut = np.zeros(len(ids) + 1, np.bool_)
        is_cut[first] = is_cut[last] = True
        cuts = np.flatnonzero(is_cut)
        pieces = _range_sums(ids, cuts[:-1], cuts[1:], self._table)
        begin, end = np.searchsorted(cuts, first), np.searchsorted(cuts, last)
        return _range_sums(np.arange(len(pieces), dtype=np.int32), begin, end, pieces)


def _range_sums(
    indices: NDArray[np.int32], start: NDArray[np.int64], end: NDArray[np.int64], rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum of `rows[indices[start[i]:end[i]]]` for each i."""
    lengths = end - start
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if len(indices) != offsets[-1] or not np.array_equal(start, offsets[:-1]):  # else they are in place already
        indices = indices[np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)]
    ones = np.ones(len(indices), np.float32)
    return np.asarray(csr_matrix((ones, indices, offsets), shape=(len(start), len(rows))) @ rows)


def quantise(table: NDArray[np.float32]) -> dict[str, NDArray[np.int8] | NDArray[np.float32]]:
    """int8 rows and their scales, such that `rows * scales[:, None]` is within half a step of `table`."""
    scales = np.maximum(np.abs(table).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    return {"rows": np.rint(table / scales[:, None]).astype(np.int8), "scales": scales}


def save_table(table: NDArray[np.float32], path: Path) -> None:
    """Write `embeddings.safetensors` as `StaticEncoder.load` reads it."""
    save_file(quantise(table), path)
