"""Where the time of `probewatch label` goes, stage by stage, and what the library underneath takes for the same alone.

    python -m tests.benchmarks.stages [n]

n generated prompts of 500 bytes, Parquet in, all outputs out, in one process: `service.batch.label` as the command
calls it, with its functions watched. Processor time in microseconds a prompt, each stage without those that it calls;
`bound`: what stands behind it in brackets, measured alone on the same prompts, in blocks of the same size. Start-up is
left out. What no stage accounts for (threads of DuckDB and Arrow, passing from stage to stage) is the last row.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gigatoken
import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

import classifier.labeler
import service.batch
from classifier.bundle import default_bundle_dir
from classifier.encoder import StaticEncoder, Tokenizer
from classifier.heads import Heads
from classifier.labeler import BLOCK, Labeler, head_features
from classifier.lexicon import Lexicon, feature_columns
from classifier.pipeline import TOKENIZER, Pipeline
from classifier.shingles import Shingler, ShingleTable
from classifier.tables import Tables
from classifier.templates import TemplateIndex
from classifier.text import normal_form
from service.bench.traffic import prompts, write_parquet
from service.records import expand_inputs, read_parts
from service.run import RunFolder

PROMPTS, BOUND_PROMPTS, REPEATS = 100_000, 4 * BLOCK, 3
READ = "read Parquet"
STAGES: tuple[tuple[str, Any, str], ...] = (
    ("drop duplicate ids", service.batch, "new_events"),
    ("columns to texts, and the rest", Labeler, "_label_block"),
    ("reveal disguises", classifier.labeler, "reveal_all"),
    ("normal forms", Labeler, "read"),
    ("tokenise", Tokenizer, "encode"),
    ("sum embeddings", StaticEncoder, "_sums"),
    ("bounds, scale embeddings", StaticEncoder, "encode"),
    ("lexicon", Lexicon, "scores"),
    ("features", classifier.labeler, "head_features"),
    ("heads", Heads, "logits"),
    ("words", Shingler, "words"),
    ("known shingles", ShingleTable, "find"),
    ("verify matches", TemplateIndex, "match"),
    ("judge", Labeler, "_judge"),
    ("anchors, keyed hashes", classifier.labeler, "keyed_hashes"),
    ("label columns", Tables, "labels"),
    ("unit columns", Tables, "units"),
    ("merge units of a part", service.batch, "merge_units"),
    ("write a part", RunFolder, "write_part"),
    ("findings", service.batch, "conclude"),
)


@dataclass
class Watch:
    """Processor seconds of each stage; a stage that calls another waits."""

    seconds: Counter[str] = field(default_factory=Counter)
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    def over(self, owner: Any, attribute: str, stage: str) -> None:
        """Watch a function from now on."""
        work = getattr(owner, attribute)

        def watched(*args: Any, **options: Any) -> Any:
            self._turn(lambda: self._running.append(stage))
            try:
                return work(*args, **options)
            finally:
                self._turn(self._running.pop)

        setattr(owner, attribute, watched)

    def _turn(self, change: Callable[[], object]) -> None:
        now = time.thread_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        change()
        self._since = now


def main(n: int) -> None:
    pipeline, watch = Pipeline.load(default_bundle_dir()), Watch()
    texts = prompts(BOUND_PROMPTS)
    bounds = {stage: f"{cost:6.2f} ({what})" for stage, what, cost in measured_bounds(pipeline.labeler, texts)}
    for stage, owner, attribute in STAGES:
        watch.over(owner, attribute, stage)
    with TemporaryDirectory() as folder:
        source = Path(folder) / "traffic.parquet"
        write_parquet(source, n)
        bounds[READ] = f"{least_cost(lambda: pq.read_table(source), n):6.2f} (pyarrow)"
        (file,) = expand_inputs([str(source)])
        watch.seconds[READ] = least_cost(lambda: sum(part.n_read for part in read_parts(file)), n) * n / 1e6
        started = time.process_time()
        service.batch.label([str(source)], Path(folder) / "run", pipeline=pipeline, workers=1)
        total = time.process_time() - started
    print(f"{'stage':<32}{'us':>7}{'share':>7}   bound")
    rest = total - sum(watch.seconds.values())
    for stage in (READ, *(stage for stage, _, _ in STAGES)):
        print(row(stage, watch.seconds[stage], total, n) + bounds.get(stage, ""))
    print(row("threads, and what lies between", rest, total, n))
    print(row("all, of one core", total, total, n))


def row(stage: str, seconds: float, total: float, n: int) -> str:
    return f"{stage:<32}{seconds / n * 1e6:>7.2f}{seconds / total:>7.1%}   "


def least_cost(work: Callable[[], object], n: int) -> float:
    """Microseconds of processor time a prompt, the least of REPEATS runs."""
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken) / n * 1e6


def measured_bounds(labeler: Labeler, texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """(stage, what it cannot do without, microseconds a prompt)."""
    bpe = gigatoken.Tokenizer.from_json((default_bundle_dir() / TOKENIZER).read_bytes())
    normal = [[normal_form(text) for text in texts[start : start + BLOCK]] for start in range(0, len(texts), BLOCK)]
    tokens = [labeler.encoder.tokenizer.encode(block) for block in normal]
    columns = [feature_columns(batch, labeler.encoder.tokenizer.vocab_size) for batch in tokens]
    embedded = [labeler.encoder.encode(block) for block in normal]
    features = [head_features(one, labeler.lexicon.scores(one.tokens)) for one in embedded]
    rows, scores = labeler.encoder._table, labeler.lexicon._rows
    works: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("reveal disguises", "UTF-8 and one look at each byte", lambda: [looked_at(text.encode()) for text in texts]),
        ("normal forms", "one translation of the bytes", lambda: [looked_at(b) for block in normal for b in block]),
        ("tokenise", "gigatoken", lambda: [bpe.encode_batch(block, parallel=False) for block in normal]),
        ("sum embeddings", "CSR product", lambda: [product(t.ids, t.offsets, rows) for t in tokens]),
        ("lexicon", "CSR product", lambda: [product(c, o, scores) for c, o in columns]),
        ("heads", "onnxruntime", lambda: [labeler.heads.logits(block) for block in features]),
        ("anchors, keyed hashes", "BLAKE2b of the whole", lambda: [hashed(b) for block in normal for b in block]),
    )
    return [(stage, what, least_cost(work, len(texts))) for stage, what, work in works]


_SAME = bytes(range(256))


def looked_at(text: bytes) -> bytes:
    return text.translate(_SAME)


def hashed(text: bytes) -> bytes:
    return blake2b(text, digest_size=8, key=b"k").digest()


def product(columns: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    ones = np.ones(len(columns), np.float32)
    return csr_matrix((ones, columns, offsets), shape=(len(offsets) - 1, len(rows))) @ rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS)
