"""Lexicon: how much a prompt's words speak of each capability and of harvesting, one number each.

Stands beside templates: encoder (token ids) -> **lexicon** -> heads. A linear model over the tokens and hashed
token pairs at the head and the tail of a prompt, each as often as it stands there, weighed by inverse document
frequency. Means over a prompt (the embedding) blur the few tell-tale words of an instruction, and know nothing of their
order. Counts are not dampened: that would take sorting, and carries no better to families left out once the middle of
long prompts is skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from classifier.encoder import TokenBatch, sum_rows
from classifier.errors import BundleError

PAIR_BITS = 18
"""Token pairs are hashed to 2**PAIR_BITS features."""
LOOKED_UP_HEAD, LOOKED_UP_TAIL = 256, 128
"""Tokens of a long text that are looked up: instructions stand at the ends, what they wrap stands between."""
_PAIR_SHIFT = np.uint64(64 - PAIR_BITS)
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd 64-bit constants of golden ratio and xxHash


def feature_count(vocab_size: int) -> int:
    """Columns of `count_features`: tokens, hashed pairs, and one (the last) that stands for nothing."""
    return vocab_size + (1 << PAIR_BITS) + 1


def feature_columns(tokens: TokenBatch, vocab_size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Columns that head and tail of n texts touch, as often as they do, and where each text's begin [n + 1]: of every
    token its own and that of the hashed pair with its right neighbour."""
    kept, last = head_and_tail(tokens)
    ids = kept.ids.astype(np.uint64)
    pairs = (ids[:-1] * _MIX[0] + ids[1:] * _MIX[1]) >> _PAIR_SHIFT
    columns = np.empty((len(ids), 2), np.int32)
    columns[:, 0] = kept.ids
    columns[:-1, 1] = pairs.view(np.int64) + vocab_size
    columns[last, 1] = feature_count(vocab_size) - 1  # no right neighbour
    return columns.ravel(), 2 * kept.offsets


def count_features(tokens: TokenBatch, vocab_size: int) -> csr_matrix:
    """How often each text touches each column, f64 [n, feature_count(vocab_size)]."""
    columns, offsets = feature_columns(tokens, vocab_size)
    shape = (len(tokens), feature_count(vocab_size))
    counts = csr_matrix((np.ones(len(columns)), columns, offsets), shape=shape)
    counts.sum_duplicates()
    return counts


def head_and_tail(tokens: TokenBatch) -> tuple[TokenBatch, NDArray[np.int64]]:
    """The first LOOKED_UP_HEAD and the last LOOKED_UP_TAIL tokens of every text that is longer; and which tokens have
    no right neighbour, the last of each text and of each head that was cut."""
    lengths, most = tokens.offsets[1:] - tokens.offsets[:-1], LOOKED_UP_HEAD + LOOKED_UP_TAIL
    long = lengths > most
    if not np.count_nonzero(long):
        return tokens, tokens.offsets[1:][lengths > 0] - 1
    within = np.arange(tokens.offsets[-1]) - np.repeat(tokens.offsets[:-1], lengths)
    kept = (within < LOOKED_UP_HEAD) | (within >= np.repeat(lengths - LOOKED_UP_TAIL, lengths))
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, most))])
    last = np.concatenate([offsets[1:][lengths > 0], offsets[:-1][long] + LOOKED_UP_HEAD]) - 1
    return TokenBatch(tokens.ids[kept], offsets), last


class Lexicon:
    """Weights [feature_count(vocab_size), columns] and inverse document frequencies [feature_count(vocab_size)], f32;
    the last row of both is zero."""

    def __init__(self, weights: NDArray[np.float32], idf: NDArray[np.float32], vocab_size: int) -> None:
        self._vocab_size = vocab_size
        # one look-up a feature: what it adds to every score, and to the square of the length
        self._rows = np.column_stack([weights * idf[:, None], idf * idf]).astype(np.float32)

    @classmethod
    def load(cls, path: Path, vocab_size: int) -> Lexicon:
        """Read `lexicon.safetensors` (tensors `weights`, `idf`, f16).

        Raises:
            BundleError: it is of another vocabulary.
        """
        tensors = load_file(path)
        found, expected = {len(tensors["weights"]), len(tensors["idf"])}, feature_count(vocab_size)
        if found != {expected}:
            raise BundleError(
                f"lexicon {path.name}: has {max(found):,} features, expected {expected:,} for {vocab_size:,} tokens; "
                "rebuild the bundle."
            )
        return cls(tensors["weights"].astype(np.float32), tensors["idf"].astype(np.float32), vocab_size)

    def scores(self, tokens: TokenBatch) -> NDArray[np.float32]:
        """Weighted sums of each text's features over the root of the sum of their idf squared, [n, columns]; 0 for an
        empty text."""
        columns, offsets = feature_columns(tokens, self._vocab_size)
        sums = sum_rows(self._rows, columns, offsets.astype(np.int32))
        lengths = np.sqrt(sums[:, -1:])
        lengths[lengths == 0] = 1
        return np.asarray(sums[:, :-1] / lengths, np.float32)


def save_lexicon(weights: NDArray[np.float64], idf: NDArray[np.float64], path: Path) -> None:
    """Write `lexicon.safetensors` as `Lexicon.load` reads it."""
    save_file({"weights": weights.astype(np.float16), "idf": idf.astype(np.float16)}, path)
