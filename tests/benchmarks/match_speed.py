"""What matching known templates costs on the batch path, by number of signatures, and whether more of them hide any.

    python -m tests.benchmarks.match_speed [--data DIR] [--signatures N ...]

Encoded blocks are given; what is timed is `TemplateIndex.match`: words, look-up, verification. One prompt in 33 uses a
template of the bundle; the others are ordinary: sentences of the sample traffic put together to 500 bytes or, with
--data (see data/README.md), pieces of that length of what people wrote. To the bundle's signatures synthetic ones are
added, of the same sizes and thresholds: random shingles, vectors near theirs, and phrases of the ordinary prompts, as
many as meet the prompts as often as the bundle's signatures do. Processor time of one thread, microseconds and seconds.
`recall`: of prompts that match the bundle alone, those that match the same; `others`: further matches, of synthetic
signatures that hold a phrase. `set look-up`: the look-up alone, in a set of Python integers. `vectors`: share of the
nearest vectors that the vector index names, beside all products, and what a search costs. `add`: until the index of all
is there; `load`: until it is read from files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from classifier.bundle import data_dir, default_bundle_dir
from classifier.encoder import Encoded, StaticEncoder, l2_normalise
from classifier.labeler import BLOCK
from classifier.pipeline import Pipeline
from classifier.shingles import shingle_hashes
from classifier.signatures import Signature
from classifier.templates import NEIGHBOURS, TemplateIndex
from classifier.text import normalise_text
from tests.benchmarks.label_speed import BYTES, compose, sentences

PROMPTS, SEED, REPEATS = 16 * BLOCK, 0, 9
ORDINARY_FOR_A_USE = 32
SIGNATURES = (500, 5_000, 50_000, 100_000)
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


def ordinary_prompts(data: Path | None, n: int, rng: np.random.Generator) -> list[str]:
    """n prompts of BYTES or a little less."""
    if data is None:
        pieces = sentences()
        return [compose(pieces, rng) for _ in range(n)]
    import pandas as pd

    rows = pd.read_parquet(data / "prompts.parquet", columns=["text", "kind"])
    whole = "\n".join(rows["text"][rows["kind"] == "human"].sample(frac=1, random_state=SEED)).encode()
    starts = rng.permutation(len(whole) // BYTES)[:n] * BYTES
    return [whole[start : start + BYTES].decode("utf-8", "ignore") for start in starts.tolist()]


def template_prompts(data: Path | None, ordinary: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """n prompts that use templates of the bundle, up to 1,500 characters of each."""
    if data is None:
        from training.signatures import written_samples

        by_family = written_samples(data_dir() / "templates" / "own.toml", [text[:100] for text in ordinary], 100, SEED)
        texts = [text for samples in by_family.values() for text in samples]
    else:
        import pandas as pd

        rows = pd.read_parquet(data / "extraction_traffic.parquet", columns=["text", "has_template"])
        texts = rows["text"][rows["has_template"]].tolist()
    return [texts[i][:1500] for i in rng.integers(len(texts), size=n).tolist()]


def traffic(data: Path | None, encoder: StaticEncoder) -> Traffic:
    """Ordinary prompts and uses of templates, mixed."""
    rng = np.random.default_rng(SEED)
    n_uses = PROMPTS // (ORDINARY_FOR_A_USE + 1)
    ordinary = ordinary_prompts(data, PROMPTS - n_uses, rng)
    texts = [*ordinary, *template_prompts(data, ordinary, n_uses, rng)]
    order = rng.permutation(PROMPTS)
    mixed = [normalise_text(texts[i]) for i in order.tolist()]
    return Traffic(mixed, encoded_blocks(mixed, encoder), order >= len(ordinary))


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


def line(index: TemplateIndex, alone: NDArray[np.int32], sent: Traffic) -> str:
    """Row of the table, after the number of signatures."""
    found, known = matched(index, sent), alone[0] >= 0
    recall = float(np.mean(found[0, known] == alone[0, known]))
    others = int(np.sum(found[:, ~known] != alone[:, ~known]))
    spent = cost(lambda: [index.match(block) for block in sent.blocks])
    plain = set_look_up(index, sent) if len(index.signatures) <= MOST_IN_A_SET else np.nan
    near, taken = vector_recall(index, sent)
    return f"{spent:10.2f}{plain:13.2f}{recall:9.2%}{others:8,}{near:10.2%}{taken:10.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--signatures", type=int, nargs="+", default=SIGNATURES)
    arguments = parser.parse_args()
    labeler = Pipeline.load(default_bundle_dir()).labeler
    bundle, encoder = labeler.templates, labeler.encoder
    sent = traffic(arguments.data, encoder)
    alone, runs = matched(bundle, sent), ordinary_runs(bundle, sent)
    more = synthetic(bundle, max(arguments.signatures) - len(bundle.signatures), runs)
    size = np.mean([len(text.encode()) for text in sent.texts])
    spoken = cost(lambda: [bundle.shingler.words(block.tokens) for block in sent.blocks])
    print(f"{PROMPTS:,} prompts of {size:.0f} bytes, in blocks of {BLOCK:,}; microseconds a prompt")
    print(f"  {sent.uses.sum():,} use a template, {np.sum(alone[0, sent.uses] >= 0):,} of them match the bundle")
    print(f"  {np.sum(alone[0, ~sent.uses] >= 0):,} others match it")
    print(f"  encode {cost(lambda: encoded_blocks(sent.texts, encoder), 3):.2f}, words alone {spoken:.2f}")
    print("signatures     match  set look-up   recall  others   vectors  ms a one   add s  load s")
    for n in arguments.signatures:
        started = time.thread_time()
        index = bundle.with_signatures(more[: n - len(bundle.signatures)])
        added = time.thread_time() - started
        loaded = seconds_to_load(index, encoder.dimensions)
        print(f"{n:10,}{line(index, alone, sent)}{added:8.2f}{loaded:8.2f}", flush=True)


if __name__ == "__main__":
    main()
