"""From what was sent to what is compared: one scored text, its normal form, and where a span of the one lies in the
other.

Second step of the flow: records -> reveal -> **text** -> encoder. Normal form undoes the cheap disguises (compatibility
forms, look-alikes of other scripts, zero-width and bidirectional controls, case, whitespace) so that tokens, shingles
and unit keys agree for texts that a reader takes for the same.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from classifier.confusables import LOOK_ALIKES, read_look_alikes

SYSTEM_SEPARATOR = "\n\n"
ANCHOR_BYTES = 96
"""Length of the scaffold anchors, in UTF-8: long enough that two unrelated prompts do not share one, short enough to
end before most payloads."""

# Unicode category Cf (zero-width, bidi, soft hyphen, tags ...) and variation selectors: invisible, hence free to
# insert.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_UNCLEAN = re.compile(f"{_INVISIBLE.pattern[:-1]}\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASCII_SPACE = np.array([chr(code).isspace() for code in range(128)])
_ASCII = bytes(range(128))
_END = b"\xff"  # between texts: no byte of UTF-8
_STANDS, _STAYS, _CHANGES = 1, 2, 3
_KIND = np.zeros(sys.maxunicode + 1, np.uint8)  # of each character: one of these, 0 until it is met
_FOLDED = bytes(0x20 if code < 128 and _ASCII_SPACE[code] else code for code in range(256)).lower()
_DIGITS = b"0123456789"
_REACH = 2 * ANCHOR_BYTES  # how much of a text an anchor is taken from


def scored_text(system: str | None, prompt: str) -> str:
    """What is scored: the system text, if any, then the newest user turn."""
    return prompt if not system else f"{system}{SYSTEM_SEPARATOR}{prompt}"


def normalise_text(text: str) -> str:
    """NFKC, no invisible characters, look-alikes read, lower case, runs of whitespace as one space. Lone surrogates
    become U+FFFD. Idempotent."""
    return normal_form(text).decode()


def normal_form(text: str) -> bytes:
    """`normalise_text` in UTF-8, which is what is hashed and cut into tokens."""
    return normal_forms([text])[0]


def normal_forms(texts: Sequence[str]) -> list[bytes]:
    """`normal_form` of each text. Nearly always nothing but case and spaces of its ASCII tells a text from its normal
    form: the bytes of all are folded at once, and the characters of all that are not ASCII looked at together."""
    if not texts:
        return []
    joined = _END.join([text.encode("utf-8", "surrogatepass") for text in texts])
    normal = [text.strip(b" ") for text in _single_spaced(joined.translate(_FOLDED)).split(_END)]
    for place in _unsettled(texts, joined):
        normal[place] = _composed(texts[place])
    return normal


def _single_spaced(folded: bytes) -> bytes:
    """Runs of spaces as one."""
    if b"  " not in folded:
        return folded
    codes = np.frombuffer(folded, np.uint8)
    is_space = codes == ord(" ")
    kept = np.ones(len(codes), np.bool_)
    np.logical_not(is_space[1:] & is_space[:-1], out=kept[1:])
    return codes[kept].tobytes()


def _unsettled(texts: Sequence[str], joined: bytes) -> list[int]:
    """Which texts differ from their normal form in more than case and spaces of ASCII."""
    beyond = [raw.decode("utf-8", "surrogatepass") for raw in joined.translate(None, _ASCII).split(_END)]
    places = [place for place, chars in enumerate(beyond) if chars]
    if not places:
        return []
    codes = np.frombuffer("".join(beyond).encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = [0, *accumulate(len(beyond[place]) for place in places[:-1])]
    worst = np.maximum.reduceat(_kinds(codes), starts).tolist()
    return [
        place
        for place, kind in zip(places, worst, strict=True)
        if kind == _CHANGES or (kind == _STAYS and not unicodedata.is_normalized("NFKC", texts[place]))
    ]


def _kinds(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Kind of each character, [n]; what is met for the first time is looked up for good."""
    kinds = _KIND[codes]
    if np.count_nonzero(kinds) < len(kinds):
        for code in np.unique(codes[kinds == 0]).tolist():
            _KIND[code] = _kind(chr(code))
        kinds = _KIND[codes]
    return kinds


def _kind(char: str) -> int:
    """Kind of a character beyond ASCII: whether it is its own normal form and leaves any letter before it alone; and
    whether it stands alone, being no mark and no part of a syllable, which another before it may take in. Where all
    stand alone, their text is in NFKC (Unicode Standard Annex 15, section 9)."""
    after = "".join(letter + char for letter in ascii_lowercase)
    is_folded = unicodedata.normalize("NFKC", after).lower() == after and not char.isspace()
    if not is_folded or char in LOOK_ALIKES or _visible(char) != char:
        return _CHANGES
    return _STAYS if unicodedata.category(char)[0] == "M" or "\u1100" <= char <= "\u11ff" else _STANDS


def _composed(text: str) -> bytes:
    composed = read_look_alikes(unicodedata.normalize("NFKC", _visible(text)))
    lowered = unicodedata.normalize("NFKC", composed.lower())
    return " ".join(_visible(lowered).split()).encode()


def _visible(text: str) -> str:
    if _UNCLEAN.search(text) is None:  # nearly always, and one search costs less than two substitutions
        return text
    return _INVISIBLE.sub("", _SURROGATE.sub("\ufffd", text))


def original_span(text: str, normal: bytes, start: int, end: int) -> tuple[int, int]:
    """Characters [start, end) of the normal form of `text`, start < end, as a span of `text` itself.

    Exact where nothing but case and spaces of ASCII tells the two apart; elsewhere by normalising growing prefixes
    (binary search), so a span may take in a neighbouring combining mark.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if _single_spaced(raw.translate(_FOLDED)).strip(b" ") != normal:
        return _prefix_reaching(text, start + 1) - 1, _prefix_reaching(text, end)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    solid = np.flatnonzero(~_ASCII_SPACE[np.minimum(codes, 127)])
    chars = normal.decode()
    first, last = start - chars.count(" ", 0, start), end - chars.count(" ", 0, end) - 1
    return int(solid[min(first, len(solid) - 1)]), int(solid[last]) + 1


def _prefix_reaching(text: str, length: int) -> int:
    """Length of the shortest prefix of `text` whose normal form has at least `length` characters."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if len(normalise_text(text[:middle])) >= length:
            high = middle
        else:
            low = middle + 1
    return low


def keyed_hashes(items: Iterable[bytes], key: bytes) -> NDArray[np.uint64]:
    """64-bit keyed BLAKE2b of each of n items, [n]. Keyed, so that a dictionary of likely prompts cannot be tried
    against stored keys."""
    keyed = blake2b(digest_size=8, key=key)

    def digest(item: bytes) -> bytes:
        one = keyed.copy()  # a third less than to begin with the key each time
        one.update(item)
        return one.digest()

    return np.frombuffer(b"".join(map(digest, items)), "<u8").astype(np.uint64)


def head_anchor(normal: bytes) -> bytes:
    """Beginning of a normal form without its digits. Head and tail are the two places where a template that wraps a
    payload is constant."""
    found = normal[:_REACH].translate(None, _DIGITS)[:ANCHOR_BYTES]
    if len(found) < ANCHOR_BYTES and not normal.isascii():  # the reach is counted in characters
        found = normal.decode()[:_REACH].encode().translate(None, _DIGITS)[:ANCHOR_BYTES]
    return found


def tail_anchor(normal: bytes) -> bytes:
    """End of a normal form without its digits."""
    found = normal[-_REACH:].translate(None, _DIGITS)[-ANCHOR_BYTES:]
    if len(found) < ANCHOR_BYTES and not normal.isascii():
        found = normal.decode()[-_REACH:].encode().translate(None, _DIGITS)[-ANCHOR_BYTES:]
    return found
