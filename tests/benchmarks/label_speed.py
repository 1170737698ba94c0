"""How fast `probewatch label` is on this machine, start-up to last output, and how its cost grows with the input.

    python -m tests.benchmarks.label_speed [n ...]

One row for each n, 100,000 and a million unless given: prompts a second of the clock, of one processor (a second of
each of two counts twice) and that in microseconds, start-up included; `marginal`: microseconds of processor time for
each prompt more than in the row before, which start-up does not enter; and the most memory that the command and its
workers held at once. Prompts are sentences of the sample traffic, put together at random to 500 bytes, nearly all
distinct.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from service.bench.commands import Took, run_probewatch
from service.bench.traffic import write_parquet

SIZES = (100_000, 1_000_000)


def main(sizes: Sequence[int]) -> None:
    print(f"{'prompts':>11}{'prompts/s':>11}{'/s of one':>11}{'us each':>9}{'marginal':>10}{'peak MiB':>10}")
    n_before, before = 0, 0.0
    for n in sizes:
        took = label_generated(n)
        seconds = took.processor_seconds
        marginal = f"{(seconds - before) / (n - n_before) * 1e6:>10.1f}" if n_before else f"{'':>10}"
        speeds = f"{n:>11,}{n / took.seconds:>11,.0f}{n / seconds:>11,.0f}{seconds / n * 1e6:>9.1f}"
        print(f"{speeds}{marginal}{took.peak_mib:>10,.0f}", flush=True)
        n_before, before = n, seconds


def label_generated(n: int) -> Took:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "traffic.parquet"
        write_parquet(source, n)
        return run_probewatch(["label", str(source), "--out", f"{folder}/run", "--quiet"])


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] if len(sys.argv) > 1 else SIZES)
