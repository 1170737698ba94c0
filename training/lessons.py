"""What is learnt from which row, and how often: the curriculum of transformer and student.

Between prepare and tune. Labels are drawn by fixed shares, and within a label sources by a low power of their size, so
that a large source does not become the label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.prepare import BENIGN, EVERY_BUILD, EXTRACTION, LABELS, PROMPT, source_weights
from training.tune import UNKNOWN, Lesson
from training.written import filled_wordings

_SHARES = {"coding": 0.175, "agentic_reasoning": 0.175, "long_horizon_planning": 0.14, "other": 0.21}
CAPABILITY_SHARES = {label: _SHARES.get(label, 0.14) for label in LABELS}
INTENT_SHARES = {"families": 0.08, "wordings": 0.07, "applications": 0.08, "benign wordings": 0.04, "organic": 0.03}
INTENT_WEIGHTS = {
    **{"families": 1.0, "wordings": 1.0},
    **{"organic": 0.5, "prompts": 0.15, "applications": 0.5, "benign wordings": 0.4},
}
PART_POWER = 0.4  # a part of n rows is drawn n^0.4 as often as one of a single row
WRITTEN_WEIGHT = 1.5  # what was written for training is many voices, and holds the labels best
ORGANIC_WEIGHT = 4.0  # what people really ask of a chat model is most of what will be labelled
COPIES = 10  # prompts made of every wording

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def with_wordings(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows, and below them prompts made of the wordings in `data/written`, filled with texts of these rows."""
    made = filled_wordings(rows["text"][rows["role"] == PROMPT].tolist(), COPIES, seed)
    made = made.assign(
        role=made["kind"].map({"extraction": EXTRACTION, "benign": BENIGN}),
        whole=made["text"],
        source="written/wordings",
        fold=EVERY_BUILD,
        **{"label": "", "lesson": "", "gold": "", "organic": False, "has_template": True, "train_only": True},
    )
    return pd.concat([rows, made], ignore_index=True)


def intents(rows: pd.DataFrame) -> NDArray[np.int64]:
    """1 for prompts of harvesting families, 0 for honest ones, UNKNOWN for what is sent by both: bare instructions, and
    the harnesses and puzzles of agentic and planning benchmarks."""
    role, wording = rows["role"].to_numpy(), rows["has_template"].to_numpy(bool)
    both = (rows["role"] == PROMPT) & rows["lesson"].isin(["agentic_reasoning", "long_horizon_planning"])
    both &= ~rows["organic"] & ~rows["train_only"]
    told = np.where(role == EXTRACTION, np.where(wording, 1, UNKNOWN), 0)
    return np.where(both, UNKNOWN, told).astype(np.int64)


def curriculum(rows: pd.DataFrame) -> Lesson:
    """The lesson of every row, [n]."""
    capability = np.array([LABELS.index(label) if label else UNKNOWN for label in rows["lesson"]], np.int64)
    return Lesson(capability, intents(rows), _draws(rows, _strata(rows), {**CAPABILITY_SHARES, **INTENT_SHARES}))


def _strata(rows: pd.DataFrame) -> dict[str, Bools]:
    """Rows of each share."""
    role, made = rows["role"].to_numpy(), (rows["source"] == "written/wordings").to_numpy()
    extraction = (role == EXTRACTION) & rows["has_template"].to_numpy(bool)
    unread = (role == PROMPT) & (rows["lesson"] == "").to_numpy()
    return {
        **{label: (role == PROMPT) & (rows["lesson"] == label).to_numpy() for label in LABELS},
        "families": extraction & ~made,
        "wordings": extraction & made,
        "applications": (role == BENIGN) & ~made,
        "benign wordings": (role == BENIGN) & made,
        "organic": unread & rows["organic"].to_numpy(bool),
    }


def _draws(rows: pd.DataFrame, strata: Mapping[str, Bools], shares: Mapping[str, float]) -> Floats:
    draws = np.zeros(len(rows))
    for name, chosen in strata.items():
        parts = rows["part"][chosen]
        weights = parts.map(parts.value_counts()).to_numpy(float) ** (PART_POWER - 1)
        weights *= np.where(parts.str.startswith("written_"), WRITTEN_WEIGHT, 1.0)
        weights *= np.where(rows["organic"][chosen].astype(bool), ORGANIC_WEIGHT, 1.0)
        draws[chosen] = shares[name] * weights / max(weights.sum(), 1e-12)
    return np.asarray(draws / draws.sum())


def intent_weights(rows: pd.DataFrame) -> Floats:
    """Weights for learning the intent of words: kinds of texts by INTENT_WEIGHTS, within each every source the same."""
    strata, weights, known = _strata(rows), np.zeros(len(rows)), intents(rows) != UNKNOWN
    organic = (rows["role"] == PROMPT).to_numpy() & rows["organic"].to_numpy(bool)
    strata |= {"organic": organic, "prompts": (rows["role"] == PROMPT).to_numpy() & ~organic}
    for name, share in INTENT_WEIGHTS.items():
        chosen = strata[name] & known
        weights[chosen] = share * source_weights(rows["source"][chosen]) / max(chosen.sum(), 1)
    return np.asarray(weights * len(rows) / weights.sum())
