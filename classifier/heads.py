"""Heads: features of a prompt -> logits, by one ONNX graph, and logits -> calibrated probabilities.

Stands after encoder and lexicon, before labeler. The graph takes `features` f32 [n, d] and gives `logits` f32 [n, 5]:
one
for each of TARGETS, of which a prompt asks for one, and one for the intent to harvest answers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classifier.errors import BundleError
from classifier.types import TARGETS

if TYPE_CHECKING:
    import onnxruntime

LOGITS = len(TARGETS) + 1
_BLOCK, _LEAST_BLOCK = 64, 4
"""Most rows that are run at once, and of what number they are a multiple (padded): matrix kernels round a single row
otherwise than the same among others, and labels must not depend on which prompts happened to come together."""


@dataclass(frozen=True)
class Calibration:
    """Turns logits into probabilities that hold on sources never seen: `scale * logit + shift`, LOGITS each."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @cached_property
    def factors(self) -> NDArray[np.float32]:
        """Both as rows of an array, [2, LOGITS]."""
        return np.array([self.scale, self.shift], np.float32)


UNCALIBRATED = Calibration((1.0,) * LOGITS, (0.0,) * LOGITS)


def calibrated_probabilities(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """[n, LOGITS] -> [n, 4] in [0, 1]: CAPABILITIES (softmax over TARGETS, so what
    they leave to one is `other`), and extraction (its own sigmoid)."""
    lines = logits * calibration.factors[0] + calibration.factors[1]
    targets = np.exp(lines[:, :-1] - np.maximum.reduce(lines[:, :-1], axis=1, keepdims=True))
    probabilities = np.empty((len(lines), len(TARGETS)), np.float32)
    np.divide(targets, np.add.reduce(targets, axis=1, keepdims=True), out=probabilities)
    # what is left to `other` need not be said, and gives way to the intent
    probabilities[:, -1] = 1 / (1 + np.exp(-np.minimum(np.maximum(lines[:, -1], -60), 60)))
    return probabilities


def silence_onnxruntime() -> None:
    """To be called before onnxruntime is imported, which else writes an id of this machine below the user's home, to
    report to its makers under."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX graph, run by one thread.

    Raises:
        BundleError: it is none, or needs another onnxruntime.
    """
    silence_onnxruntime()
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
        raise BundleError(
            f"classifier {path.name}: not an ONNX graph that this onnxruntime can run; rebuild the bundle"
        ) from error


class Heads:
    """The classifier of a bundle. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._session = open_graph(path)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, d] -> [n, LOGITS]."""
        n = len(features)
        blocks = [self._run(features[start : start + _BLOCK]) for start in range(0, n, _BLOCK)]
        return np.concatenate([np.empty((0, LOGITS), np.float32), *blocks])[:n]

    def _run(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        if missing := -len(block) % _LEAST_BLOCK:
            block = np.concatenate([block, np.zeros((missing, block.shape[1]), np.float32)])
        return np.asarray(self._session.run(["logits"], {"features": block})[0], np.float32)
