"""Fifth stage: what the student learnt -> `embeddings.safetensors`, `lexicon.safetensors`, `classifier.onnx`.

Also the features of the lexicon while it is learnt, and the figures by which labels are judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from classifier.encoder import save_table
from classifier.heads import LOGITS
from classifier.lexicon import save_lexicon
from classifier.pipeline import CLASSIFIER, LEXICON, TABLE
from training.prepare import LABELS
from training.student import Student
from training.tune import UNKNOWN

INTENT_C = 0.3
OPSET = 18
IR_VERSION = 9

Floats = NDArray[np.float64]


def inverse_document_frequency(counts: csr_matrix) -> Floats:
    """Smoothed idf of every column, 0 for the last, which stands for nothing."""
    seen = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log((1 + counts.shape[0]) / (1 + seen)) + 1
    idf[-1] = 0
    return np.asarray(idf)


def weighed_rows(counts: csr_matrix, idf: Floats) -> csr_matrix:
    """Rows times idf over the root of the sum of idf squared, each as often as counted: what `Lexicon.scores`
    weighs."""
    norms = np.sqrt(counts @ (idf * idf))
    return csr_matrix(counts.multiply(idf).tocsr().multiply((1 / np.maximum(norms, 1e-12))[:, None]))


@dataclass(frozen=True)
class Line:
    """Logit of the intent over lexicon features."""

    weights: Floats
    bias: float


def fit_intent(features: csr_matrix, intents: NDArray[np.int64], weights: Floats) -> Line:
    """L2-regularised logistic regression over the words of a prompt (`weighed_rows`), where the intent is known. By
    coordinate steps, deterministic."""
    known = np.flatnonzero(intents != UNKNOWN)
    model = LogisticRegression(C=INTENT_C, solver="liblinear", max_iter=50, random_state=0)
    model.fit(features[known], intents[known], sample_weight=weights[known])
    return Line(model.coef_[0].astype(float), float(model.intercept_[0]))


def save_student(student: Student, intent: Line, idf: Floats, folder: Path) -> None:
    """Write the three files of the static tier."""
    save_table(student.table.weight.detach().numpy(), folder / TABLE)
    lexicon = np.column_stack([student.lexicon.weight.detach().numpy().astype(float), intent.weights])
    save_lexicon(lexicon, idf, folder / LEXICON)
    export(student, intent, folder / CLASSIFIER)


def export(student: Student, intent: Line, path: Path) -> None:
    """Write the layers as an ONNX graph over `labeler.head_features`: f32 [n, d + LOGITS] -> `logits` f32 [n, LOGITS].

    Spelt out, since the lexicon's scores pass by the layers and are added to what comes of them. The intent is the
    lexicon's alone.
    """
    first, second = (layer.weight.detach().numpy().T for layer in (student.first, student.second))
    weights = {
        "first": np.concatenate([first, np.zeros((LOGITS, first.shape[1]))]),
        "first_bias": student.first.bias.detach().numpy(),
        "second": np.column_stack([second, np.zeros(len(second))]),
        "second_bias": np.append(student.second.bias.detach().numpy(), intent.bias),
        "passing": np.concatenate([np.zeros((len(first), LOGITS)), np.eye(LOGITS)]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "first", "first_bias"], ["lines"]),
            helper.make_node("Relu", ["lines"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "second", "second_bias"], ["said"]),
            helper.make_node("MatMul", ["features", "passing"], ["scores"]),
            helper.make_node("Add", ["said", "scores"], ["logits"]),
        ],
        "heads",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(weights["passing"])])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", LOGITS])],
        [numpy_helper.from_array(np.ascontiguousarray(w, np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], weights: Floats) -> float:
    """Mean over the four labels of the weighted F1."""
    return float(
        f1_score(truth, predicted, average="macro", labels=range(len(LABELS)), sample_weight=weights, zero_division=0)
    )
