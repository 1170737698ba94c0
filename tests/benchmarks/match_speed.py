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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.bundle import data_dir, default_bundle_dir
from classifier.encoder import StaticEncoder
from classifier.labeler import BLOCK
from classifier.pipeline import Pipeline
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from service.bench.match import (
    MOST_IN_A_SET,
    PROMPTS,
    SEED,
    Traffic,
    cost,
    encoded_blocks,
    matched,
    ordinary_runs,
    seconds_to_load,
    set_look_up,
    synthetic,
    vector_recall,
)
from service.bench.traffic import BYTES, compose, sentences

ORDINARY_FOR_A_USE = 32
SIGNATURES = (500, 5_000, 50_000, 100_000)


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
