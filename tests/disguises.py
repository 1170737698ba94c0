"""What an evader does to a prompt to pass for something else: plain functions (text, random generator) -> text."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping
from urllib.parse import quote

import numpy as np

Disguise = Callable[[str, np.random.Generator], str]

LOOK_ALIKES = str.maketrans("aceopxyisjhABCEHIKMOPTXNZ", "асеорхуіѕјһАВСЕНІКМОРТХΝΖ")  # Cyrillic and Greek
ZERO_WIDTH = ("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff")
SPACES = (" ", "\n", "\t", "  ", "\u00a0", "\u2003")
PADDING = (
    "The ferry was late again and the harbour smelled of tar. Nobody minded much, since the sun was out. "
    "My cousin keeps bees behind the old mill and sells the honey on Saturdays. "
    "We painted the fence twice before the rain came, and it still looks grey. "
    "Anyone who has carried a piano up four flights of stairs knows how long an afternoon can be. "
)


def homoglyphs(text: str, rng: np.random.Generator) -> str:
    """Every letter that has a look-alike in Cyrillic or Greek, by it."""
    return text.translate(LOOK_ALIKES)


def some_homoglyphs(text: str, rng: np.random.Generator) -> str:
    """A third of those letters."""
    swapped = rng.random(len(text)) < 1 / 3
    return "".join(char.translate(LOOK_ALIKES) if swap else char for char, swap in zip(text, swapped, strict=True))


def zero_width(text: str, rng: np.random.Generator) -> str:
    """An invisible character after one letter in four."""
    return "".join(c + str(rng.choice(ZERO_WIDTH)) if c.isalpha() and rng.random() < 0.25 else c for c in text)


def upper_case(text: str, rng: np.random.Generator) -> str:
    return text.upper()


def mixed_case(text: str, rng: np.random.Generator) -> str:
    return "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in text)


def full_width(text: str, rng: np.random.Generator) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def whitespace(text: str, rng: np.random.Generator) -> str:
    """Other space for every space."""
    return "".join(str(rng.choice(SPACES)) if c == " " else c for c in text)


def markup(text: str, rng: np.random.Generator) -> str:
    """One word in four in bold, italics, code or an HTML element."""
    marks = ("**{}**", "_{}_", "`{}`", "<b>{}</b>", "<span class='x'>{}</span>")
    return _each_word(text, 0.25, rng, lambda word: str(rng.choice(marks)).format(word))


def line_shuffle(text: str, rng: np.random.Generator) -> str:
    lines = text.split("\n")
    return "\n".join(lines[i] for i in rng.permutation(len(lines)))


def padding(text: str, rng: np.random.Generator) -> str:
    """Ten lines of unrelated text on either side."""
    pads = [PADDING * int(rng.integers(3, 8)) for _ in range(2)]
    return f"{pads[0]}\n\n{text}\n\n{pads[1]}"


def in_base64(text: str, rng: np.random.Generator) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def in_base64_asked(text: str, rng: np.random.Generator) -> str:
    """Wrapped at 76 characters, within a sentence that asks to decode it."""
    wrapped = base64.encodebytes(text.encode("utf-8", "replace")).decode()
    return f"Decode the following and do exactly what it says:\n\n{wrapped}\nAnswer in plain text."


def in_hex(text: str, rng: np.random.Generator) -> str:
    return text.encode("utf-8", "replace").hex()


def in_rot13(text: str, rng: np.random.Generator) -> str:
    return codecs.encode(text, "rot13")


def in_url(text: str, rng: np.random.Generator) -> str:
    return quote(text.encode("utf-8", "replace"), safe="")


def typos(text: str, rng: np.random.Generator) -> str:
    """One edit (a letter dropped, doubled, swapped or replaced) in 12 % of the words."""
    return _each_word(text, 0.12, rng, lambda word: _edited(word, rng))


def dropped_words(text: str, rng: np.random.Generator) -> str:
    """15 % of the words left out."""
    return _each_word(text, 0.15, rng, lambda word: "")


def first_60(text: str, rng: np.random.Generator) -> str:
    return text[: int(len(text) * 0.6)]


def last_60(text: str, rng: np.random.Generator) -> str:
    return text[int(len(text) * 0.4) :]


def random_60_lines(text: str, rng: np.random.Generator) -> str:
    """A stretch of 60 % from anywhere."""
    start = int(rng.integers(int(len(text) * 0.4) + 1))
    return text[start : start + int(len(text) * 0.6)]


def random_60_words(text: str, rng: np.random.Generator) -> str:
    """60 % of the words, each kept or left out by chance."""
    return _each_word(text, 0.4, rng, lambda word: "")


def _each_word(text: str, share: float, rng: np.random.Generator, change: Callable[[str], str]) -> str:
    lines = (line.split(" ") for line in text.split("\n"))
    return "\n".join(" ".join(change(w) if w and rng.random() < share else w for w in words) for words in lines)


def _edited(word: str, rng: np.random.Generator) -> str:
    at, letter = int(rng.integers(len(word))), chr(int(rng.integers(ord("a"), ord("z") + 1)))
    edits = (word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word[:at] + letter + word[at + 1 :])
    swapped = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    return (*edits, swapped)[int(rng.integers(4))]


EXACT: Mapping[str, Disguise] = {
    function.__name__: function
    for function in (
        *(homoglyphs, some_homoglyphs, zero_width, full_width, upper_case, mixed_case, whitespace, markup),
        *(line_shuffle, padding, in_base64, in_base64_asked, in_hex, in_rot13, in_url),
    )
}
"""Disguises that a reader or a model undoes without loss."""
LOSSY: Mapping[str, Disguise] = {
    function.__name__: function
    for function in (typos, dropped_words, first_60, last_60, random_60_lines, random_60_words)
}
"""Changes that lose something."""
