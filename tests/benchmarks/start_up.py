"""How long a user waits for the program itself: python -m tests.benchmarks.start_up

Each command runs in a fresh process, disk caches warm; the service is waited for until it takes traffic, over an empty
store at first and over the same afterwards. Prints the median of RUNS wall times in seconds, the interpreter's own
start included, and what was promised.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.serving import Process

ROOT = Path(__file__).resolve().parents[2]
RUNS = 7


def seconds(command: list[str]) -> float:
    """Wall time of one run of `command`, whose output is discarded."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def seconds_to_ready(store: str) -> float:
    """Wall time from the start of `probewatch serve` until it takes traffic."""
    server = Process(store)
    start = time.perf_counter()
    try:
        server.start()
        return time.perf_counter() - start
    finally:
        server.stop()


def label_sample(out: str) -> list[str]:
    program = "import sys; from service.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, "label", str(ROOT / "data" / "sample" / "traffic.jsonl"), "--out", out]


def main() -> None:
    imports = {name: [sys.executable, "-c", f"import {name}"] for name in ("sys", "classifier.pipeline", "service.cli")}
    promised = {"sys": "", "classifier.pipeline": "< 0.6", "service.cli": "< 0.6"}
    print(f"{'what':<28}{'seconds':>8}  promised")
    for name, command in imports.items():
        print(f"{'import ' + name:<28}{median(seconds(command) for _ in range(RUNS)):>8.3f}  {promised[name]}")
    with tempfile.TemporaryDirectory() as folder:
        taken = median(seconds(label_sample(f"{folder}/{run}")) for run in range(RUNS))
        print(f"{'label data/sample':<28}{taken:>8.3f}  < 3")
        ready = median(seconds_to_ready(f"sqlite:///{folder}/store.db") for _ in range(RUNS))
        print(f"{'serve, until ready':<28}{ready:>8.3f}  < 2")


if __name__ == "__main__":
    main()
