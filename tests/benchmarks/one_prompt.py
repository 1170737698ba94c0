"""What the pipeline takes for one prompt, and for the few that a service labels together.

    python -m tests.benchmarks.one_prompt [n]

n generated prompts of 500 bytes and as many of `data/sample`, of which some match. Each batch is measured by itself, in
microseconds of processor time: `judged` is what scoring cannot do without, `labelled` is that and the tables of labels
and units. A busy machine shows in the 99th percentile before it shows in the median; `quiet` is the median of the best
of ROUNDS for each batch. Promised: p50 <= 150 us, p99 <= 1,000 us, one prompt at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from classifier.bundle import data_dir, default_bundle_dir
from classifier.pipeline import Pipeline
from classifier.text import scored_text
from classifier.types import EVENT_SCHEMA
from service.bench.traffic import prompts
from service.records import expand_inputs, read_parts

PROMPTS, ROUNDS = 400, 5
SIZES = (1, 4, 16, 64, 256)


def main(n: int) -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    print(f"{'prompts':<18}{'at once':>8}{'':>10}{'p50':>9}{'p99':>9}{'quiet':>9}{'a prompt':>10}")
    for name, events in (("500 bytes", generated(n)), ("of the sample", sampled(n))):
        for size in [size for size in SIZES if size <= n] if name == "500 bytes" else SIZES[:1]:
            batches = [events.slice(start, size) for start in range(0, len(events) - size + 1, size)]
            texts = [texts_of(batch) for batch in batches]
            print(row(name, size, "judged", [partial(pipeline.labeler.judge, one) for one in texts]))
            print(row(name, size, "labelled", [partial(pipeline.label, one) for one in batches]))


def row(name: str, size: int, what: str, works: Sequence[Callable[[], object]]) -> str:
    taken = np.array([[microseconds(work) for work in works] for _ in range(1 + ROUNDS)])[1:]  # the first one warms up
    quiet = float(np.median(taken.min(axis=0)))
    p50, p99 = np.percentile(taken, (50, 99)).tolist()
    return f"{name:<18}{size:>8}{what:>10}{p50:>9,.0f}{p99:>9,.0f}{quiet:>9,.0f}{quiet / size:>10,.1f}"


def microseconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return (time.thread_time() - started) * 1e6


def generated(n: int) -> pa.RecordBatch:
    rows = [
        {"event_id": f"e{i}", "account_id": "a", "timestamp": i, "system": None, "prompt": prompt}
        for i, prompt in enumerate(prompts(n))
    ]
    return pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)


def sampled(n: int) -> pa.RecordBatch:
    (file,) = expand_inputs([str(data_dir() / "sample" / "traffic.jsonl")])
    parts = [part.events.select(EVENT_SCHEMA.names) for part in read_parts(file)]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0].cast(EVENT_SCHEMA).slice(0, n)


def texts_of(events: pa.RecordBatch) -> list[str]:
    sent = zip(events["system"].to_pylist(), events["prompt"].to_pylist(), strict=True)
    return [scored_text(system, prompt) for system, prompt in sent]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS)
