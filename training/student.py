"""Fourth stage: the static tier learns to say what the tuned transformer says.

    token ids + the teacher's embeddings and logits -> table of token rows, lexicon columns, two small layers

Measured on sources left out: labels alone teach a bag of tokens its sources; a transformer that was tuned on the same
labels carries over to new sources, and a bag of tokens that imitates it, on labelled and unlabelled text alike, keeps
most of that (`probewatch evaluate` prints both). What the bag cannot see, order, comes back cheaply: the head and the
tail of a prompt are read apart, and pairs of neighbouring tokens have weights of their own (the lexicon).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.encoder import VIEWS, TokenBatch, view_bounds
from training.tune import INTENT, Lesson, Told, warm_up_and_decay

EPOCH_ROWS = 45_000  # rows drawn an epoch
EPOCHS = 20
BATCH = 256
HIDDEN = 128
TABLE_RATE = 1e-3
LAYER_RATE = 1e-3
LEXICON_RATE = 3e-3
DROPOUT = 0.3
TOKEN_DROPOUT = 0.4
GEOMETRY_WEIGHT = 1.0  # of the loss that turns embeddings to the teacher's: what template vectors rest on
MOST_TOKENS = 512  # of a text, while learning

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Imitation:
    """What is taught of n texts: the teacher's `embeddings` [n, d], what to say, `targets` [n, 4] (probabilities of
    LABELS), and how often each text is drawn, `draws` [n], adding up to one."""

    embeddings: Floats
    targets: Floats
    draws: NDArray[np.float64]


def imitation(told: Told, lesson: Lesson) -> Imitation:
    """What to learn from a teacher's words: its capabilities as they are, which are milder than labels of sources."""
    targets = torch.softmax(torch.from_numpy(told.logits[:, :INTENT]), dim=1).numpy()
    return Imitation(told.embeddings, targets, lesson.draws)


class Student(torch.nn.Module):
    """Logits [n, 4] = layers(views) + lexicon, as `labeler.head_features` and the ONNX heads compute them."""

    def __init__(self, table: Floats, lexicon_features: int, teacher_dimensions: int) -> None:
        super().__init__()
        dimensions = table.shape[1]
        self.scale = dimensions**0.5
        self.table = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(table), freeze=False, mode="sum")
        self.lexicon = torch.nn.EmbeddingBag.from_pretrained(
            torch.zeros(lexicon_features, INTENT), freeze=False, mode="sum"
        )
        self.first = torch.nn.Linear(len(VIEWS) * dimensions, HIDDEN)
        self.second = torch.nn.Linear(HIDDEN, INTENT)
        self.to_teacher = torch.nn.Linear(dimensions, teacher_dimensions)
        self.dropout = torch.nn.Dropout(DROPOUT)

    def forward(self, tokens: TokenBatch, counts: csr_matrix) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [n, 4], embedding in the teacher's space [n, e])."""
        views = [self._embed(tokens, start, end) for start, end in view_bounds(tokens)]
        features = self.dropout(torch.cat(views, dim=1) * self.scale)
        hidden = self.dropout(torch.relu(self.first(features)))
        return self.second(hidden) + self._look_up(counts), self.to_teacher(views[0])

    def _embed(self, tokens: TokenBatch, start: NDArray[np.int64], end: NDArray[np.int64]) -> torch.Tensor:
        pieces = [tokens.ids[a:b] for a, b in zip(start, end, strict=True)]
        offsets = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
        ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
        return torch.nn.functional.normalize(self.table(ids, torch.from_numpy(offsets)), dim=1)

    def _look_up(self, counts: csr_matrix) -> torch.Tensor:
        ids, weights = torch.from_numpy(counts.indices.astype(np.int64)), torch.from_numpy(counts.data)
        offsets = torch.from_numpy(counts.indptr[:-1].astype(np.int64))
        return torch.as_tensor(self.lexicon(ids, offsets, per_sample_weights=weights.float()))


def imitate(tokens: TokenBatch, counts: csr_matrix, taught: Imitation, table: Floats, seed: int) -> Student:
    """Train a student. `counts`: rows of lexicon features (see `heads.weighed_rows`), `table`: where rows start."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = Student(table, counts.shape[1], taught.embeddings.shape[1])
    layers = [*student.first.parameters(), *student.second.parameters(), *student.to_teacher.parameters()]
    groups = [
        {"params": student.table.parameters(), "lr": TABLE_RATE, "weight_decay": 0.0},
        {"params": student.lexicon.parameters(), "lr": LEXICON_RATE, "weight_decay": 0.0},
        {"params": layers, "lr": LAYER_RATE, "weight_decay": 1e-2},
    ]
    optimiser = torch.optim.AdamW(groups, fused=True)
    steps = EPOCHS * (EPOCH_ROWS // BATCH)
    schedule = warm_up_and_decay(optimiser, steps)
    for _ in range(steps):
        drawn = rng.choice(len(taught.draws), BATCH, p=taught.draws)
        logits, embeddings = student(thinned(tokens, drawn, rng), counts[drawn])
        loss = imitation_loss(logits, embeddings, taught, drawn)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    student.eval()
    return student


def imitation_loss(
    logits: torch.Tensor, embeddings: torch.Tensor, taught: Imitation, drawn: NDArray[np.int64]
) -> torch.Tensor:
    """Cross-entropy with the targets (Hinton et al. 2015), plus the cosine distance to the teacher's embeddings."""
    targets = torch.from_numpy(taught.targets[drawn])
    naming = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    distance = 1 - torch.nn.functional.cosine_similarity(embeddings, torch.from_numpy(taught.embeddings[drawn]))
    return naming + GEOMETRY_WEIGHT * distance.mean()


def ends(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """The first and the last tokens of a text that is longer than MOST_TOKENS."""
    half = MOST_TOKENS // 2
    return ids if len(ids) <= MOST_TOKENS else np.concatenate([ids[:half], ids[-half:]])


def thinned(tokens: TokenBatch, chosen: NDArray[np.int64], rng: np.random.Generator) -> TokenBatch:
    """Texts `chosen`, each cut in the middle to MOST_TOKENS and without a random TOKEN_DROPOUT of its tokens (one at
    least is kept)."""
    kept = []
    for ids in (ends(tokens.of(int(text))) for text in chosen):
        some = ids[rng.random(len(ids)) >= TOKEN_DROPOUT]
        kept.append(some if len(some) else ids[:1])
    return TokenBatch(np.concatenate(kept), np.cumsum([0, *map(len, kept)]))
