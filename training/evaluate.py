"""The report card: what the product says of sources, families and applications that were left out of everything it
learnt.

For each fold, tokenizer, encoder, lexicon, heads, thresholds and signatures are built again without the fold, and the
fold's rows go through the product's own labeler. Known families are measured by one more build, which leaves out
payloads instead of families. Half an hour to an hour on two cores. Sources weigh the same; so do families, and
applications.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from classifier.pipeline import load_labeler
from classifier.types import CAPABILITIES, EVENT_SCHEMA, TARGETS
from training.assemble import build_models, lessons
from training.heads import capability_rows, macro_f1
from training.prepare import BENIGN, EXTRACTION, FOLDS, LABELS, payload_buckets, source_weights

PAYLOAD_BUCKETS = 5
OPERATING_POINTS = (
    ("loose", 0.01, 0.05),
    ("strict", 0.001, 0.01),
)  # false positives on organic prompts, on applications
LEAST_SOURCE_ROWS = 100
RESAMPLES = 1000

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Bools = NDArray[np.bool_]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Recall:
    """Share of extraction found at an operating point, families weighted equally, with a bootstrap interval over
    families."""

    point: str
    mean: float
    low: float
    high: float
    by_family: pd.Series


def evaluate(rows: pd.DataFrame, work: Path, seed: int, log: Log) -> str:
    """The card, as Markdown."""
    taught = lessons(rows, work)
    labels = left_out_labels(rows, taught, seed, log)
    known, known_rows = known_family_labels(rows, taught, seed, log)
    parts = [
        "# Report card",
        capability_section(labels),
        gold_section(labels),
        extraction_section("families left out", recalls(labels)),
        extraction_section("known families, unseen payloads", recalls(known)),
        f"Known families: {known_rows} rows of unseen payloads.",
    ]
    return "\n\n".join(parts)


def left_out_labels(rows: pd.DataFrame, taught: Embeddings, seed: int, log: Log) -> pd.DataFrame:
    """Every row that counts, with what a build without its fold says of it."""
    folds = rows["fold"].to_numpy()
    tested = rows["learn"].to_numpy()
    labelled = []
    for fold in range(FOLDS):
        log(f"fold {fold + 1} of {FOLDS}")
        labelled.append(label_without(rows, taught, folds == fold, tested & (folds == fold), seed))
    return pd.concat(labelled, ignore_index=True)


def known_family_labels(rows: pd.DataFrame, taught: Embeddings, seed: int, log: Log) -> tuple[pd.DataFrame, int]:
    """The same for one bucket of payloads of every family that has a template, and the honest sources of one fold."""
    log("known families")
    extraction = ((rows["role"] == EXTRACTION) & rows["has_template"]).to_numpy()
    unseen = extraction & (payload_buckets(rows, PAYLOAD_BUCKETS) == 0)
    honest = ((rows["role"] != EXTRACTION) & (rows["fold"] == 0)).to_numpy()
    labelled = label_without(rows, taught, unseen | honest, (unseen | honest) & rows["learn"].to_numpy(), seed)
    return labelled, int((unseen & rows["learn"].to_numpy()).sum())


def label_without(rows: pd.DataFrame, taught: Embeddings, left_out: Bools, tested: Bools, seed: int) -> pd.DataFrame:
    """Rows `tested`, with the labels of a build from all rows but `left_out`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = build_models(rows[~left_out].reset_index(drop=True), taught[~left_out], folder, seed, lambda _: None)
        labeler = load_labeler(folder, models.thresholds)
    test = rows[tested].reset_index(drop=True)
    columns = ["capability", *(f"p_{name}" for name in CAPABILITIES), "p_extraction", "template_family", "benign_app"]
    labels = labeler.label(_events(test)).labels.select(columns).to_pandas()
    return pd.concat([test, labels], axis=1)


def _events(rows: pd.DataFrame) -> pa.RecordBatch:
    n = len(rows)
    columns = [
        pa.array([str(i) for i in range(n)]),
        pa.array(["evaluation"] * n),
        pa.array(np.arange(n), pa.int64()).cast(EVENT_SCHEMA.field("timestamp").type),
        pa.nulls(n, pa.string()),
        pa.array(rows["text"], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


# --- sections
# -----------------------------------------------------------------------------------------------------------


def capability_section(labels: pd.DataFrame) -> str:
    """Macro-F1 over sources, by label, and the recall of every source with enough rows."""
    rows = labels[capability_rows(labels) & ~labels["train_only"]].reset_index(drop=True)
    truth, named = rows["label"].map(LABELS.index).to_numpy(), rows["capability"].map(TARGETS.index).to_numpy()
    weights = source_weights(rows["source"])
    low, high = _source_interval(rows["source"], truth, named)
    each = f1_score(truth, named, average=None, labels=range(len(LABELS)), sample_weight=weights)
    lines = [
        f"## Capability, {rows['source'].nunique()} sources left out, {len(rows)} prompts",
        f"macro-F1 {macro_f1(truth, named, weights):.3f} (95 % interval over sources {low:.3f} to {high:.3f})",
        ", ".join(f"{label} {value:.3f}" for label, value in zip(LABELS, each, strict=True)),
        _source_table(rows),
    ]
    return "\n\n".join(lines)


def _source_interval(sources: pd.Series, truth: NDArray[np.int64], named: NDArray[np.int64]) -> tuple[float, float]:
    """Bootstrap over sources, each a weighted confusion matrix."""
    codes, names = pd.factorize(sources)
    confusion = np.zeros((len(names), len(LABELS), len(LABELS)))
    np.add.at(confusion, (codes, truth, named), 1)
    confusion /= confusion.sum(axis=(1, 2), keepdims=True)
    rng = np.random.default_rng(0)
    drawn = confusion[rng.integers(len(names), size=(RESAMPLES, len(names)))].sum(axis=1)
    right = np.diagonal(drawn, axis1=1, axis2=2)
    f1 = 2 * right / np.maximum(drawn.sum(axis=1) + drawn.sum(axis=2), 1e-12)
    low, high = np.quantile(f1.mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _source_table(rows: pd.DataFrame) -> str:
    found = (
        rows.assign(right=rows["label"] == rows["capability"]).groupby(["label", "part"])["right"].agg(["size", "mean"])
    )
    found = found[found["size"] >= LEAST_SOURCE_ROWS].sort_values("mean").reset_index()
    lines = [
        f"| {r.label} | {r.part} | {r.size_} | {r.mean:.2f} |"
        for r in found.rename(columns={"size": "size_"}).itertuples()
    ]
    return "\n".join(["| label | data set | n | recall |", "|---|---|---|---|", *lines])


def gold_section(labels: pd.DataFrame) -> str:
    """On hand-labelled organic rows whose reader was sure: coding F1, and agentic or planning named where it is
    neither."""
    gold = labels[labels["gold"].isin(LABELS) & (labels["gold_sure"] == 1)]
    coding = f1_score(gold["gold"] == "coding", gold["capability"] == "coding")
    rare = ["agentic_reasoning", "long_horizon_planning"]
    honest = gold[~gold["gold"].isin(rare)]
    alarms = honest["capability"].isin(rare).mean()
    figures = f"n {len(gold)}: coding F1 {coding:.3f}, false agentic and planning alarms {alarms:.3f}"
    return f"## Hand-labelled organic prompts\n\n{figures}"


def extraction_section(title: str, found: list[Recall]) -> str:
    lines = [f"## Extraction, {title}"]
    lines += [
        f"{r.point}: recall {r.mean:.3f} ({r.low:.3f} to {r.high:.3f}), {len(r.by_family)} families" for r in found
    ]
    worst = found[0].by_family.sort_values()
    lines.append("by family, loose: " + ", ".join(f"{name} {value:.2f}" for name, value in worst.items()))
    return "\n\n".join(lines)


def recalls(labels: pd.DataFrame) -> list[Recall]:
    """Recall at each operating point, its threshold set on honest rows of the same table."""
    scores = labels["p_extraction"].to_numpy(float)
    organic, benign = labels["organic"].to_numpy(), (labels["role"] == BENIGN).to_numpy()
    positive = ((labels["role"] == EXTRACTION) & labels["has_template"]).to_numpy()
    found = []
    for point, on_organic, on_benign in OPERATING_POINTS:
        thresholds = (
            upper_quantile(scores[organic], np.ones(organic.sum()), on_organic),
            upper_quantile(scores[benign], source_weights(labels["part"][benign]), on_benign),
        )
        family = pd.Series(scores[positive] > max(thresholds)).groupby(labels["part"][positive].to_numpy()).mean()
        drawn = family.to_numpy()[np.random.default_rng(0).integers(len(family), size=(RESAMPLES, len(family)))].mean(
            axis=1
        )
        low, high = np.quantile(drawn, (0.025, 0.975))
        found.append(Recall(point, float(family.mean()), float(low), float(high), family))
    return found


def upper_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Least value that at most `share` of the weight lies above."""
    order = np.argsort(-values)
    above = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(above, share, side="right")])
