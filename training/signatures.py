"""Signatures of known families and applications: samples and honest text -> signatures.

texts by family, honest texts by group, facts -> **signatures** -> `TemplateIndex.build(...).save(bundle)`

A family's signatures are what its samples share and honest text does not (`classifier.induction`), made into matches
by `classifier.signing`; here is which text is honest to whom. Needs no torch. Deterministic.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.encoder import StaticEncoder, TokenBatch
from classifier.induction import Sampled, find_clusters
from classifier.shingles import Shingler, ShingleTable
from classifier.signatures import Signature
from classifier.signing import LEAST_SAMPLES, Family, Honest, above_noise, blocks, sign, whole_members
from classifier.text import normalise_text
from classifier.types import TARGETS, Tier

_SLOT = re.compile(r"\{[a-z_]+\}")
LEAST_SHARE = 0.01
"""Part of a family's samples that a wording must have: rarer ones are payloads that recur."""
RARE = 1e-4
"""Part of a group of honest texts in which a shingle of a signature may occur."""


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
            sign(family, number, cluster, sampled[family.name], whole_members(cluster, samples[family.name]), encoder)
            for number, cluster in enumerate(clusters)
        ]
    by_name = {family.name: _honest_to(family, groups, honest) for family in families}
    counted = np.array([by_name[signature.facts.family] for signature in signatures], np.bool_)
    return above_noise(signatures, groups, counted, shingler)


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


def _document_shares(candidates: NDArray[np.uint64], honest: Honest, shingler: Shingler) -> NDArray[np.float64]:
    """Share of each group's texts that hold each candidate, [candidates, groups].

    One text in a small group counts as rare.
    """
    table, groups = ShingleTable([candidates]), len(honest.names)
    counts = np.zeros(len(candidates) * groups, np.int64)
    for start, block in blocks(honest.tokens):
        hits = table.find(shingler.words(block))
        pairs = np.unique(hits.text * len(candidates) + hits.place)
        texts, places = np.divmod(pairs, len(candidates))
        np.add.at(counts, places * groups + honest.group[start + texts], 1)
    by_group = counts.reshape(-1, groups)
    return np.where(by_group > 1, by_group / np.bincount(honest.group, minlength=groups), 0)
