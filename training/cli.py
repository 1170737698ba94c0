"""What `probewatch train` and `probewatch evaluate` run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from training.assemble import assemble
from training.evaluate import evaluate as run_evaluation
from training.prepare import prepare

WORK = Path(".training")
"""Where stages leave what need not be computed twice; safe to delete."""


def train(data: Path, out: Path, seed: int) -> None:
    """Train a bundle from the folder `data` and put it in `out`."""
    log = _clock()
    log("reading")
    manifest = assemble(prepare(data, seed), data, out, WORK, seed, log)
    log(f"bundle {manifest.bundle_id} is in {out}")


def evaluate(data: Path, seed: int = 0) -> None:
    """Print the report card."""
    print(run_evaluation(prepare(data, seed), WORK, seed, _clock()))


def _clock() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda message: print(f"[{time.monotonic() - started:5.0f} s] {message}", flush=True)
