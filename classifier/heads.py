"""Heads: features of a prompt -> calibrated probabilities, by one ONNX graph.

Stands after encoder and lexicon, before labeler. The graph takes `features` f32 [n, d] and gives `probabilities` f32
[n, 4]: one column for each capability (independent, they need not add up to one) and the probability that the prompt
was made to harvest answers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented

from classifier.errors import BundleError

_BLOCK = 64
"""Rows run at once. Always this many (padded): matrix kernels round differently for other shapes, and labels must not
depend on which prompts happened to come together."""


class Heads:
    """The classifier of a bundle. Thread-safe."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
            raise BundleError(
                f"classifier {path.name}: not an ONNX graph that this onnxruntime can run; rebuild the bundle"
            ) from error

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, d] -> [n, 4] in [0, 1]: coding, agentic_reasoning, long_horizon_planning, extraction."""
        n = len(features)
        padded = np.zeros((-(-n // _BLOCK) * _BLOCK, features.shape[1]), np.float32)
        padded[:n] = features
        blocks = [self._run(padded[start : start + _BLOCK]) for start in range(0, len(padded), _BLOCK)]
        return np.concatenate(blocks)[:n] if blocks else np.zeros((0, 4), np.float32)

    def _run(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._session.run(["probabilities"], {"features": block})[0], np.float32)
