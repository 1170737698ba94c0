"""Signing: a wording that induction found -> a signature with the thresholds that make it a match.

Beside the flow: samples -> induction -> **signing** -> `templates`. The one place where signatures are made, for the
shipped index (training) and for an analyst's new campaign (service). How much of a signature must be there is set by
what its own samples hold, then raised above what honest text holds. Needs no torch. Deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classifier.encoder import Encoded, StaticEncoder, TokenBatch, Tokenizer, l2_normalise
from classifier.induction import Cluster, Sampled
from classifier.shingles import MOST_TOKENS, Shingler, ShingleTable, tally, words_within
from classifier.signatures import Facts, Signature
from classifier.text import normalise_text
from classifier.types import Tier

BLOCK = 1024  # texts at a time: their shingles fit the processor's cache
LEAST_SAMPLES = 5
"""Samples that must share a shingle: fewer, and a slot's content could pass for the template."""
FEWEST_HITS, MOST_HITS, HIT_SHARE = 4, 7, 0.15
"""A match needs this part of a signature's shingles, within these bounds ..."""
NOISE_MARGIN = 2
"""... and this many more than any honest text has."""
MIN_COVERAGE = 0.03
"""Part of a signature's shingles that must stand in order. Low, for prompts that keep a third of a long template."""
BENIGN_COVERAGE = 0.3
"""The same for an application: what excuses must be there for the most part."""
POOL_SHARE = 0.35
"""A prompt of parts from a pool needs this part of the shingles that such a prompt usually holds."""
MEMBER_HITS = 0.8
"""Part of a signature's shingles that it may ask for; if honest text holds so many, its family is public."""
MOST_EMBEDDED = 64
"""Samples of a cluster that its vectors are means of."""


@dataclass(frozen=True)
class Family:
    """What is known of a family, or of an application (tier benign).

    `group`: the group of honest texts that is its own, if any.
    """

    name: str
    technique: str | None
    target: str | None
    tier: Tier
    group: str | None = None


@dataclass(frozen=True)
class Honest:
    """Honest texts as tokens, in named groups (a repository's applications, people ...).

    `group` indexes `names`, [n].
    """

    tokens: TokenBatch
    group: NDArray[np.int64]
    names: tuple[str, ...]


def whole_members(cluster: Cluster, texts: Sequence[str]) -> list[str]:
    """Up to MOST_EMBEDDED members in normal form. `texts`: all samples. For samples that are published: a mean of their
    windows tells of what a slot held."""
    return [normalise_text(texts[i]) for i in np.flatnonzero(cluster.members)[:MOST_EMBEDDED]]


def constant_members(
    cluster: Cluster, tokens: TokenBatch, accounts: NDArray[np.int64], encoder: StaticEncoder, shingler: Shingler
) -> list[str]:
    """Of up to MOST_EMBEDDED members, accounts in turn, the letters that the cluster's shingles are hashes of, and
    nothing else: what the vectors tell, the shingles told already. `tokens`, `accounts` [n]: of all samples."""
    return [
        _constant_text(tokens.of(i), cluster.shingles, encoder.tokenizer, shingler)
        for i in in_turns(np.flatnonzero(cluster.members), accounts)[:MOST_EMBEDDED].tolist()
    ]


def in_turns(samples: NDArray[np.int64], accounts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The samples: the first of each account, then the second of each ... `accounts`: of all samples."""
    samples = samples[np.argsort(accounts[samples], kind="stable")]
    sent_by = accounts[samples]
    turn = np.arange(len(samples)) - np.searchsorted(sent_by, sent_by)
    return samples[np.lexsort((sent_by, turn))]


def _constant_text(
    ids: NDArray[np.int32], shingles: NDArray[np.uint64], tokenizer: Tokenizer, shingler: Shingler
) -> str:
    words = shingler.words(TokenBatch(ids, np.array([0, len(ids)], np.int64)))
    constant = np.flatnonzero(words_within(words, shingles))
    kept = np.zeros(len(ids) + 2, np.bool_)  # an edge on either side
    for first, last in zip(words.first[constant].tolist(), words.last[constant].tolist(), strict=True):
        kept[1 + first : 2 + min(last, first + MOST_TOKENS - 1)] = True
    turns = np.flatnonzero(kept[1:] != kept[:-1]).tolist()
    runs = " ".join(tokenizer.decode(ids[start:end]) for start, end in zip(turns[::2], turns[1::2], strict=True))
    return normalise_text("".join(char if char.isalpha() else " " for char in runs))


def sign(
    family: Family, number: int, cluster: Cluster, sampled: Sampled, embedded: Sequence[str], encoder: StaticEncoder
) -> Signature:
    """A cluster's signature with the thresholds that its members suggest. `embedded`: what its vectors are means of, in
    normal form (see `whole_members`, `constant_members`)."""
    size = len(cluster.shingles)
    member_rows = sampled.where(cluster.members[sampled.sample] & np.isin(sampled.shingle, cluster.shingles))
    held = np.bincount(member_rows.sample, minlength=sampled.n)[cluster.members]
    usual = float(np.quantile(held, 0.05))
    min_hits = POOL_SHARE * usual if cluster.pooled else min(HIT_SHARE * usual, MOST_HITS)
    least = BENIGN_COVERAGE if family.tier is Tier.BENIGN else MIN_COVERAGE
    coverage = (
        POOL_SHARE / 2 * usual / size if cluster.pooled else least
    )  # parts come in any order: half of them ascend
    hits = max(FEWEST_HITS, round(min_hits))
    facts = Facts(f"{family.name}/{number}", family.name, family.technique, family.target, family.tier, hits, coverage)
    return Signature(facts, cluster.shingles, _scaffold_vectors(encoder.encode(embedded)))


def _scaffold_vectors(encoded: Encoded) -> NDArray[np.float32]:
    """Mean first, and mean last, window of the members, [1 or 2, d]: what differs averages out, the scaffold stays."""
    heads, tails = encoded.window_offsets[:-1], encoded.window_offsets[1:] - 1
    ends = np.stack([encoded.windows[heads].mean(axis=0), encoded.windows[tails].mean(axis=0)])
    return l2_normalise(ends if (tails > heads).any() else ends[:1])


def above_noise(
    signatures: Sequence[Signature], honest: Honest, counted: NDArray[np.bool_], shingler: Shingler
) -> list[Signature]:
    """Signatures that need more shingles than any honest text holds; one of which none has enough is made public.

    `counted` [signatures, groups]: whose texts are honest as far as a signature goes.
    """
    if not signatures:
        return []
    table, noise = ShingleTable([signature.shingles for signature in signatures]), np.zeros(len(signatures), np.int64)
    for start, block in blocks(honest.tokens):
        found = tally(table.find(shingler.words(block)))
        chosen = counted[found.owner, honest.group[start + found.text]]
        np.maximum.at(noise, found.owner[chosen], found.distinct[chosen])
    return [_bounded(signature, int(most)) for signature, most in zip(signatures, noise, strict=True)]


def _bounded(signature: Signature, noise: int) -> Signature:
    facts = signature.facts
    min_hits = max(facts.min_hits, noise + NOISE_MARGIN if noise else 0)
    if min_hits <= MEMBER_HITS * len(signature.shingles):
        return replace(signature, facts=replace(facts, min_hits=min_hits))
    if facts.tier is Tier.EXCLUSIVE:
        return replace(signature, facts=replace(facts, tier=Tier.PUBLIC))
    return signature


def blocks(tokens: TokenBatch) -> Iterator[tuple[int, TokenBatch]]:
    """(number of the first text, block of texts)."""
    for start in range(0, len(tokens), BLOCK):
        offsets = tokens.offsets[start : start + BLOCK + 1]
        yield start, TokenBatch(tokens.ids[offsets[0] : offsets[-1]], offsets - offsets[0])
