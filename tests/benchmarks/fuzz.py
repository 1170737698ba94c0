"""Requests that nobody would send, from the OpenAPI document and beyond it: how each was answered, none by 500.

python -m tests.benchmarks.fuzz [--cases 100000] [--seed 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzzing import Fuzzed, fuzzed

PER_ROUND = 500
"""Cases of a kind before the next kind: each round has a seed of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, fuzzed(Path(folder)) as fuzz:
        try:
            rounds(fuzz, given.cases, given.seed)
        finally:  # what was counted until it was interrupted, or a case failed
            show(fuzz)


def rounds(fuzz: Fuzzed, n_cases: int, seeded: int) -> None:
    while fuzz.n < n_cases:
        fuzz.document(PER_ROUND, seeded)
        fuzz.bodies(PER_ROUND * 4, seeded)
        fuzz.console(PER_ROUND // 5, seeded)
        print(f"{fuzz.n:,} cases, {fuzz.n_errors} answered by 500 or above, after seed {seeded}", flush=True)
        seeded += 1


def show(fuzz: Fuzzed) -> None:
    calls = sorted({call for call, _ in fuzz.seen})
    for call in calls:
        answered = ", ".join(f"{status}: {n:,}" for (name, status), n in sorted(fuzz.seen.items()) if name == call)
        print(f"{call:<44} {answered}")
    print(f"{fuzz.n:,} cases, {fuzz.n_errors} answered by 500 or above, {len(calls)} calls")


if __name__ == "__main__":
    main()
