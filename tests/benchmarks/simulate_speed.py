"""How fast `probewatch simulate` is on this machine, start-up to last file: events/s, bytes a prompt, peak memory.

    python -m tests.benchmarks.simulate_speed
    python -m tests.benchmarks.simulate_speed 58800000 275000 data/simulate/headline.toml

The second is the largest documented campaign in as much benign traffic again; it writes some 5 GB, which are removed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.bench.commands import run_probewatch

EXCHANGES, ACCOUNTS = 3_000_000, 30_000


def prompt_bytes(parts: list[Path]) -> float:
    """Mean bytes of the prompts in the first row group of each part."""
    n = total = 0
    for part in parts:
        prompts = pq.ParquetFile(part).read_row_group(0, columns=["prompt"])["prompt"].drop_null()
        n, total = n + len(prompts), total + pc.sum(pc.binary_length(prompts)).as_py()
    return float(total / n)


def main(exchanges: int, accounts: int, scenario: list[str]) -> None:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "simulated"
        sizes = ["--exchanges", str(exchanges), "--accounts", str(accounts)]
        plan = [word for file in scenario for word in ("--scenario", file)]
        took = run_probewatch(["simulate", "--out", str(out), "--quiet", *sizes, *plan])
        parts = sorted((out / "traffic").iterdir())
        size, stored = prompt_bytes(parts), sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"simulate, {exchanges:,} events of {accounts:,} accounts, prompts of {size:.0f} bytes:")
    print(
        f"  {exchanges / took.seconds:,.0f} events/s, {took.seconds:.1f} s; "
        f"{exchanges / took.processor_seconds:,.0f} events a second of one core"
    )
    print(f"  peak RSS {took.peak_mib:,.0f} MiB, {len(parts)} parts, {stored / 2**20:,.0f} MiB written")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]] if len(sys.argv) > 2 else [EXCHANGES, ACCOUNTS]
    main(numbers[0], numbers[1], sys.argv[3:4])
