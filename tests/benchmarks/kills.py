"""kill -9 at random moments of `probewatch label`, then the same command again: what is left equals an undisturbed run.

    python -m tests.benchmarks.kills [--kills 50] [--prompts 200000]

Traffic is Parquet beside JSONL of which every hundredth record is broken, and some come twice. A run
is killed again and again, at a moment drawn anew, until one comes to its end; then the next begins.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from service.bench.traffic import write_parquet
from tests.runs import outputs, records, write

LABEL = "import sys; from service.cli import main; sys.exit(main())"
JSON_RECORDS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=200_000)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(Path(folder), given.kills, given.prompts)


def measure(folder: Path, n_kills: int, n_prompts: int) -> None:
    """Kill and resume until there were enough kills; exits with 1 at the first difference."""
    traffic = folder / "traffic"
    traffic.mkdir()
    write_parquet(traffic / "a.parquet", n_prompts)
    rows = records(JSON_RECORDS)
    lines = ["{broken" if i % 100 == 50 else json.dumps(rows[max(i - i % 7 // 6, 0)]) for i in range(len(rows))]
    write(traffic / "b.jsonl", lines)
    started = time.monotonic()
    finish(label(traffic, folder / "undisturbed"))
    whole, seconds = outputs(folder / "undisturbed"), time.monotonic() - started
    rng, killed, runs = random.Random(0), 0, 0
    while killed < n_kills:
        out = folder / f"run-{runs}"
        killed, runs = killed + kill_until_done(traffic, out, seconds, rng), runs + 1
        if outputs(out) != whole:
            sys.exit(f"run {runs}, {killed} kills so far: the outputs differ")
    n = n_prompts + JSON_RECORDS
    print(f"{killed} kills in {runs} runs of {n:,} records: all {len(whole)} files identical, every time")


def label(traffic: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", LABEL, "label", str(traffic), "--out", str(out), "--population", "5000", "--quiet"],
        stdout=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        sys.exit(f"probewatch label ended with {process.returncode}")


def kill_until_done(traffic: Path, out: Path, seconds: float, rng: random.Random) -> int:
    """Kills of one run. `seconds`: what an undisturbed one takes."""
    kills = 0
    while True:
        process = label(traffic, out)
        try:
            process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            finish(process)
            return kills
        kills += 1


if __name__ == "__main__":
    main()
