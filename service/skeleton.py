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
from classifier.shingles import words_within
from classifier.text import normalise_text, original_span
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
    tokens = tokenizer.encode([normalise_text(text)])
    words = labeler.templates.shingler.words(tokens)
    constant = np.pad(words_within(words, shingles), 1)  # an edge on either side
    turns = np.flatnonzero(constant[1:] != constant[:-1])
    spans = []
    for first, past in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True):
        start = len(tokenizer.decode(tokens.ids[: words.first[first]]))
        end = start + len(tokenizer.decode(tokens.ids[words.first[first] : words.last[past - 1] + 1]))
        spans.append(original_span(text, start, end))
    return spans
