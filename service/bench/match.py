"""`probewatch bench match`: what matching known templates costs here, by number of signatures, and what it misses.

Encoded blocks are given; what is timed is `TemplateIndex.match`: words, look-up, verification. To the bundle's
signatures synthetic ones are added, of the same sizes and thresholds: random shingles, vectors near theirs, and phrases
of the ordinary prompts, as many as meet the prompts as often as the bundle's signatures do. Processor time of one
thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from classifier.encoder import Encoded, StaticEncoder, l2_normalise
from classifier.labeler import BLOCK, Labeler
from classifier.shingles import shingle_hashes
from classifier.signatures import Signature
from classifier.templates import NEIGHBOURS, TemplateIndex
from classifier.text import normalise_text
from service.bench.measures import Measure
from service.bench.traffic import BYTES, prompts

PROMPTS, SEED, REPEATS = 4 * BLOCK, 0, 9
PHRASE = 3
"""Shingles end to end that a synthetic signature has in common with ordinary text."""
SPREAD = 0.04
"""How far from the vectors of the bundle synthetic ones lie, in each dimension: variants of its templates."""
RECALLED = 256
"""Windows whose nearest vectors are looked for."""
MOST_IN_A_SET = 5_000
"""Signatures beyond which the set look-up is left out: it would take gigabytes."""


@dataclass(frozen=True)
class Traffic:
    """Encoded blocks; `uses` [n]: whether a prompt was made with a template."""

    texts: list[str]
    blocks: list[Encoded]
    uses: NDArray[np.bool_]


def measure_match(labeler: Labeler, sizes: Sequence[int], say: Callable[[str], None]) -> Iterator[Measure]:
    """Figures for the bundle's own signatures and for each of `sizes` above that. `say` hears what is measured."""
    bundle, texts = labeler.templates, [normalise_text(text) for text in prompts(PROMPTS, SEED)]
    sent = Traffic(texts, encoded_blocks(texts, labeler.encoder), np.zeros(PROMPTS, np.bool_))
    own = len(bundle.signatures)
    larger = sorted(size for size in set(sizes) if size > own)
    more = synthetic(bundle, max([own, *larger]) - own, ordinary_runs(bundle, sent))
    for n in (own, *larger):
        say(f"{n:,} signatures")
        index = bundle.with_signatures(more[: n - own])
        spent, note = cost(partial(matched, index, sent)), f"{n:,} signatures"
        yield Measure("match", spent, "us a prompt", f"{note}, prompts of {BYTES} bytes")
        if n <= MOST_IN_A_SET:
            plain = set_look_up(index, sent)
            yield Measure(
                "look-up in a set", plain, "us a prompt", f"{note}, the plainest way to do the first step alone"
            )
        recall, taken = vector_recall(index, sent)
        yield Measure(
            "nearest vectors found", recall, "of all", f"{note}, against all products; {taken:.2g} ms a search"
        )
        yield Measure("load", seconds_to_load(index, labeler.encoder.dimensions), "s", note)


def encoded_blocks(texts: Sequence[str], encoder: StaticEncoder) -> list[Encoded]:
    return [encoder.encode(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]


def cost(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Microseconds of one core a prompt, the least of several runs; what else the machine does counts little."""
    taken = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken) / PROMPTS * 1e6


def ordinary_runs(index: TemplateIndex, sent: Traffic) -> list[NDArray[np.uint64]]:
    """Shingles of each ordinary prompt, in order."""
    runs = []
    for block, uses in zip(sent.blocks, sent.uses.reshape(-1, BLOCK), strict=True):
        words = index.shingler.words(block.tokens)
        hashes = shingle_hashes(words)
        bounds = zip(words.offsets[:-1], words.offsets[1:] - 2, uses, strict=True)
        runs += [hashes[start:end] for start, end, use in bounds if not use]
    return runs


def synthetic(index: TemplateIndex, n: int, runs: Sequence[NDArray[np.uint64]]) -> list[Signature]:
    """n signatures beside those of the bundle, that meet `runs` as often as these do."""
    rng = np.random.default_rng(SEED)
    said, counts = np.unique(np.concatenate(runs), return_counts=True)
    known = np.concatenate([signature.shingles for signature in index.signatures])
    met = counts[np.searchsorted(said, np.intersect1d(said, known))].sum() / len(index.signatures)
    phrases = met / (PHRASE * counts[np.searchsorted(said, np.concatenate(runs))].mean())  # a signature, on average
    long_runs = [run for run in runs if len(run) >= PHRASE]
    made = []
    for number in range(n):
        like = index.signatures[int(rng.integers(len(index.signatures)))]
        shingles = rng.integers(1 << 64, size=len(like.shingles), dtype=np.uint64)
        if len(shingles) >= PHRASE and rng.random() < phrases:
            run = long_runs[int(rng.integers(len(long_runs)))]
            at = int(rng.integers(len(run) - PHRASE + 1))
            shingles[:PHRASE] = run[at : at + PHRASE]
        vectors = l2_normalise(like.vectors + rng.normal(scale=SPREAD, size=like.vectors.shape).astype(np.float32))
        family = f"synthetic_{number}"
        distinct = shingles[np.sort(np.unique(shingles, return_index=True)[1])]
        made.append(Signature(replace(like.facts, id=f"{family}/0", family=family), distinct, vectors))
    return made


def set_look_up(index: TemplateIndex, sent: Traffic) -> float:
    """Cost of the plainest way to do the look-up alone, words given: a set of Python integers."""
    known = set(np.concatenate([signature.shingles for signature in index.signatures]).tolist())
    hashes = [shingle_hashes(index.shingler.words(block.tokens)).tolist() for block in sent.blocks]
    return cost(lambda: [[i for i, value in enumerate(block) if value in known] for block in hashes], repeats=2)


def matched(index: TemplateIndex, sent: Traffic) -> NDArray[np.int32]:
    """Signatures that each prompt matches, extraction and benign, [2, n]."""
    matches = [index.match(block) for block in sent.blocks]
    return np.stack([np.concatenate([getattr(m, name) for m in matches]) for name in ("index", "benign")])


def seconds_to_load(index: TemplateIndex, dimensions: int) -> float:
    with TemporaryDirectory() as folder:
        index.save(Path(folder))
        started = time.thread_time()
        TemplateIndex.load(Path(folder), index.shingler, dimensions)
        return time.thread_time() - started


def vector_recall(index: TemplateIndex, sent: Traffic) -> tuple[float, float]:
    """Share of the nearest vectors of uses that a search of the vector index names, against all products; milliseconds
    a search."""
    windows = np.concatenate([block.windows for block in sent.blocks])[:RECALLED]
    products = windows @ index.vectors.rows.T
    least = np.sort(np.partition(products, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:], axis=1)[:, 0]
    index.vectors.nearest(windows[:1])
    started = time.thread_time()
    similarity, _ = index.vectors.nearest(windows)
    taken = (time.thread_time() - started) / len(windows) * 1e3
    return float(np.mean(similarity >= least[:, None] - 1e-5)), taken
