"""The wording of a proposed signature, for the analyst who confirms it: slots as … and numbers as #.

Used by `proposals`. Made of the analyst's own file, in memory, and never written: a signature holds no text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from classifier.labeler import Labeler
from classifier.shingles import MOST_TOKENS, Words, words_within
from classifier.text import normal_form, original_span
from service.report_words import visible

SLOT = "…"
LONGEST = 2_000  # characters shown
_DIGITS = re.compile(r"\d+")  # no part of a signature, so they may be a slot's


def skeleton_of(shingles: NDArray[np.uint64], texts: Sequence[str], labeler: Labeler) -> str:
    """Constant parts of the first of the texts that holds most of the shingles, on one line, at most LONGEST long."""
    spans = [_constant_spans(shingles, text, labeler) for text in texts]
    best = int(np.argmax([sum(end - start for start, end in found) for found in spans]))
    text = texts[best]
    parts = [_DIGITS.sub("#", " ".join(text[start:end].split())) for start, end in spans[best]]
    edges = [(0, 0), *spans[best], (len(text), len(text))]
    slots = [f" {SLOT} " if text[end:start].strip() else " " for (_, end), (start, _) in pairwise(edges)]
    line = "".join(piece for pair in zip(slots, [*parts, ""], strict=True) for piece in pair)
    return visible(line.strip(), LONGEST)


def _constant_spans(shingles: NDArray[np.uint64], text: str, labeler: Labeler) -> list[tuple[int, int]]:
    """(start, end) of each run of characters whose words stand in one of the shingles, in order."""
    tokenizer = labeler.encoder.tokenizer
    normal = normal_form(text)
    tokens = tokenizer.encode([normal])
    words = labeler.templates.shingler.words(tokens)
    spans = []
    for first, past in _token_runs(words, words_within(words, shingles)):
        start = len(tokenizer.decode(tokens.ids[:first]))
        end = start + len(tokenizer.decode(tokens.ids[first:past]))
        spans.append(original_span(text, normal, start, end))
    return spans


def _token_runs(words: Words, constant: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, past the last) token of each run of constant words; one ends where a word has tokens that no hash tells
    of, which may be a slot's."""
    runs, goes_on = list[tuple[int, int]](), False
    for is_constant, first, last in zip(constant.tolist(), words.first.tolist(), words.last.tolist(), strict=True):
        past = min(last + 1, first + MOST_TOKENS)
        if is_constant and goes_on:
            runs[-1] = (runs[-1][0], past)
        elif is_constant:
            runs.append((first, past))
        goes_on = is_constant and past == last + 1
    return runs
