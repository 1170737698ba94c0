"""Signatures of known families and applications: samples and honest text -> signatures.

texts by family, honest texts by group, facts -> **signatures** -> `TemplateIndex.build(...).save(bundle)`

A family's signatures are what its samples share and honest text does not (`classifier.induction`); how many shingles
make a match is set by what honest text holds of them. Needs no torch. Deterministic.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.encoder import Encoded, StaticEncoder, TokenBatch, l2_normalise
from classifier.induction import Cluster, Sampled, find_clusters
from classifier.shingles import Shingler, ShingleTable, tally
from classifier.templates import Facts, Signature
from classifier.text import normalise_text
from classifier.types import TARGETS, Tier

BLOCK = 1024  # texts at a time: their shingles fit the processor's cache
_SLOT = re.compile(r"\{[a-z_]+\}")
LEAST_SAMPLES = 5
"""Samples that must share a shingle: fewer, and a slot's content could pass for the template."""
LEAST_SHARE = 0.01
"""Part of a family's samples that a wording must have: rarer ones are payloads that recur."""
RARE = 1e-4
"""Part of a group of honest texts in which a shingle of a signature may occur."""
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


def read_families(path: Path) -> list[Family]:
    """Families that have a template, of a `data/templates/*.toml` file."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["family"]
    return [_family(entry) for entry in entries if entry.get("has_template", True)]


def _family(entry: Mapping[str, str]) -> Family:
    target = entry["capability"] if entry["capability"] in TARGETS else None
    return Family(entry["family"], entry["technique"], target, Tier(entry["tier"]))


def written_samples(path: Path, payloads: Sequence[str], n: int, seed: int) -> dict[str, list[str]]:
    """n prompts of each family whose text the file holds, every `{slot}` filled with a payload drawn at random."""
    rng = np.random.default_rng(seed)
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["family"]

    def fill(_: re.Match[str]) -> str:
        return payloads[int(rng.integers(len(payloads)))]

    return {entry["family"]: [_SLOT.sub(fill, entry["text"]) for _ in range(n)] for entry in entries}


def honest_texts(texts: Sequence[str], groups: Sequence[str], encoder: StaticEncoder) -> Honest:
    """Tokens of honest texts; `groups` names the group of each."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    return Honest(encoder.tokenizer.encode([normalise_text(text) for text in texts]), group, tuple(names.tolist()))


def build(
    families: Sequence[Family],
    samples: Mapping[str, Sequence[str]],
    honest: Honest,
    encoder: StaticEncoder,
    shingler: Shingler,
) -> list[Signature]:
    """Signatures of all families, in order. `samples`: texts of each family by name."""
    tokens = {f.name: encoder.tokenizer.encode([normalise_text(text) for text in samples[f.name]]) for f in families}
    sampled = {name: Sampled.of(shingler.words(batch)) for name, batch in tokens.items()}
    least = {name: max(LEAST_SAMPLES, round(LEAST_SHARE * rows.n)) for name, rows in sampled.items()}
    candidates = _recurring(sampled, least)
    public = [_named(family.name, tokens[family.name]) for family in families if family.tier is Tier.PUBLIC]
    groups = _join([honest, *public])
    rare = _document_shares(candidates, groups, shingler) <= RARE
    signatures: list[Signature] = []
    for family in families:
        common = candidates[~rare[:, _honest_to(family, groups, honest)].all(axis=1)]
        clusters = find_clusters(sampled[family.name], common, least[family.name])
        signatures += [
            _signature(family, number, cluster, sampled[family.name], samples[family.name], encoder)
            for number, cluster in enumerate(clusters)
        ]
    return _with_thresholds(signatures, families, groups, honest, shingler)


def _named(name: str, tokens: TokenBatch) -> Honest:
    return Honest(tokens, np.zeros(len(tokens), np.int64), (name,))


def _join(parts: Sequence[Honest]) -> Honest:
    """All texts, the groups of a part numbered after those of the parts before."""
    offsets, groups, names = [np.zeros(1, np.int64)], list[NDArray[np.int64]](), list[str]()
    for part in parts:
        offsets.append(part.tokens.offsets[1:] + offsets[-1][-1])
        groups.append(part.group + len(names))
        names += part.names
    tokens = TokenBatch(np.concatenate([part.tokens.ids for part in parts]), np.concatenate(offsets))
    return Honest(tokens, np.concatenate(groups), tuple(names))


def _honest_to(family: Family, groups: Honest, honest: Honest) -> NDArray[np.bool_]:
    """Which groups are honest use as far as a family goes, [groups].

    Not its own; public families only for an exclusive one.
    """
    known = np.arange(len(groups.names)) < (len(groups.names) if family.tier is Tier.EXCLUSIVE else len(honest.names))
    foreign: NDArray[np.bool_] = np.array([name != family.group for name in groups.names])
    return known & foreign


def _recurring(sampled: Mapping[str, Sampled], least: Mapping[str, int]) -> NDArray[np.uint64]:
    """Shingles that enough samples of some family share, sorted."""
    kept = [np.empty(0, np.uint64)]
    for name, rows in sampled.items():
        shingles, counts = np.unique(rows.shingle, return_counts=True)
        kept.append(shingles[counts >= least[name]])
    return np.unique(np.concatenate(kept))


def _blocks(tokens: TokenBatch) -> Iterator[tuple[int, TokenBatch]]:
    """(number of the first text, block of texts)."""
    for start in range(0, len(tokens), BLOCK):
        offsets = tokens.offsets[start : start + BLOCK + 1]
        yield start, TokenBatch(tokens.ids[offsets[0] : offsets[-1]], offsets - offsets[0])


def _document_shares(candidates: NDArray[np.uint64], honest: Honest, shingler: Shingler) -> NDArray[np.float64]:
    """Share of each group's texts that hold each candidate, [candidates, groups].

    One text in a small group counts as rare.
    """
    table, groups = ShingleTable([candidates]), len(honest.names)
    counts = np.zeros(len(candidates) * groups, np.int64)
    for start, block in _blocks(honest.tokens):
        hits = table.find(shingler.words(block))
        pairs = np.unique(hits.text * len(candidates) + hits.place)
        texts, places = np.divmod(pairs, len(candidates))
        np.add.at(counts, places * groups + honest.group[start + texts], 1)
    by_group = counts.reshape(-1, groups)
    return np.where(by_group > 1, by_group / np.bincount(honest.group, minlength=groups), 0)


def _signature(
    family: Family, number: int, cluster: Cluster, sampled: Sampled, texts: Sequence[str], encoder: StaticEncoder
) -> Signature:
    """A cluster's signature with the thresholds that its members suggest."""
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
    members = [texts[i] for i in np.flatnonzero(cluster.members)[:MOST_EMBEDDED]]
    encoded = encoder.encode([normalise_text(text) for text in members])
    return Signature(facts, cluster.shingles, _scaffold_vectors(encoded))


def _scaffold_vectors(encoded: Encoded) -> NDArray[np.float32]:
    """Mean first, and mean last, window of the members, [1 or 2, d].

    The payloads differ and average out, the scaffold stays.
    """
    heads, tails = encoded.window_offsets[:-1], encoded.window_offsets[1:] - 1
    ends = np.stack([encoded.windows[heads].mean(axis=0), encoded.windows[tails].mean(axis=0)])
    return l2_normalise(ends if (tails > heads).any() else ends[:1])


def _with_thresholds(
    signatures: Sequence[Signature], families: Sequence[Family], groups: Honest, honest: Honest, shingler: Shingler
) -> list[Signature]:
    """Signatures that need more shingles than any honest text holds; one of which none has enough is made public."""
    if not signatures:
        return []
    by_name = {family.name: _honest_to(family, groups, honest) for family in families}
    counted = np.stack([by_name[signature.facts.family] for signature in signatures])
    table, noise = ShingleTable([signature.shingles for signature in signatures]), np.zeros(len(signatures), np.int64)
    for start, block in _blocks(groups.tokens):
        found = tally(table.find(shingler.words(block)))
        chosen = counted[found.owner, groups.group[start + found.text]]
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
