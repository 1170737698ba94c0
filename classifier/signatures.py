"""Signatures: what is kept of a known template, and how it is stored. No prompt text.

Between shingles and templates: **signatures** are what the index is built of, whether they come from the bundle, from
a local catalogue, or from another laboratory's exchange file, and all three store them as the same facts and tensors.

The format of a signature, version 1 (a carrier states it as its own `format_version`, with `shingle_words`):

facts       `Facts`: names of at most 64 of a-z 0-9 _ . -, numbers, and members of closed lists. Never a sentence.
shingles    u64, distinct, in typical order: hashes of three words in a row of the text in normal form
            (`text.normalise_text`). A word is a run of letters (in scripts without spaces a token of the tokenizer that
            made it, so those shingles match beside the same tokenizer only; digits, punctuation and markup part words
            and are not hashed). Modulo 2^64, for the UTF-8 bytes b of a word and the words w of a shingle:
                h = 0; for b: h = h * 0x9E3779B97F4A7C15 + b + 1;  word = (h ^ h >> 29) * 0xBF58476D1CE4E5B9
                shingle = (w1 * 0x94D049BB133111EB + w2) * 0x94D049BB133111EB + w3
vectors     f32 [0 to 2, d] of unit length, of the encoder that the carrier names by its digest: mean embedding of the
            first, and of the last, window of 128 tokens of the samples. In a catalogue or exchange file the samples are
            reduced to the words of the shingles before.

What it tells: the hashes are not salted, or laboratories could not compare them, and whoever has a dictionary reads
them back word by word. So hold the scaffold of a signature for readable. What slots held is in none of it: a shingle is
kept only if several samples of at least two accounts have it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifier.types import TARGETS, Tier

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""A family's or technique's name; an application's may be several with slashes between."""
_NAMES = re.compile(rf"{NAME.pattern}(/{NAME.pattern}){{0,3}}")
_NUMBER = re.compile(r"/[0-9]{1,4}")
_MOST_HITS = 2**31
_UNIT = 1e-3  # by which a vector's length may differ from 1
DO_NOT_FIT = "its files do not fit together or the encoder"


@dataclass(frozen=True)
class Facts:
    """What a signature stands for.

    `family`: the extraction family, or the application where `tier` is benign; `target`: one of types.TARGETS, None
    where the payload tells. A prompt matches that holds at least `min_hits` distinct shingles, and at least the share
    `min_coverage` of all of them in order.
    """

    id: str
    family: str
    technique: str | None
    target: str | None
    tier: Tier
    min_hits: int
    min_coverage: float


@dataclass(frozen=True)
class Signature:
    """What is kept of a template.

    `facts`; `shingles` u64 [s], distinct, in typical order; `vectors` f32 [v, d] of unit length. No text.
    """

    facts: Facts
    shingles: NDArray[np.uint64]
    vectors: NDArray[np.float32]

    def without_vectors(self) -> Signature:
        """The same, matched by its shingles alone."""
        return replace(self, vectors=self.vectors[:0])


def tensors_of(signatures: Sequence[Signature], dimensions: int) -> dict[str, NDArray[Any]]:
    """Signatures as they are stored: `shingles` u64 and `vectors` f32 [v, dimensions] end to end, signature i has
    `shingles[offsets[i] : offsets[i + 1]]` and the vectors whose `owners` are i.

    Signatures without vectors may have any dimensions. Raises ValueError if others differ from `dimensions`.
    """
    lists = [signature.shingles for signature in signatures]
    vectors = [signature.vectors for signature in signatures if len(signature.vectors)]
    if any(rows.shape[1] != dimensions for rows in vectors):
        raise ValueError(DO_NOT_FIT)
    counts = np.array([len(signature.vectors) for signature in signatures], np.int64)
    return {
        "shingles": np.concatenate([np.empty(0, np.uint64), *lists]),
        "offsets": np.cumsum([0, *(len(x) for x in lists)]),
        "vectors": np.concatenate([np.empty((0, dimensions), np.float32), *vectors]),
        "owners": np.repeat(np.arange(len(signatures)), counts),
    }


def signatures_of(facts: Sequence[Facts], tensors: Mapping[str, NDArray[Any]]) -> list[Signature]:
    """What `tensors_of` stored, with its facts. Raises KeyError or ValueError if they do not fit together or hold what
    no signature does."""
    shingles, offsets, vectors, owners = (tensors[name] for name in ("shingles", "offsets", "vectors", "owners"))
    repeated = [name for name, n in Counter(fact.id for fact in facts).items() if n > 1]
    if repeated:
        raise ValueError(f"it holds the signature {repeated[0]} more than once")
    if not (_are_lists(shingles, offsets, len(facts)) and _are_unit(vectors) and _own(owners, len(facts), vectors)):
        raise ValueError(DO_NOT_FIT)
    heads = np.searchsorted(owners, np.arange(len(facts) + 1))
    found = [
        Signature(fact, shingles[offsets[i] : offsets[i + 1]], vectors[heads[i] : heads[i + 1]])
        for i, fact in enumerate(facts)
    ]
    for signature in found:
        if len(np.unique(signature.shingles)) < max(len(signature.shingles), 1):
            raise ValueError(f"signature {signature.facts.id} has no shingles, or one of them twice")
    return found


def _are_lists(shingles: NDArray[Any], offsets: NDArray[Any], n: int) -> bool:
    return (
        shingles.ndim == 1
        and shingles.dtype == np.uint64
        and offsets.shape == (n + 1,)
        and offsets.dtype == np.int64
        and (offsets[0], offsets[-1]) == (0, len(shingles))
        and bool(np.all(offsets[1:] >= offsets[:-1]))
    )


def _are_unit(vectors: NDArray[Any]) -> bool:
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        return False
    return bool(np.all(np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < _UNIT))  # not so if NaN


def _own(owners: NDArray[Any], n: int, vectors: NDArray[Any]) -> bool:
    return (
        owners.shape == (len(vectors),)
        and owners.dtype == np.int64
        and bool(np.all((owners >= 0) & (owners < n)))
        and bool(np.all(owners[1:] >= owners[:-1]))
    )


def parse_facts(row: Mapping[str, Any]) -> Facts:
    """Facts as `asdict` and JSON leave them. Raises TypeError or ValueError."""
    facts = Facts(**{**row, "tier": Tier(row["tier"])})
    for name, value in (("id", facts.id), ("family", facts.family), ("technique", facts.technique)):
        if not (name == "technique" and value is None) and not _is_name(value):
            raise ValueError(f"a signature's {name} is no name")
    if not (facts.id.startswith(facts.family) and _NUMBER.fullmatch(facts.id[len(facts.family) :])):
        raise ValueError(f"signature {facts.id} is not numbered within its family {facts.family}")
    if facts.target is not None and facts.target not in TARGETS:
        raise ValueError(f"signature {facts.id} aims at what is none of {', '.join(TARGETS)}")
    if type(facts.min_hits) is not int or not 1 <= facts.min_hits < _MOST_HITS:  # a bool is an int to isinstance
        raise ValueError(f"signature {facts.id} has no positive number of hits")
    if type(facts.min_coverage) not in (int, float) or not 0 < facts.min_coverage <= 1:
        raise ValueError(f"signature {facts.id} has no coverage above 0 and up to 1")
    return facts


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAMES.fullmatch(value) is not None
