"""What was judged of a batch, and what follows from it for evidence: which units, and what counts in them.

    labeler (judges) -> **observations** -> tables, rows

The one place that decides it: tables, for files, and rows, for a service, only say it in their own form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.signatures import Facts
from classifier.templates import Matches
from classifier.types import LEVELS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Keys = NDArray[np.uint64]

ALWAYS = np.iinfo(np.int64).min
"""When signatures were approved that are in force at any time, such as those of a bundle."""


@dataclass(frozen=True)
class Judgement:
    """What is concluded of n prompts, all arrays of n rows.

    `capability`, `target`: index into TARGETS of what the prompt asks for, and of what a match in it aims at.
    `p_capability` [n, 4] over TARGETS, `p_extraction` and `opinion`, which is it without any match: of what no benign
    signature excuses. `exclusive`, `public`: a verified match of that tier.
    `explained`: a benign signature accounts for all but a match. `spans` [n, 2]: characters of what the scored text
    means, from the first to past the last shingle of the match; what stands between is taken for part of it.
    """

    capability: Ints
    target: Ints
    p_capability: Floats
    p_extraction: Floats
    opinion: Floats
    exclusive: Bools
    public: Bools
    explained: Bools
    spans: Ints


@dataclass(frozen=True)
class Judged:
    """All that is known of n prompts: what they match, `probabilities` [n, 4] (see `heads`), what is concluded of them,
    `spans` [n, 2] of matches in what was sent, and keyed hashes [n] of the whole text, its head and its tail."""

    matches: Matches
    probabilities: Floats
    judgement: Judgement
    spans: Ints
    keys: Keys
    heads: Keys
    tails: Keys


@dataclass(frozen=True)
class Observed:
    """Units of n judged events: one of the signature channel each, then one of the intent channel for the k `counted`
    [n], those in which nothing matched and something is unexplained.

    `hits` [3, n]: y, y_public and matched of the former; `levels` [k, 4] of the latter. Keys are `Judged.keys` and, of
    the latter, `Judged.heads`.
    """

    counted: Bools
    hits: NDArray[np.uint8]
    levels: NDArray[np.uint8]


class Observer:
    """Finds units. `facts`: of all signatures; `approved_us`: when local exclusive ones were approved, by id."""

    def __init__(self, facts: Sequence[Facts], approved_us: Mapping[str, int]) -> None:
        self._approved_us = np.array([approved_us.get(fact.id, ALWAYS) for fact in facts] + [ALWAYS])  # -1: no match

    def observe(self, judged: Judged, us: Ints) -> Observed:
        """The units of events that came at times `us` [n].

        A local exclusive signature may have been learnt from what was sent up to its approval. There its match is no
        hit, and intent is bet on as if it were not known: else an honest account's own prompts would be picked out of
        its past by what it sent, which no null allows.
        """
        judgement, index = judged.judgement, judged.matches.index
        matched, hits = index >= 0, np.zeros((3, len(index)), np.uint8)
        early = matched
        if np.count_nonzero(matched):
            early = us <= self._approved_us[index]
            bits = (1 << judgement.target).astype(np.uint8)
            hits[:] = bits * (judgement.exclusive & ~early), bits * judgement.public, matched
        counted = (~matched | early) & ~judgement.explained
        levels = np.rint(LEVELS * judgement.opinion[:, None] * judgement.p_capability)[counted]
        return Observed(counted, hits, levels.astype(np.uint8))
