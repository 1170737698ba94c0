"""What a prompt costs: microseconds for one of about 500 bytes on one core, for `evaluate`.

Measured of what was just built, the best of a few passes, since other work on the machine only ever adds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from classifier.labeler import Labeler
from classifier.text import normalise_text
from classifier.transformer import TRANSFORMER, TRANSFORMER_TOKENIZER, Transformer
from training.tune import Tuned, export

BYTES = (450, 550)
PASSES = 5
BLOCK = 1024
FEW = 64  # prompts that suffice for a transformer

Costs = dict[str, float]


def prompts_of_500_bytes(texts: pd.Series, most: int, seed: int) -> list[str]:
    """At most `most` of the texts that are BYTES long in UTF-8."""
    sizes = texts.str.encode("utf-8", "replace").str.len()
    fitting = texts[sizes.between(*BYTES)]
    return list(fitting.sample(min(most, len(fitting)), random_state=seed))


def microseconds(work: Callable[[list[str]], object], texts: Sequence[str]) -> float:
    """Cost of a text where `work` is done on blocks of them, by one thread."""
    blocks = [list(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
    best = float("inf")
    with threadpool_limits(1):
        for _ in range(PASSES):
            started = time.perf_counter()
            for block in blocks:
                work(block)
            best = min(best, time.perf_counter() - started)
    return 1e6 * best / len(texts)


def tier_costs(labeler: Labeler, tuned: Tuned, texts: Sequence[str]) -> Costs:
    """Of both tiers, normalisation included, matching of templates not. The transformer is its int8 graph. NaN where no
    text is given."""
    if not texts:
        return {"static": float("nan"), "transformer": float("nan")}
    with tempfile.TemporaryDirectory() as temporary:
        export(tuned, Path(temporary))
        transformer = Transformer(Path(temporary) / TRANSFORMER, Path(temporary) / TRANSFORMER_TOKENIZER)
    told = microseconds(lambda block: transformer.logits([normalise_text(text) for text in block]), texts[:FEW])
    return {"static": microseconds(labeler.read, texts), "transformer": told}
