"""Prompts as templates are looked for in them: scored texts in normal form, and who sent them.

    records -> **prompts** -> proposals, `probewatch templates check`

Held in memory only; nothing here is written anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.bundle import data_dir
from classifier.encoder import StaticEncoder
from classifier.reveal import reveal_all
from classifier.signing import Honest
from classifier.text import normalise_text, scored_text
from service.records import Part, expand_inputs, read_parts


@dataclass(frozen=True)
class Prompts:
    """n prompts. `texts`: what they mean (see `reveal`); `normalised`: their normal forms; `accounts`: who sent each.
    `n_rejected`: records beside them that could not be read."""

    texts: list[str]
    normalised: list[str]
    accounts: list[str]
    n_rejected: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, chosen: Sequence[bool]) -> Prompts:
        """Some of them, in order."""
        rows = [i for i, wanted in enumerate(chosen) if wanted]
        texts, normalised, accounts = (
            [column[i] for i in rows] for column in (self.texts, self.normalised, self.accounts)
        )
        return Prompts(texts, normalised, accounts, self.n_rejected)

    def of_source(self, name: str) -> Prompts:
        """The same, their accounts those of a source: two sources may give one name to two accounts."""
        return replace(self, accounts=[f"{name}:{account}" for account in self.accounts])

    def distinct(self) -> Prompts:
        """Each prompt of an account once: a retry is no second sample of a template."""
        seen: dict[tuple[str, str], int] = {}
        for i, key in enumerate(zip(self.accounts, self.normalised, strict=True)):
            seen.setdefault(key, i)
        first = set(seen.values())
        return self.where([i in first for i in range(len(self))])

    def account_numbers(self) -> NDArray[np.int64]:
        """Who sent each, [n]: accounts numbered in the order of their names."""
        number = {name: i for i, name in enumerate(sorted(set(self.accounts)))}
        return np.array([number[name] for name in self.accounts], np.int64)

    def as_honest(self, encoder: StaticEncoder) -> Honest:
        """Their tokens, grouped by account."""
        tokens = encoder.tokenizer.encode(self.normalised)
        return Honest(tokens, self.account_numbers(), tuple(sorted(set(self.accounts))))


def read_prompts(paths: Sequence[str]) -> Iterator[Prompts]:
    """Prompts of files, folders and globs, a part at a time.

    Raises:
        InputError: an input cannot be read.
    """
    for file in expand_inputs(paths):
        for part in read_parts(file):
            yield _prompts_of(part)


def read_samples(source: str, most: int) -> Prompts:
    """Distinct prompts of a file, folder or glob; reading stops where there are more than `most`.

    Raises:
        InputError: an input cannot be read.
    """
    samples = joined_prompts([])
    for part in read_prompts([source]):
        samples = joined_prompts([samples, part]).distinct()
        if len(samples) > most:
            break
    return samples


def joined_prompts(parts: Sequence[Prompts]) -> Prompts:
    """All prompts of several, in order."""
    return Prompts(
        [text for part in parts for text in part.texts],
        [text for part in parts for text in part.normalised],
        [account for part in parts for account in part.accounts],
        sum(part.n_rejected for part in parts),
    )


def read_ordinary(paths: Sequence[str]) -> Prompts:
    """Prompts of the shipped sample and of an operator's own files; an account of one is none of the other's.

    Raises:
        InputError: an input cannot be read.
    """
    own = joined_prompts(list(read_prompts(paths)) if paths else [])
    return joined_prompts([sample_ordinary().of_source("sample"), own.of_source("own")])


@dataclass(frozen=True)
class Halves:
    """Ordinary prompts: `tuning`, beside which signatures are made, and `held_out`, which have no part in that."""

    tuning: Prompts
    held_out: Prompts


def read_halves(paths: Sequence[str]) -> Halves:
    """Prompts of the shipped sample and of half of the accounts in an operator's own files; those of the other half are
    held out. Which half an account is of has nothing to do with what it sent.

    Raises:
        InputError: an input cannot be read.
    """
    own = joined_prompts(list(read_prompts(paths))).of_source("own")
    ranked = sorted(set(own.accounts), key=lambda account: blake2b(account.encode()).digest())
    held_out = set(ranked[1::2])
    is_held_out = [account in held_out for account in own.accounts]
    tuning = own.where([not held for held in is_held_out])
    return Halves(joined_prompts([sample_ordinary().of_source("sample"), tuning]), own.where(is_held_out))


def sample_ordinary() -> Prompts:
    """What the accounts of the shipped sample traffic sent that belong to no campaign."""
    folder = data_dir() / "sample"
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["accounts"]
    sent = joined_prompts(list(read_prompts([str(folder / "traffic.jsonl")])))
    return sent.where([truth[account]["campaign"] is None for account in sent.accounts])


def meant_texts(events: pa.RecordBatch) -> list[str]:
    """What the scored text of each event means (see `reveal`)."""
    return _meant(zip(events["system"].to_pylist(), events["prompt"].to_pylist(), strict=True))


def prompts_sent(accounts: Sequence[str], sent: Iterable[tuple[str | None, str]], n_rejected: int = 0) -> Prompts:
    """Prompts of what each account sent: system text, and prompt."""
    texts = _meant(sent)
    return Prompts(texts, [normalise_text(text) for text in texts], list(accounts), n_rejected)


def _meant(sent: Iterable[tuple[str | None, str]]) -> list[str]:
    return [revealed.text for revealed in reveal_all([scored_text(system, prompt) for system, prompt in sent])]


def _prompts_of(part: Part) -> Prompts:
    columns = (part.events[name].to_pylist() for name in ("system", "prompt"))
    return prompts_sent(part.events["account_id"].to_pylist(), zip(*columns, strict=True), len(part.rejected))
