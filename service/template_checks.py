"""Whether signatures get in each other's way, and how often they match traffic: `probewatch templates check`.

Used by `proposals` and `template_cli`. Pure functions on signatures and normalised texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.encoder import StaticEncoder
from classifier.signatures import Facts, Signature
from classifier.signing import BLOCK
from classifier.templates import TemplateIndex

MOST_SHARED = 0.5
"""Part of the smaller signature's shingles above which two families are hard to tell apart."""


@dataclass(frozen=True)
class Collision:
    """Two signatures of different families. `share`: what they have in common, of the smaller one's shingles."""

    one: Facts
    other: Facts
    share: float


def collisions(ones: Sequence[Signature], others: Sequence[Signature]) -> list[Collision]:
    """Pairs, one of each, of different families that share more than MOST_SHARED; each pair once, worst first."""
    signatures = [*ones, *others]
    lists = [signature.shingles for signature in signatures]
    known, code = np.unique(np.concatenate([np.empty(0, np.uint64), *lists]), return_inverse=True)
    sizes = np.array([len(shingles) for shingles in lists], np.int64)
    entries = (np.ones(len(code), np.int64), code, np.concatenate([[0], np.cumsum(sizes)]))
    rows = csr_matrix(entries, shape=(len(signatures), len(known)))
    shared = (rows[: len(ones)] @ rows[len(ones) :].T).tocoo()
    found = {}
    for i, j, n in zip(shared.row.tolist(), (shared.col + len(ones)).tolist(), shared.data.tolist(), strict=True):
        one, other = signatures[i].facts, signatures[j].facts
        share = n / min(sizes[i], sizes[j])
        if share > MOST_SHARED and one.family != other.family and (other.id, one.id) not in found:
            found[one.id, other.id] = Collision(one, other, float(share))
    return sorted(found.values(), key=lambda pair: (-pair.share, pair.one.id, pair.other.id))


def match_counts(index: TemplateIndex, normalised: Sequence[str], encoder: StaticEncoder) -> NDArray[np.int64]:
    """How many of the texts match each signature best, extraction and benign ones apart, [signatures]."""
    n = len(index.signatures)
    counts = np.zeros(n, np.int64)
    for start in range(0, len(normalised), BLOCK):
        matches = index.match(encoder.encode(normalised[start : start + BLOCK]))
        for found in (matches.index, matches.benign):
            counts += np.bincount(found[found >= 0], minlength=n)
    return counts
