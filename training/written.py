"""What was written, and read, for training: `data/written/`, beside the data that training is given.

    prompts.jsonl     prompts composed one by one for this project, each with its label: voices the public sources lack
    readings.tsv      digest of a public prompt, and the label a reader gave it: prompts of sources that mix topics, and
                      prompts whose label a model that had not seen their source doubted (confident learning, by
                      cleanlab, over MiniLM embeddings)
    templates.jsonl   wordings of harvesting prompts and of applications, with slots (see `slots`)

No text of anyone else stands there. Digests are of normalised text, so a reading finds its prompt in any edition of
the data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

import numpy as np
import pandas as pd

from classifier.bundle import data_dir
from classifier.text import normalise_text

FOLDER = "written"


def digest(text: str) -> str:
    """What names a prompt in `readings.tsv`: 64 bits of its normal form, in hexadecimal."""
    return blake2b(normalise_text(text).encode("utf-8", "replace"), digest_size=8).hexdigest()


def written_prompts() -> pd.DataFrame:
    """Columns `text`, `label`, `lang`, `part` (the set it was written for)."""
    return pd.read_json(data_dir() / FOLDER / "prompts.jsonl", lines=True, dtype=False)


@cache
def readings() -> dict[str, str]:
    """Label of every prompt that a reader was sure of, by digest."""
    table = pd.read_csv(data_dir() / FOLDER / "readings.tsv", sep="\t", dtype=str)
    return dict(zip(table["digest"], table["label"], strict=True))


# --- wordings with slots
# ------------------------------------------------------------------------------------------------------

LANGUAGES = (
    "English",
    "Chinese",
    "Spanish",
    "German",
    "French",
    "Japanese",
    "Portuguese",
    "Korean",
    "Hindi",
    "Python",
    "Go",
    "Rust",
)
TOOLS = (
    "search(query)",
    "calculator(expression)",
    "get_weather(city, date)",
    "send_mail(to, subject, body)",
    "run_sql(query)",
)
CODE = re.compile(r"\bdef \w+\(|\bfunction\b.*\{|\bclass \w+|#include|\bSELECT\b.*\bFROM\b|=>|;\s*\n")
MOST_CHARS = {"question": 400, "answer": 700, "code": 700, "document": 900}


class Payloads:
    """What slots are filled with, drawn from prompts at hand. The same for wordings of both kinds, so that what fills a
    slot tells nothing."""

    def __init__(self, texts: Sequence[str], rng: np.random.Generator) -> None:
        self._rng = rng
        self._pools = {
            "question": [text for text in texts if 15 <= len(text) <= MOST_CHARS["question"]],
            "document": [text for text in texts if len(text) >= MOST_CHARS["question"]],
            "code": [text for text in texts if CODE.search(text)],
        }

    def fill(self, wording: str) -> str:
        """The wording with every slot filled."""
        question, answer, answer_b = (
            self._draw("question"),
            self._draw("document", "answer"),
            self._draw("document", "answer"),
        )
        seeds = [self._draw("question")[:200] for _ in range(self._rng.integers(3, 7))]
        return wording.format(
            question=question,
            answer=answer,
            answer_b=answer_b,
            code=self._draw("code"),
            document=self._draw("document"),
            topic=" ".join(self._draw("question").split()[:4]),
            seeds="\n".join(f"{i}. {seed}" for i, seed in enumerate(seeds, 1)),
            language=str(self._rng.choice(LANGUAGES)),
            number=int(self._rng.integers(2, 31)),
            tools="\n".join(self._rng.permutation(TOOLS)[:3]),
            history=f"User: {question}\nAssistant: {answer}\nUser: {seeds[0]}",
        )

    def _draw(self, pool: str, limit: str | None = None) -> str:
        texts = self._pools[pool] or [""]
        return texts[int(self._rng.integers(len(texts)))][: MOST_CHARS[limit if limit is not None else pool]]


def filled_wordings(texts: Sequence[str], copies: int, seed: int) -> pd.DataFrame:
    """`copies` prompts of every wording: columns `text`, `kind` ("extraction" or "benign"), `part` (the wording's
    id)."""
    payloads = Payloads(texts, np.random.default_rng(seed))
    wordings = pd.read_json(data_dir() / FOLDER / "templates.jsonl", lines=True, dtype=False)
    filled = [
        (payloads.fill(text), kind, part)
        for text, kind, part in zip(wordings["text"], wordings["kind"], wordings["id"], strict=True)
        for _ in range(copies)
    ]
    return pd.DataFrame(filled, columns=["text", "kind", "part"])
