"""What an exported signature gives back to somebody who attacks it: of the slots, and of the scaffold.

    python -m tests.benchmarks.inversion --data DIR [--families N] [--words N]

The attacker holds the shingles (unsalted hashes), the vectors, tokenizer and encoder, a dictionary of --words words
(those of all three data files, and invented ones up to the number) and the commonest pairs of words of the prompts and
applications. Digits are no part of a signature, so no number is tried.

Shingles: each public pair of words is solved for the third (the hash of three words is linear in their hashes), and
what is found is extended word by word on both sides. Vectors: the nearest words, and words added greedily until their
sum points where the vector does. Slot content is what the samples say and hardly any later use does; the control is
what the same attack on a signature of other samples gives back of it: chance, and what the family talks about. That
the attack on vectors works is shown on the vector of one whole sample, which `templates add` never makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.bundle import default_bundle_dir
from classifier.encoder import StaticEncoder
from classifier.errors import InputError
from classifier.labeler import Labeler
from classifier.pipeline import Pipeline
from classifier.shingles import _WORD_BASE, Shingler, Words, shingle_hashes
from classifier.signatures import Signature
from classifier.signing import Family
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from classifier.types import Tier
from service.prompts import Prompts, sample_ordinary
from service.proposals import propose
from tests.benchmarks.induction import prompts_of

SEED, SAMPLES, ACCOUNTS = 0, 10, 3
RARE, USUAL = 0.02, 0.6
"""Part of later uses: below the first a word is a slot's, above the second the scaffold's."""
PAIRS = 200_000
CELL_SHIFT = np.uint64(64 - 25)
EMBEDDED_WORDS = 40_000
BLOCK = 10_000
GUESSED = 150
_INVERSE = np.uint64(pow(int(_WORD_BASE), -1, 1 << 64))
SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "ou")]

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Attacker:
    """What is known beside the signature: hashes of words, sorted, and their cells; pairs of words that occur, [2, p];
    and for the vectors some words' hashes and embeddings."""

    dictionary: Hashes
    cells: NDArray[np.bool_]
    pairs: Hashes
    spoken: Hashes
    embedded: NDArray[np.float32]

    def knows(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether each is the hash of a word; nearly all that are not stop at the cells."""
        known = self.cells.take((hashes >> CELL_SHIFT).view(np.int64))
        maybe = hashes[known]
        slots = np.minimum(np.searchsorted(self.dictionary, maybe), len(self.dictionary) - 1)
        known[known] = self.dictionary[slots] == maybe
        return known


def cells_of(dictionary: Hashes) -> NDArray[np.bool_]:
    """Which leading bits some hash has."""
    cells = np.zeros(1 << (64 - int(CELL_SHIFT)), np.bool_)
    cells[(dictionary >> CELL_SHIFT).view(np.int64)] = True
    return cells


# --- what is attacked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Signatures of one draw. `slots`, `scaffold`: word hashes; `slot_runs`: shingles that the samples alone say;
    `whole`: vector of the first sample, [1, d], and `whole_slots` its slot content."""

    signatures: list[Signature]
    slots: Hashes
    scaffold: Hashes
    slot_runs: Hashes
    whole: NDArray[np.float32]
    whole_slots: Hashes


def words_of(texts: Sequence[str], labeler: Labeler) -> Words:
    tokens = labeler.encoder.tokenizer.encode([normalise_text(text) for text in texts])
    return labeler.templates.shingler.words(tokens)


def document_shares(words: Words, wanted: Hashes) -> NDArray[np.float64]:
    """Part of the texts that hold each wanted word."""
    text = np.repeat(np.arange(len(words.offsets) - 1), np.diff(words.offsets))
    slots = np.minimum(np.searchsorted(wanted, words.hashes), len(wanted) - 1)
    met = wanted[slots] == words.hashes
    pairs = np.unique(np.stack([text[met], slots[met]]), axis=1)
    return np.bincount(pairs[1], minlength=len(wanted)) / max(len(words.offsets) - 1, 1)


def runs_of(words: Words) -> Hashes:
    hashes = shingle_hashes(words)
    return np.unique(hashes[words.texts_of(np.arange(len(hashes))) >= 0])


def case_of(
    name: str, samples: Sequence[str], later: Sequence[str], ordinary: Prompts, labeler: Labeler
) -> Case | None:
    """The signatures of samples, and what is whose. None if `templates add` refuses."""
    bare = TemplateIndex.build([], labeler.templates.shingler, labeler.encoder.dimensions)
    known, labeler.templates = labeler.templates, bare
    try:
        found = propose(
            prompts_of(samples, ACCOUNTS, "new").distinct(), Family(name, None, None, Tier.PUBLIC), ordinary, labeler
        )
    except InputError:
        return None
    finally:
        labeler.templates = known
    said, sent = words_of(samples, labeler), words_of(later, labeler)
    words = np.unique(said.hashes)
    shares, usual = document_shares(sent, words), np.unique(sent.hashes)
    return Case(
        signatures=[one.signature for one in found],
        slots=words[shares <= RARE],
        scaffold=usual[document_shares(sent, usual) >= USUAL],
        slot_runs=np.setdiff1d(runs_of(said), runs_of(sent)),
        whole=labeler.encoder.encode([normalise_text(samples[0])]).embeddings,
        whole_slots=np.intersect1d(words[shares <= RARE], said.hashes[: said.offsets[1]]),
    )


# --- the attack on shingles -------------------------------------------------------------------------------------------


def invert_shingles(shingles: Hashes, attacker: Attacker) -> dict[int, tuple[int, int, int]]:
    """The three words of each shingle that gives way, as hashes."""
    found = dict[int, tuple[int, int, int]]()
    first, second = attacker.pairs
    head, tail = (first * _WORD_BASE + second) * _WORD_BASE, first * _WORD_BASE + second
    for shingle in shingles:
        third = shingle - head
        known = attacker.knows(third)
        if known.any():
            i = int(np.flatnonzero(known)[0])
            found[int(shingle)] = (int(first[i]), int(second[i]), int(third[i]))
            continue
        before = (shingle - tail) * _INVERSE * _INVERSE
        known = attacker.knows(before)
        if known.any():
            i = int(np.flatnonzero(known)[0])
            found[int(shingle)] = (int(before[i]), int(first[i]), int(second[i]))
    return _extended(shingles, found, attacker)


def _extended(
    shingles: Hashes, found: dict[int, tuple[int, int, int]], attacker: Attacker
) -> dict[int, tuple[int, int, int]]:
    """Neighbours share two words, so two known words leave one to look up, on either side."""
    fresh = list(found.values())
    while fresh:
        left = np.array([s for s in shingles if int(s) not in found], np.uint64)
        grown = []
        for words in fresh:
            a, b, c = np.array(words, np.uint64)[:, None]
            after = left - (b * _WORD_BASE + c) * _WORD_BASE
            before = (left - a * _WORD_BASE - b) * _INVERSE * _INVERSE
            grown += [
                (int(left[i]), (words[1], words[2], int(after[i]))) for i in np.flatnonzero(attacker.knows(after))
            ]
            grown += [
                (int(left[i]), (int(before[i]), words[0], words[1])) for i in np.flatnonzero(attacker.knows(before))
            ]
        fresh = [words for shingle, words in grown if shingle not in found]
        found |= {shingle: words for shingle, words in grown if shingle not in found}
    return found


# --- the attack on vectors --------------------------------------------------------------------------------------------


def invert_vectors(vectors: NDArray[np.float32], attacker: Attacker) -> Hashes:
    """Words near a vector, and words whose sum comes near it."""
    if not len(vectors):
        return np.empty(0, np.uint64)
    lengths = np.linalg.norm(attacker.embedded, axis=1)
    guessed = []
    for vector in vectors:
        near = attacker.embedded @ vector / np.maximum(lengths, 1e-9)
        guessed.append(np.argsort(-near)[:GUESSED])
        guessed.append(_greedy(vector, attacker.embedded, lengths))
    return np.unique(attacker.spoken[np.concatenate(guessed)])


def _greedy(vector: NDArray[np.float32], words: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of the words added one after the other, each the one that brings the sum nearest in angle."""
    along, total, chosen = words @ vector, np.zeros_like(vector), []
    for _ in range(GUESSED):
        norms = np.sqrt(np.maximum(lengths**2 + 2 * (words @ total) + total @ total, 1e-12))
        best = int(np.argmax((along + total @ vector) / norms))
        chosen.append(best)
        total = total + words[best]
    return np.array(chosen)


# --- the attacker's knowledge -----------------------------------------------------------------------------------------


def invented_words(n: int) -> list[str]:
    """Names that nobody has, to make up the number."""
    rng = np.random.default_rng(SEED)
    syllables = np.array(SYLLABLES)
    return ["".join(syllables[rng.integers(len(syllables), size=k)]) for k in rng.integers(2, 6, n)]


def vocabulary(texts: Sequence[str], n: int, labeler: Labeler) -> Hashes:
    """Hashes of all words of texts and of invented ones, n if there are fewer, sorted."""
    blocks = (texts[i : i + BLOCK] for i in range(0, len(texts), BLOCK))
    said = np.unique(np.concatenate([np.unique(words_of(block, labeler).hashes) for block in blocks]))
    invented = np.unique(words_of(invented_words(2 * max(n - len(said), 1)), labeler).hashes)
    return np.union1d(said, np.setdiff1d(invented, said)[: max(n - len(said), 0)])


def pairs_of(words: Words) -> Hashes:
    """The commonest pairs of words, [2, PAIRS]."""
    pair = words.hashes[:-1] * np.uint64(0x9E3779B97F4A7C15) ^ words.hashes[1:]
    _, place, counts = np.unique(pair, return_index=True, return_counts=True)
    place = place[np.argsort(-counts, kind="stable")[:PAIRS]]
    return np.stack([words.hashes[place], words.hashes[place + 1]])


def embedded_words(
    texts: Sequence[str], encoder: StaticEncoder, shingler: Shingler
) -> tuple[Hashes, NDArray[np.float32]]:
    """The commonest words of texts: hashes, and sums of the rows of their tokens."""
    counts = pd.Series(word for text in texts for word in set(normalise_text(text).split()) if word.isalpha())
    common = [f" {word}" for word in counts.value_counts().index[:EMBEDDED_WORDS]]
    tokens = encoder.tokenizer.encode(common)
    words = shingler.words(tokens)
    single = np.flatnonzero(np.diff(words.offsets) == 1)
    return words.hashes[words.offsets[single]], encoder.encode(common).embeddings[single]


def share(part: Hashes, whole: Hashes) -> float:
    return float(np.isin(whole, part).mean()) if len(whole) else 0.0


# --- the table --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", type=int, default=8)
    parser.add_argument("--words", type=int, default=1_000_000)
    arguments = parser.parse_args()
    rows = pd.read_parquet(arguments.data / "extraction_traffic.parquet")
    rows = rows[rows["has_template"]].drop_duplicates(["family", "text"])
    public = [
        *pd.read_parquet(arguments.data / "prompts.parquet", columns=["text"])["text"],
        *pd.read_parquet(arguments.data / "benign_apps.parquet", columns=["text"])["text"],
    ]
    pipeline = Pipeline.load(default_bundle_dir())
    labeler, ordinary = pipeline.labeler, sample_ordinary()
    shingler, encoder = labeler.templates.shingler, labeler.encoder
    dictionary = vocabulary([*public, *rows["text"]], arguments.words, labeler)
    spoken, embedded = embedded_words(public[::12], encoder, shingler)
    pairs = pairs_of(words_of(public[::6], labeler))
    attacker = Attacker(dictionary, cells_of(dictionary), pairs, spoken, embedded)
    print(f"a dictionary of {len(dictionary):,} words, {len(spoken):,} of them embedded, {SAMPLES} samples a signature")
    print("of the signature: shingles, read; of the scaffold's words: read; of the slots: runs kept, words read from")
    print("shingles, control, words guessed from vectors, control, from the vector of one whole sample (never made)\n")
    sizes = rows["family"].value_counts()
    names = sorted(sizes.index[sizes >= 400])
    lines = list[list[float]]()
    for name in names[:: max(1, len(names) // arguments.families)][: arguments.families]:
        texts = rows["text"][rows["family"] == name].sample(frac=1, random_state=SEED).tolist()
        later = texts[2 * SAMPLES : 300]
        cases = [case_of(name, texts[i : i + SAMPLES], later, ordinary, labeler) for i in (0, SAMPLES)]
        if cases[0] is None or cases[1] is None:
            print(f"{name:32} refused by `templates add`")
            continue
        lines.append(attacked(name, cases[0], cases[1], attacker))
    means = np.mean(lines, axis=0)
    print(f"{'mean of ' + str(len(lines)):32}{means[0]:9.0f}" + formatted(means[1:]))


def attacked(name: str, case: Case, control: Case, attacker: Attacker) -> list[float]:
    """Attack a case and its control, print a line, and return its figures."""
    shingles = np.unique(np.concatenate([one.shingles for one in case.signatures]))
    read = invert_shingles(shingles, attacker)
    other = invert_shingles(np.unique(np.concatenate([one.shingles for one in control.signatures])), attacker)
    told, told_other = (np.array([w for words in r.values() for w in words], np.uint64) for r in (read, other))
    near, near_other = (
        invert_vectors(np.concatenate([one.vectors for one in c.signatures]), attacker) for c in (case, control)
    )
    figures = [
        len(read) / len(shingles),
        share(told, case.scaffold),
        share(shingles, case.slot_runs),
        share(told, case.slots),
        share(told_other, case.slots),
        share(near, case.slots),
        share(near_other, case.slots),
        share(invert_vectors(case.whole, attacker), case.whole_slots),
    ]
    print(f"{name:32}{len(shingles):9,}" + formatted(figures), flush=True)
    return [len(shingles), *figures]


def formatted(figures: Sequence[float]) -> str:
    read, scaffold, runs, *rest = figures
    return f"{read:7.1%}{scaffold:10.1%}{runs:11.2%}   " + "".join(f"{one:12.2%}" for one in rest)


if __name__ == "__main__":
    sys.exit(main())
