"""Second stage: normalised texts -> `tokenizer.json`, byte-level BPE, so that no language and no code has an unknown
token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB_SIZE = 32_000  # 8 MB of int8 rows; beyond it rows are too rare to be learnt from this much text
LEAST_COUNT = 3


def train_tokenizer(normalised: Sequence[str], path: Path) -> None:
    """Learn merges from normalised texts and write the tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=LEAST_COUNT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(normalised, trainer)
    tokenizer.save(str(path))
