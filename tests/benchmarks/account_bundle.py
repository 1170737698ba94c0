"""A bundle for the account benchmark, and what it has never seen.

    rows -> split -> a static-tier bundle of what is kept; **held-out rows** -> worlds

Of every role, and of prompts of every kind, the sources are sorted and each QUARTERS-th is left out, with the near-
duplicates of its rows: repositories of families (no signature, no part in the learning), of applications, and of
people. Of the families that stay, a quarter of the payloads is left out. Calibration, thresholds and baselines come
from the evaluation's labels of sources that its builds had not seen, less everything that is held out here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.bundle import MANIFEST, BundleFacts, data_dir, write_manifest

QUARTERS, SEED = 4, 0
EVALUATION_GROUPS = 4
Log = Callable[[str], None]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Of n rows, [n]: `unseen`, of sources left out; `fresh`, payloads left out of families that stay; `learnt`."""

    unseen: Bools
    fresh: Bools
    learnt: Bools


def split(rows: pd.DataFrame) -> Split:
    """What is left out; near-duplicates of what is unseen are neither learnt nor tested."""
    from training.prepare import EXTRACTION, PROMPT, payload_buckets

    kind = np.where(rows["role"] == PROMPT, rows["kind"], "")  # a repository is left out whole
    voices = rows["role"] + "/" + kind
    out = np.zeros(len(rows), bool)
    measured = ~rows["train_only"].to_numpy(bool)
    for voice in sorted(set(voices[measured])):
        own = measured & (voices == voice).to_numpy()
        out |= own & rows["source"].isin(sorted(set(rows["source"][own]))[::QUARTERS]).to_numpy()
    kin = rows["lineage"].isin(set(rows["lineage"][out])).to_numpy()
    extraction = (rows["role"] == EXTRACTION).to_numpy()
    fresh = extraction.copy()
    fresh[extraction] = payload_buckets(rows[extraction].reset_index(drop=True), QUARTERS) == 0
    fresh &= ~(out | kin)
    return Split(out, fresh, ~(out | kin | fresh))


def bundle_without(rows: pd.DataFrame, parts: Split, work: Path, log: Log) -> Path:
    """The bundle of what is learnt, from the work folder if it is there; its name tells what it was built from, but
    for the code: after a change of that, empty the folder."""
    from training.assemble import build_models, default_recipe, geometry
    from training.evaluate import inputs_digest

    recipe = default_recipe(SEED)
    told = inputs_digest(rows, recipe).encode() + np.packbits(parts.learnt).tobytes()
    folder = work / f"accounts-{sha256(told).hexdigest()[:12]}"
    if not (folder / MANIFEST).is_file():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = _facts(rows, parts, work, log)
        embedded = geometry(rows, work)[parts.learnt]
        build_models(rows[parts.learnt].reset_index(drop=True), embedded, partial, recipe, log)
        shutil.copy(data_dir() / "taxonomy.toml", partial)
        write_manifest(partial, facts)
        partial.rename(folder)
    return folder


def _facts(rows: pd.DataFrame, parts: Split, work: Path, log: Log) -> BundleFacts:
    """Decisions, baselines and their certificate: of what is kept here, by builds that had not seen it."""
    from training.assemble import default_recipe
    from training.evaluate import find, kept_labels, said_of_left_out

    recipe = default_recipe(SEED)
    groups = [kept_labels(rows, recipe, EVALUATION_GROUPS, i, work, log) for i in range(EVALUATION_GROUPS)]
    labels = pd.concat(groups, ignore_index=True)
    sources = set(zip(rows["role"][parts.unseen], rows["source"][parts.unseen], strict=True))
    out = [key in sources for key in zip(labels["role"], labels["source"], strict=True)]
    kin = labels["lineage"].isin(set(rows["lineage"][parts.unseen]))
    kept = labels[~(np.array(out) | kin)].reset_index(drop=True)
    found = find(kept, said_of_left_out(kept)).static
    return BundleFacts(
        decisions=found.decisions,
        baselines=found.baselines,
        certification=found.certification,
        provenance={"seed": SEED, "rows": int(parts.learnt.sum())},
        quality=found.quality,
        versions={},
    )
