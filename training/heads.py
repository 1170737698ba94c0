"""Fifth stage: lexicon and heads -> `lexicon.safetensors`, `classifier.onnx`.

Linear on purpose: everything that had more freedom learnt the sources. Each head is a logistic regression, calibrated
on sources that it did not see, with the calibration folded into its coefficients, so that one matrix product and one
sigmoid make the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from classifier.encoder import Encoded
from classifier.labeler import decide_capability, head_features
from classifier.lexicon import count_features
from classifier.types import CAPABILITIES
from training.prepare import BENIGN, EXTRACTION, LABELS, PROMPT, source_weights

CAPABILITY_C = 3e-3  # strong: a third of the penalty costs 0.015 macro-F1 on left-out sources
LEXICON_C = 0.1
NEGATIVE_SHARES = {"organic": 0.5, "prompt": 0.15, "benign": 0.5}  # weight of each kind of negative, positives are 1
CALIBRATION_GROUPS = 4  # folds are left out this many together, to calibrate at half the cost
THRESHOLDS = tuple(np.round(np.arange(0.1, 0.71, 0.02), 2).tolist())
OPSET = 18
IR_VERSION = 9

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Linear:
    """Decision x @ weights + bias; a calibrated one is a logit."""

    weights: Floats
    bias: float

    def __call__(self, features: NDArray[np.float32] | csr_matrix) -> Floats:
        return np.asarray(features @ self.weights + self.bias, float)


def fit_linear(features: NDArray[np.float32] | csr_matrix, truth: Bools, weights: Floats, c: float) -> Linear:
    """L2-regularised logistic regression. Newton steps for dense features, coordinate steps for sparse ones: both
    deterministic."""
    solver = "liblinear" if isinstance(features, csr_matrix) else "newton-cholesky"
    model = LogisticRegression(C=c, solver=solver, max_iter=50, random_state=0)
    model.fit(features, truth, sample_weight=weights)
    return Linear(model.coef_[0].astype(float), float(model.intercept_[0]))


def platt(decisions: Floats, truth: Bools, weights: Floats) -> tuple[float, float]:
    """Slope and intercept of the sigmoid that turns decisions into probabilities (Platt 1999), by weighted maximum
    likelihood."""
    line = fit_linear(decisions[:, None].astype(np.float32), truth, weights, c=1e6)
    return float(line.weights[0]), line.bias


# --- what is learnt from
# ------------------------------------------------------------------------------------------------


def capability_rows(rows: pd.DataFrame) -> Bools:
    """Rows whose capability is known."""
    return np.asarray((rows["role"] == PROMPT) & (rows["label"] != ""))


def extraction_rows(rows: pd.DataFrame) -> Bools:
    """Rows for the extraction head: families with a template, against everything that is not extraction."""
    return np.asarray((rows["role"] != EXTRACTION) | rows["has_template"])


def capability_weights(rows: pd.DataFrame) -> Floats:
    """Every source counts the same within its label; labels nearly so, as extraction rows of a label take a share
    too."""
    weights = np.zeros(len(rows))
    for label in LABELS:
        of_label = np.asarray(rows["label"] == label)
        weights[of_label] = source_weights(rows["source"][of_label]) / of_label.sum()
    return np.asarray(weights * len(rows) / weights.sum())


def extraction_weights(rows: pd.DataFrame) -> Floats:
    """Positives weigh one in all, kinds of negatives NEGATIVE_SHARES; within each, every source the same."""
    positive, organic = np.asarray(rows["role"] == EXTRACTION), np.asarray(rows["organic"])
    kinds = {
        "organic": organic,
        "prompt": np.asarray(rows["role"] == PROMPT) & ~organic,
        "benign": np.asarray(rows["role"] == BENIGN),
    }
    weights = np.zeros(len(rows))
    for mask, share in [(positive, 1.0), *((kinds[kind], share) for kind, share in NEGATIVE_SHARES.items())]:
        weights[mask] = source_weights(rows["source"][mask]) / max(mask.sum(), 1) * share
    return np.asarray(weights * len(rows) / weights.sum())


# --- lexicon
# ------------------------------------------------------------------------------------------------------------


def inverse_document_frequency(counts: csr_matrix) -> Floats:
    """Smoothed idf of every column, 0 for the last, which stands for nothing."""
    seen = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log((1 + counts.shape[0]) / (1 + seen)) + 1
    idf[-1] = 0
    return np.asarray(idf)


def unit_rows(counts: csr_matrix, idf: Floats) -> csr_matrix:
    """Rows times idf, scaled to length one: what `Lexicon.scores` weighs."""
    scaled = counts.multiply(idf).tocsr()
    norms = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    return csr_matrix(scaled.multiply((1 / np.maximum(norms, 1e-12))[:, None]))


# --- heads
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadsFit:
    """Calibrated heads over `labeler.head_features`, the lexicon below them, and what they said of rows they did not
    learn from.

    `held_out`: probabilities [n, 4] of every row by heads fitted without its sources.
    """

    lines: tuple[Linear, ...]
    lexicon_weights: Floats
    idf: Floats
    held_out: Floats


@dataclass(frozen=True)
class Task:
    """One binary problem: which rows it is learnt from, what is true, how rows weigh, and its penalty. All arrays
    [n]."""

    rows: Bools
    truth: Bools
    weights: Floats
    c: float

    def fit(self, features: NDArray[np.float32] | csr_matrix, mask: Bools) -> Linear:
        return fit_linear(features[mask], self.truth[mask], self.weights[mask], self.c)


def fit_heads(rows: pd.DataFrame, encoded: Encoded, vocab_size: int) -> HeadsFit:
    """Fit every head on all rows, and calibrate it on decisions from fits that left the row's sources out."""
    held_out = np.full((len(rows), len(CAPABILITIES) + 1), np.nan)
    embeddings = head_features(encoded, np.zeros(len(rows), np.float32))[:, :-1]
    lines = []
    for column, capability in enumerate(CAPABILITIES):
        task = Task(
            capability_rows(rows), np.asarray(rows["label"] == capability), capability_weights(rows), CAPABILITY_C
        )
        line, held_out[:, column] = fit_calibrated(task, embeddings, np.asarray(rows["fold"]))
        lines.append(Linear(np.append(line.weights, 0), line.bias))
    counts = count_features(encoded.tokens, vocab_size)
    idf = inverse_document_frequency(counts)
    task = Task(extraction_rows(rows), np.asarray(rows["role"] == EXTRACTION), extraction_weights(rows), LEXICON_C)
    lexicon, held_out[:, -1] = fit_calibrated(task, unit_rows(counts, idf), np.asarray(rows["fold"]))
    lines.append(Linear(np.append(np.zeros(embeddings.shape[1]), 1.0), lexicon.bias))
    return HeadsFit(tuple(lines), lexicon.weights, idf, held_out)


def fit_calibrated(
    task: Task, features: NDArray[np.float32] | csr_matrix, folds: NDArray[np.int64]
) -> tuple[Linear, Floats]:
    """A calibrated line fitted on all rows of the task, and probabilities [n] of all rows by lines that left their
    group of folds out."""
    decisions = np.full(len(folds), np.nan)
    for group in range(CALIBRATION_GROUPS):
        test = folds % CALIBRATION_GROUPS == group
        decisions[test] = task.fit(features, task.rows & ~test)(features[test])
    used = task.rows
    slope, intercept = platt(decisions[used], task.truth[used], task.weights[used])
    whole = task.fit(features, used)
    held_out = 1 / (1 + np.exp(-(slope * decisions + intercept)))
    return Linear(slope * whole.weights, slope * whole.bias + intercept), held_out


def export(lines: Sequence[Linear], path: Path) -> None:
    """Write the heads as one ONNX graph, sigmoid(features x weights + bias): f32 [n, d] -> `probabilities` f32 [n,
    len(lines)].

    Spelt out, because skl2onnx has no form for heads that were fitted apart: it would take a graph for each and a
    merge.
    """
    weights = np.stack([line.weights for line in lines], axis=1).astype(np.float32)
    bias = np.array([line.bias for line in lines], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "heads",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(weights)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(lines)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def choose_thresholds(held_out: Floats, rows: pd.DataFrame) -> Floats:
    """Least probability to name each capability: best macro-F1 on held-out sources, weighted equally, by coordinate
    ascent."""
    known = capability_rows(rows) & ~np.asarray(rows["train_only"])
    truth = rows["label"][known].map(LABELS.index).to_numpy()
    weights = source_weights(rows["source"][known])
    probabilities = held_out[known].astype(np.float32)
    best = np.full(len(CAPABILITIES), 0.4, np.float32)
    for column in [*range(len(CAPABILITIES))] * 2:
        candidates = [np.where(np.arange(len(best)) == column, t, best).astype(np.float32) for t in THRESHOLDS]
        best = max(candidates, key=lambda c: macro_f1(truth, decide_capability(probabilities, c), weights))
    return best.astype(float)


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], weights: Floats) -> float:
    """Mean over the four labels of the weighted F1."""
    return float(f1_score(truth, predicted, average="macro", labels=range(len(LABELS)), sample_weight=weights))
