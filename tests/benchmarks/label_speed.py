"""How fast `probewatch label` is on this machine, start-up to last output: prompts/s and peak memory.

    python -m tests.benchmarks.label_speed [n]

Prompts are sentences of the sample traffic, put together at random to 500 bytes, nearly all distinct.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from classifier.bundle import data_dir

PROMPTS, ACCOUNTS, BYTES = 300_000, 1_000, 500


def write_traffic(path: Path, n: int) -> float:
    """Write n events, a million at most in memory, and return the mean bytes a prompt."""
    rng = np.random.default_rng(0)
    pieces = sentences()
    texts = [compose(pieces, rng) for _ in range(n)]
    start = 1_788_220_800_000_000  # September 2026
    columns = {
        "event_id": pa.array([f"e{i}" for i in range(n)]),
        "account_id": pa.array([f"a{i}" for i in rng.integers(ACCOUNTS, size=n)]),
        "timestamp": pa.array(start + np.arange(n) * 10_000_000, pa.timestamp("us", tz="UTC")),
        "prompt": pa.array(texts),
    }
    pq.write_table(pa.table(columns), path, row_group_size=65_536)
    return float(np.mean([len(text.encode()) for text in texts]))


def sentences() -> list[str]:
    """Distinct sentences of what the sample's ordinary accounts sent, sorted."""
    sample = data_dir() / "sample"
    truth = json.loads((sample / "truth.json").read_text(encoding="utf-8"))
    records = map(json.loads, (sample / "traffic.jsonl").read_text(encoding="utf-8").splitlines())
    ordinary = (record for record in records if truth["accounts"][record["account_id"]]["campaign"] is None)
    prompts = (record["prompt"] for record in ordinary if "prompt" in record)
    return sorted({piece.strip() for prompt in prompts for piece in prompt.replace("\n", ". ").split(". ") if piece})


def compose(pieces: list[str], rng: np.random.Generator) -> str:
    """Sentences drawn at random, cut at BYTES."""
    chosen, length = [], 0
    while length < BYTES:
        piece = pieces[int(rng.integers(len(pieces)))]
        chosen.append(piece)
        length += len(piece.encode()) + 2
    return ". ".join(chosen)[:BYTES]


def watch(process: subprocess.Popen[bytes]) -> float:
    """Wait for a command and return the most memory (RSS, MiB) that it and its workers held together."""
    most = 0.0
    while process.poll() is None:
        most = max(most, session_memory(process.pid))
        time.sleep(0.1)
    assert process.returncode == 0
    return most


def session_memory(session: int) -> float:
    """Resident memory of all processes of a session, in MiB; shared pages count once a process."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # a process may end while it is looked at
            fields = stat.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def main(n: int) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "traffic.parquet"
        size = write_traffic(source, n)
        started = time.perf_counter()
        program = "import sys; from service.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "label", str(source), "--out", f"{folder}/run", "--quiet"]
        process = subprocess.Popen(command, start_new_session=True)
        peak = watch(process)
        seconds = time.perf_counter() - started
        stages = json.loads((Path(folder) / "run" / "run.json").read_text())["seconds"]
    print(f"label, {n:,} prompts of {size:.0f} bytes, Parquet in, all outputs out:")
    print(f"  {n / seconds:,.0f} prompts/s, {seconds:.1f} s, peak RSS {peak:,.0f} MiB, stages {stages}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS)
