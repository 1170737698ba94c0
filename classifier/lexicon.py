"""Lexicon: how much a prompt's words speak of each capability and of harvesting, one number each.

Stands beside templates: encoder (token ids) -> **lexicon** -> heads. A linear model over tokens and hashed token
pairs, log-scaled counts times inverse document frequency, scaled to unit length. Means over a prompt (the embedding)
blur the few tell-tale words of an instruction, and know nothing of their order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from classifier.encoder import TokenBatch

PAIR_BITS = 18
"""Token pairs are hashed to 2**PAIR_BITS features."""
LARGE_BATCH = 64
"""Texts from which on it pays to pass over all columns once; the result is the same."""
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd 64-bit constants of golden ratio and xxHash


def feature_count(vocab_size: int) -> int:
    """Columns of `count_features`: tokens, hashed pairs, and one (the last) that stands for nothing."""
    return vocab_size + (1 << PAIR_BITS) + 1


def count_features(tokens: TokenBatch, vocab_size: int) -> csr_matrix:
    """log(1 + count) of every token and hashed pair of neighbours, f64 [n, feature_count(vocab_size)], columns
    sorted."""
    ids = tokens.ids.astype(np.uint64)
    pairs = np.empty(len(ids), np.int32)
    pairs[:-1] = vocab_size + ((ids[:-1] * _MIX[0] + ids[1:] * _MIX[1]) >> np.uint64(64 - PAIR_BITS)).astype(np.int32)
    lengths = np.diff(tokens.offsets)
    pairs[tokens.offsets[1:][lengths > 0] - 1] = feature_count(vocab_size) - 1  # the last token has no right neighbour
    columns = np.stack([tokens.ids, pairs], axis=1).ravel()
    counts = csr_matrix(
        (np.ones(len(columns)), columns, 2 * tokens.offsets), shape=(len(tokens), feature_count(vocab_size))
    )
    if len(tokens) >= LARGE_BATCH:
        counts = counts.tocsc().tocsr()  # sorts columns in linear time, thrice as fast as by comparing
    counts.sum_duplicates()
    np.log1p(counts.data, out=counts.data)
    return counts


class Lexicon:
    """Weights [feature_count(vocab_size), columns] and inverse document frequencies [feature_count(vocab_size)], f32;
    the last row of both is zero."""

    def __init__(self, weights: NDArray[np.float32], idf: NDArray[np.float32], vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._idf = idf.astype(np.float64)
        self._weights = weights.astype(np.float64)

    @classmethod
    def load(cls, path: Path, vocab_size: int) -> Lexicon:
        """Read `lexicon.safetensors` (tensors `weights`, `idf`, f16)."""
        tensors = load_file(path)
        return cls(tensors["weights"].astype(np.float32), tensors["idf"].astype(np.float32), vocab_size)

    def scores(self, tokens: TokenBatch) -> NDArray[np.float32]:
        """Weighted sums of each text's unit feature vector, [n, columns]; 0 for an empty text."""
        features = count_features(tokens, self._vocab_size)
        features.data *= self._idf[features.indices]
        sums = features @ self._weights
        features.data *= features.data
        norms = np.sqrt(features @ np.ones(features.shape[1]))
        return np.asarray(sums / np.where(norms > 0, norms, 1)[:, None], np.float32)


def save_lexicon(weights: NDArray[np.float64], idf: NDArray[np.float64], path: Path) -> None:
    """Write `lexicon.safetensors` as `Lexicon.load` reads it."""
    save_file({"weights": weights.astype(np.float16), "idf": idf.astype(np.float16)}, path)
