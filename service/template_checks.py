"""Whether signatures find themselves, get in each other's way, and match traffic: `probewatch templates check`.

Used by `proposals` and `template_cli`. Pure functions on signatures and normalised texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.encoder import VIEWS, Encoded, StaticEncoder, TokenBatch
from classifier.shingles import SHINGLE_WORDS, Words
from classifier.signatures import Facts, Signature
from classifier.signing import BLOCK
from classifier.templates import TemplateIndex
from classifier.types import Tier

MOST_SHARED = 0.5
"""Part of the smaller signature's shingles above which two families are hard to tell apart."""
LEAST_ALIKE = 0.95
"""Cosine of their vectors from which two families are about the same words, in whatever order."""


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


def alike(index: TemplateIndex) -> list[Collision]:
    """Pairs of different families, one of them at least of extraction, of which the vector index names a vector of one
    near one of the other, each pair once, nearest first. `share` is the cosine."""
    similarity, owners = index.vectors.nearest(index.vectors.rows)
    near = similarity >= LEAST_ALIKE  # places without a neighbour lie far below
    ones = np.broadcast_to(index.vectors.owners[:, None], owners.shape)[near].tolist()
    found: dict[tuple[str, str], Collision] = {}
    for i, j, cosine in zip(ones, owners[near].tolist(), similarity[near].tolist(), strict=True):
        one, other = sorted((index.signatures[i].facts, index.signatures[j].facts), key=lambda facts: facts.id)
        known = found.get((one.id, other.id))
        matters = one.family != other.family and {one.tier, other.tier} != {Tier.BENIGN}
        if matters and (known is None or known.share < cosine):
            found[one.id, other.id] = Collision(one, other, cosine)
    return sorted(found.values(), key=lambda pair: (-pair.share, pair.one.id, pair.other.id))


@dataclass(frozen=True)
class Unfound:
    """A signature that a text of all its shingles, in order, is not named by. `instead`: what it is named by, or
    excused as, None if by nothing."""

    facts: Facts
    instead: Facts | None


def unfound(index: TemplateIndex) -> list[Unfound]:
    """Signatures that do not find themselves, nor one of their family, in order."""
    found = []
    for start in range(0, len(index.signatures), BLOCK):
        signatures = index.signatures[start : start + BLOCK]
        matches = index.match_words(*_spelled(signatures, index.vectors.rows.shape[1]))
        for signature, row, benign in zip(signatures, matches.index.tolist(), matches.benign.tolist(), strict=True):
            is_benign = signature.facts.tier is Tier.BENIGN
            named = [index.signatures[i].facts for i in ((benign, row) if is_benign else (row, benign)) if i >= 0]
            same = [facts for facts in named if facts.family == signature.facts.family]
            if not same:
                found.append(Unfound(signature.facts, named[0] if named else None))
    return found


def _spelled(signatures: Sequence[Signature], dimensions: int) -> tuple[Words, Encoded]:
    """A text of each signature's own shingles, one after another: every shingle as its own run of words, of which the
    last has its hash and the others 0, which fold into it. Without windows: its shingles alone must do."""
    runs = [np.zeros((len(signature.shingles), SHINGLE_WORDS), np.uint64) for signature in signatures]
    for run, signature in zip(runs, signatures, strict=True):
        run[:, -1] = signature.shingles
    offsets = np.cumsum([0, *(run.size for run in runs)])
    places, n = np.arange(offsets[-1]), len(signatures)
    words = Words(np.concatenate([run.ravel() for run in runs]), places, places, offsets)
    views, windows = np.zeros((n, len(VIEWS), dimensions), np.float32), np.zeros((0, dimensions), np.float32)
    tokens = TokenBatch(places.astype(np.int32), offsets)
    return words, Encoded(tokens, views, windows, np.zeros(n + 1, np.int64))


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
