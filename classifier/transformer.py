"""Transformer tier: a tuned sentence transformer as one ONNX graph, pooling and heads inside.

Stands beside the static heads: normalised texts -> **transformer** -> logits. It reads the first and the last
word pieces of a prompt, where asks stand; what lies between is read by templates and by the embedding of the whole, as
in every tier. Texts are run one by one: dynamic int8 scales follow the largest value of a whole batch, so batches would
change what a prompt is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from classifier.heads import LOGITS, open_graph

TRANSFORMER, TRANSFORMER_TOKENIZER = "encoder.onnx", "encoder-tokenizer.json"
MOST_PIECES = 128
"""Word pieces of a prompt that are read, the frame of special tokens included."""
HEAD_SHARE = 0.7
MOST_CHARS = 4000
"""Characters at either end that can matter: no word piece is longer than 30 on average."""


class Pieces:
    """Word pieces of a sentence transformer's own tokenizer, longer texts cut in the middle."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        inner = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a").ids
        start = next(i for i in range(len(framed)) if framed[i : i + len(inner)] == inner)
        self._before, self._after = framed[:start], framed[start + len(inner) :]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at most MOST_PIECES."""
        ends = [text if len(text) <= 2 * MOST_CHARS else f"{text[:MOST_CHARS]} {text[-MOST_CHARS:]}" for text in texts]
        encoded = self._tokenizer.encode_batch_fast(ends, add_special_tokens=False)
        return [[*self._before, *self._cut(pieces.ids), *self._after] for pieces in encoded]

    def _cut(self, ids: list[int]) -> list[int]:
        room = MOST_PIECES - len(self._before) - len(self._after)
        head = int(room * HEAD_SHARE)
        return ids if len(ids) <= room else [*ids[:head], *ids[len(ids) - (room - head) :]]


class Transformer:
    """The graph of a bundle that has one. Thread-safe."""

    def __init__(self, graph: Path, tokenizer: Path) -> None:
        self._pieces = Pieces(tokenizer)
        self._session = open_graph(graph)

    def logits(self, normalised: Sequence[str]) -> NDArray[np.float32]:
        """[n, LOGITS], columns as of `heads.Heads.logits`."""
        told = [self._run(ids) for ids in self._pieces.encode(normalised)]
        return np.concatenate(told) if told else np.zeros((0, LOGITS), np.float32)

    def _run(self, ids: list[int]) -> NDArray[np.float32]:
        pieces = np.array([ids], np.int64)
        feed = {"input_ids": pieces, "attention_mask": np.ones_like(pieces)}
        return np.asarray(self._session.run(["logits"], feed)[0], np.float32)
