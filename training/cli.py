"""What `probewatch train` and `probewatch evaluate` run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from classifier.errors import InputError
from training.assemble import Recipe, assemble, default_recipe
from training.encoder import TEACHER_PACKAGE, packaged_teacher
from training.evaluate import Groups
from training.evaluate import evaluate as run_evaluation
from training.prepare import prepare

WORK = Path(".training")
"""Where stages leave what need not be computed twice; safe to delete."""


def train(data: Path, out: Path, seed: int, encoder: str | None = None) -> None:
    """Train a bundle from the folder `data` and put it in `out`; with `encoder`, a sentence transformer to tune, the
    transformer tier is part of it."""
    recipe, log = _recipe(seed, encoder), _clock()
    log("reading")
    manifest = assemble(prepare(data, seed), data, out, WORK, recipe, encoder is not None, log)
    log(f"bundle {manifest.bundle_id} is in {out}")


def _recipe(seed: int, encoder: str | None) -> Recipe:
    recipe = default_recipe(seed)
    return recipe if encoder is None else replace(recipe, transformer=find_model(encoder))


def find_model(name: str) -> str:
    """The folder of the model that `--encoder` names: a folder, or the package that carries MiniLM."""
    folder = packaged_teacher() if name == TEACHER_PACKAGE else Path(name)
    if not (folder / "modules.json").is_file():
        raise InputError(
            f"--encoder {name}: is neither the folder of a sentence-transformers model (no modules.json there) nor"
            f" {TEACHER_PACKAGE}; nothing is downloaded, so give such a folder."
        )
    return str(folder)


def evaluate(data: Path, out: Path, groups: int, first: int, seed: int, encoder: str | None = None) -> None:
    """Print the report card and leave it in `out`, with the findings that a training can use."""
    recipe, log = _recipe(seed, encoder), _clock()
    out.mkdir(parents=True, exist_ok=True)
    run_evaluation(prepare(data, seed), recipe, Groups(groups, min(first, groups)), WORK, out, log)
    log(f"the report card is in {out}")


def _clock() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda message: print(f"[{time.monotonic() - started:5.0f} s] {message}", flush=True)
