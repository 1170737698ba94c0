"""Small real models for tests: a tokenizer trained on a few words and tables of fixed numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from classifier.encoder import StaticEncoder, Tokenizer

CORPUS = [
    "write a parser for this log format",
    "plan a trip to the coast",
    "the parser fails; plan the fix",
    "é 编写 代码",
]


@cache
def tokenizer_path() -> Path:
    tokenizer = HuggingFaceTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    path = Path(mkdtemp()) / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizer_path())


def table(dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(tokenizer().vocab_size, dimensions)).astype(np.float32)


def encoder() -> StaticEncoder:
    return StaticEncoder(tokenizer(), table())
