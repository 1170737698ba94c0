"""Signatures: what is kept of a known template, and how it is stored. No prompt text.

Between shingles and templates: **signatures** are what the index is built of, whether they come from the bundle or from
a local catalogue, and both store them as the same tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifier.types import Tier

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


def tensors_of(signatures: Sequence[Signature], dimensions: int) -> dict[str, NDArray[Any]]:
    """Signatures as they are stored: `shingles` u64 and `vectors` f32 [v, dimensions] end to end, signature i has
    `shingles[offsets[i] : offsets[i + 1]]` and the vectors whose `owners` are i.

    Signatures without vectors may have any dimensions. Raises ValueError if others differ from `dimensions`.
    """
    lists = [signature.shingles for signature in signatures]
    vectors = [signature.vectors for signature in signatures if len(signature.vectors)]
    if any(rows.shape[1] != dimensions for rows in vectors):
        raise ValueError(DO_NOT_FIT)
    return {
        "shingles": np.concatenate([np.empty(0, np.uint64), *lists]),
        "offsets": np.cumsum([0, *(len(x) for x in lists)]),
        "vectors": np.concatenate([np.empty((0, dimensions), np.float32), *vectors]),
        "owners": np.repeat(np.arange(len(signatures)), [len(signature.vectors) for signature in signatures]),
    }


def signatures_of(facts: Sequence[Facts], tensors: Mapping[str, NDArray[Any]]) -> list[Signature]:
    """What `tensors_of` stored, with its facts. Raises KeyError or ValueError if they do not fit together."""
    shingles, offsets, vectors, owners = (tensors[name] for name in ("shingles", "offsets", "vectors", "owners"))
    fits = (
        len(facts) == len(offsets) - 1
        and shingles.dtype == np.uint64
        and offsets[0] == 0
        and offsets[-1] == len(shingles)
        and bool(np.all(np.diff(offsets) >= 0))
        and vectors.dtype == np.float32
        and vectors.ndim == 2
        and len(vectors) == len(owners)
        and bool(np.all((owners[:-1] <= owners[1:]) & (owners[:-1] >= 0)))
        and bool(np.all(owners < len(facts)))
        and len({fact.id for fact in facts}) == len(facts)
    )
    if not fits:
        raise ValueError(DO_NOT_FIT)
    heads = np.searchsorted(owners, np.arange(len(facts) + 1))
    return [
        Signature(fact, shingles[offsets[i] : offsets[i + 1]], vectors[heads[i] : heads[i + 1]])
        for i, fact in enumerate(facts)
    ]


def parse_facts(row: Mapping[str, Any]) -> Facts:
    """Facts as `asdict` and JSON leave them. Raises TypeError or ValueError."""
    facts = Facts(**{**row, "tier": Tier(row["tier"])})
    if not (isinstance(facts.min_hits, int) and facts.min_hits > 0 and facts.min_coverage > 0):
        raise ValueError(f"signature {facts.id} has no positive thresholds")
    return facts
