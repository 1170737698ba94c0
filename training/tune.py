"""Third stage: a sentence transformer, tuned on labels: the transformer tier, and the teacher of the static one.

    a sentence transformer + rows with lessons -> the same with a head: capability (one of LABELS) and intent

Lower layers learn more slowly, few steps are taken, and sources are drawn nearly alike: what is wanted is the
transformer's own knowledge turned to four labels, not the wording of the sources. Any sentence-transformers model will
do; its modules up to a normalising one are kept.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers.utils.logging import disable_progress_bar

from classifier.heads import silence_onnxruntime
from classifier.text import normalise_text
from classifier.transformer import TRANSFORMER, TRANSFORMER_TOKENIZER, Pieces
from training.prepare import LABELS

STEPS = 400
BATCH = 32
RATE = 5e-5  # of the top layer; each layer below learns RATE_DECAY as fast
RATE_DECAY = 0.8
HEAD_RATE = 1e-3
WEIGHT_DECAY = 0.01
WARM_UP = 0.1
SMOOTHING = 0.05  # labels are of sources, so some are wrong
DROPOUT = 0.1
READ_AT_ONCE = 64
UNKNOWN = -1
INTENT = len(LABELS)
"""Column of the logits that stands for extraction intent; those before it are LABELS."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Lesson:
    """What is learnt from n texts: `capability` (index into LABELS, or UNKNOWN), `intent` (1, 0, or UNKNOWN), `draws`
    (how often each is drawn, adding up to one)."""

    capability: Ints
    intent: Ints
    draws: NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """What a tuned transformer says of n texts: pooled embeddings [n, d] and logits [n, 5] (see INTENT)."""

    embeddings: Floats
    logits: Floats


class Tuned(torch.nn.Module):
    """A sentence transformer with a linear head."""

    def __init__(self, path: str) -> None:
        super().__init__()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        disable_progress_bar()
        model = SentenceTransformer(path, device="cpu")
        self.backbone = torch.nn.ModuleList([module for module in model if not isinstance(module, Normalize)])
        self.dimensions = int(model.get_embedding_dimension())
        self.dropout = torch.nn.Dropout(DROPOUT)
        self.head = torch.nn.Linear(self.dimensions, len(LABELS) + 1)
        self.tokenizer = model.tokenizer.backend_tokenizer
        with TemporaryDirectory() as folder:
            self.tokenizer.save(f"{folder}/tokenizer.json")
            self.pieces = Pieces(Path(folder) / "tokenizer.json")

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Pooled embeddings [n, d] of word pieces [n, pieces]."""
        return pooled(self.backbone, input_ids, attention_mask)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits [n, 5]."""
        logits: torch.Tensor = self.head(self.dropout(self.embed(input_ids, attention_mask)))
        return logits

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.pieces.encode([normalise_text(text) for text in texts])

    def read(self, texts: Sequence[str]) -> Told:
        """Embeddings and logits of texts. In bfloat16: thrice as fast here."""
        pieces = self.encode(texts)
        embeddings = np.zeros((len(texts), self.dimensions), np.float32)
        logits = np.zeros((len(texts), len(LABELS) + 1), np.float32)
        backbone = deepcopy(self.backbone).to(torch.bfloat16).eval()
        with torch.no_grad():
            for chosen in by_length(pieces, READ_AT_ONCE):
                told = pooled(backbone, *padded([pieces[i] for i in chosen])).float()
                embeddings[chosen], logits[chosen] = told.numpy(), self.head(told).numpy()
        return Told(embeddings, logits)


def pooled(backbone: torch.nn.ModuleList, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """What the modules of a sentence transformer make of word pieces, [n, d]."""
    features = {"input_ids": input_ids, "attention_mask": attention_mask}
    for module in backbone:
        features = module(features)
    embeddings: torch.Tensor = features["sentence_embedding"]
    return embeddings


def by_length(pieces: Sequence[Sequence[int]], size: int) -> Iterator[Ints]:
    """Indices in batches of texts of about one length."""
    order = np.argsort([len(ids) for ids in pieces], kind="stable")
    yield from (order[start : start + size] for start in range(0, len(order), size))


def padded(pieces: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both [n, longest]."""
    ids = torch.zeros((len(pieces), max(map(len, pieces))), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(pieces):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return ids, mask


def tune(path: str, texts: Sequence[str], lesson: Lesson, seed: int, log: Log, steps: int = STEPS) -> Tuned:
    """Tune the sentence transformer in the folder `path`."""
    torch.manual_seed(seed)
    model = Tuned(path)
    pieces = model.encode(texts)
    groups = _groups(model)
    optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = warm_up_and_decay(optimiser, steps)
    model.train()
    for step, chosen in zip(range(steps), _batches(pieces, lesson.draws, seed), strict=False):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(*padded([pieces[i] for i in chosen]))
        loss = lesson_loss(logits.float(), lesson, chosen)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            log(f"tuned for {step + 1} of {steps} steps")
    model.eval()
    return model


def warm_up_and_decay(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Rates that rise for the share WARM_UP of all steps, then fall to zero, both in a line."""
    top = max(WARM_UP * steps, 1)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / top, (steps - step) / max(steps - top, 1))
    )


def lesson_loss(logits: torch.Tensor, lesson: Lesson, chosen: Ints) -> torch.Tensor:
    """Cross-entropy of the capability plus that of the intent, each over the texts of which it is known."""
    capability, intent = torch.from_numpy(lesson.capability[chosen]), torch.from_numpy(lesson.intent[chosen])
    named = torch.nn.functional.cross_entropy(
        logits[:, :INTENT], capability, ignore_index=UNKNOWN, label_smoothing=SMOOTHING, reduction="sum"
    )
    known = intent != UNKNOWN
    meant = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[known, INTENT], intent[known].float(), reduction="sum"
    )
    return torch.as_tensor((named + meant) / len(chosen))


def export(model: Tuned, folder: Path) -> None:
    """Write `encoder.onnx`, int8 with pooling and head inside, and its tokenizer."""
    model.tokenizer.save(str(folder / TRANSFORMER_TOKENIZER))
    example = padded(model.encode(["one text", "and another, somewhat longer"]))
    names = ["input_ids", "attention_mask"]
    with TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the tracing exporter says of itself
        plain = Path(temporary) / "plain.onnx"
        torch.onnx.export(
            model.eval(),
            example,
            str(plain),
            dynamo=False,
            opset_version=18,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "n", 1: "pieces"} for name in names} | {"logits": {0: "n"}},
        )
        _quantize(plain, folder / TRANSFORMER)


def _quantize(plain: Path, path: Path) -> None:
    """Write a graph with weights of 8 bits."""
    silence_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(plain, path, weight_type=QuantType.QInt8, per_channel=True)


def _groups(model: Tuned) -> list[dict[str, object]]:
    """Parameters by depth, with their learning rates: the head, then layers from the top, then embeddings."""
    layers = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.ModuleList) and m is not model.backbone)
    stacked = {id(p) for p in layers.parameters()}
    rest = [p for p in model.backbone.parameters() if id(p) not in stacked]
    depths = [list(layer.parameters()) for layer in reversed(layers)] + [rest]
    return [{"params": list(model.head.parameters()), "lr": HEAD_RATE}] + [
        {"params": parameters, "lr": RATE * RATE_DECAY**depth} for depth, parameters in enumerate(depths)
    ]


def _batches(pieces: Sequence[Sequence[int]], draws: NDArray[np.float64], seed: int) -> Iterator[Ints]:
    """Endless batches of BATCH texts of about one length, drawn by `draws`."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = rng.choice(len(pieces), BATCH * 16, p=draws)
        batches = [drawn[chosen] for chosen in by_length([pieces[i] for i in drawn], BATCH)]
        yield from (batches[i] for i in rng.permutation(len(batches)))
