"""Near-duplicate lineage: which texts are copies of one another with a word changed, whatever source they stand in.

Part of the first stage. MinHash over word trigrams (Broder 1997), banded so that texts with most of their trigrams in
common fall into one bucket, each pair then checked on the whole sketch. A build that leaves a source out leaves out
the kin of its rows too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from classifier.text import normalise_text

PERMUTATIONS = 128
BANDS = 16  # 16 bands of 8: three in five pairs at Jaccard 0.7 meet in one
LEAST_AGREEMENT = 0.7  # of the sketch, an unbiased estimate of the Jaccard similarity
WORDS = 3

Ints = NDArray[np.int64]


def lineages(texts: Sequence[str]) -> Ints:
    """A number for every text [n], the same for texts joined by a chain of near-duplicates."""
    n = len(texts)
    if n == 0:
        return np.zeros(0, np.int64)
    digests = RMinHash.digests_from_token_sets([_trigrams(text) for text in texts], num_perm=PERMUTATIONS, seed=0)
    sketches = np.array(digests, np.uint32)
    pairs = np.concatenate([_near_pairs(sketches, band) for band in np.split(np.arange(PERMUTATIONS), BANDS)])
    links = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _near_pairs(sketches: NDArray[np.uint32], band: Ints) -> Ints:
    """(text, first text of its bucket) of one band, where the whole sketches agree; [k, 2]."""
    keys = np.ascontiguousarray(sketches[:, band]).view(f"V{4 * len(band)}").ravel()
    _, first, bucket = np.unique(keys, return_index=True, return_inverse=True)
    partner = first[bucket]
    near = (sketches == sketches[partner]).mean(axis=1) >= LEAST_AGREEMENT
    found = np.flatnonzero(near & (partner != np.arange(len(sketches))))
    return np.stack([found, partner[found]], axis=1)


def _trigrams(text: str) -> list[str]:
    """Distinct word trigrams; character trigrams of texts without spaces."""
    normal = normalise_text(text)
    words = normal.split(" ")
    units, joint = (words, " ") if len(words) >= WORDS else (list(normal), "")
    return sorted({joint.join(units[i : i + WORDS]) for i in range(max(len(units) - WORDS + 1, 1))})
