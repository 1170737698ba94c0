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
from classifier.types import Tier

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


def best_matches(index: TemplateIndex, normalised: Sequence[str], encoder: StaticEncoder) -> NDArray[np.int64]:
    """Signatures that the texts match best, an extraction one and a benign one, -1 if none, [2, n]."""
    found = [np.empty((2, 0), np.int64)]
    for start in range(0, len(normalised), BLOCK):
        matches = index.match(encoder.encode(normalised[start : start + BLOCK]))
        found.append(np.stack([matches.index, matches.benign]).astype(np.int64))
    return np.concatenate(found, axis=1)


def match_counts(index: TemplateIndex, normalised: Sequence[str], encoder: StaticEncoder) -> NDArray[np.int64]:
    """How many of the texts match each signature best, extraction and benign ones apart, [signatures]."""
    found = best_matches(index, normalised, encoder)
    return np.bincount(found[found >= 0], minlength=len(index.signatures))


@dataclass(frozen=True)
class Excused:
    """What an application's signature would excuse of a known template. `share`: of its shingles; `left`: how many."""

    known: Facts
    share: float
    left: int


def excused(application: Signature, known: Sequence[Signature]) -> list[Excused]:
    """Extraction templates of which it would excuse more than MOST_SHARED, or so much that what is left is no match."""
    found = []
    for signature in known:
        facts, size = signature.facts, len(signature.shingles)
        shared = int(np.isin(signature.shingles, application.shingles).sum())
        left = size - shared
        is_lost = left < facts.min_hits or left < facts.min_coverage * size or shared > MOST_SHARED * size
        if facts.tier is not Tier.BENIGN and shared and is_lost:
            found.append(Excused(facts, shared / size, left))
    return sorted(found, key=lambda one: (-one.share, one.known.id))
