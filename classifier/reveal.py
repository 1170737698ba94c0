"""What a text hides that a model would read: encodings undone, marks of formatting and entities taken away.

Between records and text: scored text -> **reveal** -> normalise_text. Nearly every prompt passes as it is, after one
look at the bytes of a whole batch. What is found is replaced where it stands, so that all that follows (matching,
probabilities, unit keys) sees what was meant; `Revealed.sent_span` names a span in the text that was sent.
"""

from __future__ import annotations

import base64
import html
import re
from bisect import bisect_right
from codecs import encode, getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

DEPTH = 3
"""Encodings within encodings that are undone: models follow each further one less often."""
LONG_RUN = 40
"""Bytes without a space from which a run may be encoded text; shorter ones are names and addresses."""
_LEAST_READABLE = 0.95
"""Part of what is decoded that must be printable, or space."""
_LEAST_ROT13 = 3
"""Different words in which rot13 must show."""

_RUN = re.compile(f"[!-~]{{{LONG_RUN}}}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{40,}\s{1,2})*[A-Za-z0-9+/_-]{32,}={0,2}")
_HEX = re.compile(r"(?:(?:\\x|0x|%)?[0-9A-Fa-f]{2}){20,}")
_ESCAPES = re.compile(r"(?:\\u[0-9A-Fa-f]{4}){8,}")
_PERCENT = re.compile(r"(?<!\S)[^\s%]*(?:%[0-9A-Fa-f]{2}[^\s%]*){6,}")
_ENTITIES = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp|shy|zwnj|zwj);")
_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|span|font|mark|small|big|sub|sup|code|tt|kbd|del|ins)(?:\s[^<>]{0,200})?>", re.IGNORECASE
)
_ROTATED = (" gur ", " naq ", " gb ", " vf ")  # the, and, to, is: no English does without
_ROTATED_BYTES = frozenset(word.encode() for word in _ROTATED)
_INITIALS, _LENGTHS = sorted({word[1] for word in _ROTATED_BYTES}), sorted({len(word) for word in _ROTATED_BYTES})
_SPACE = ord(" ")
_ROT13_WORDS = re.compile(
    r"(?i)\b(?:gur|naq|lbh|lbhe|sbe|guvf|jvgu|gung|ner|abg|sebz|juvpu|rnpu|jung|ubj|gb|vf|bs|vg|cyrnfr|znxr|jevgr|hfr)\b"
)
_CUT = re.compile(rb"^[\x80-\xbf]{1,3}")
_OF_RUN = bytes(not 32 < byte < 127 for byte in range(256))  # 0: other scripts have long runs, no encoding is of them
_SIGNS = tuple(re.compile(sign.pattern.encode(), sign.flags & re.IGNORECASE) for sign in (_TAG, _ENTITIES))


@dataclass(frozen=True)
class Piece:
    """Characters [start, end) of what was sent, and what they stand for."""

    start: int
    end: int
    meaning: str


class Revealed(NamedTuple):
    """`text`: what was meant. `pieces`: what was replaced in what was sent, in order and apart."""

    text: str
    pieces: tuple[Piece, ...] = ()

    def sent_span(self, start: int, end: int) -> tuple[int, int]:
        """Characters [start, end) of `text`, start < end, as a span of what was sent: whole pieces where it reaches
        into one."""
        return self._sent(start)[0], self._sent(end - 1)[1]

    def _sent(self, position: int) -> tuple[int, int]:
        shift = 0
        for piece in self.pieces:
            head = piece.start - shift
            if position < head:
                break
            if position < head + len(piece.meaning):
                return piece.start, piece.end
            shift += piece.end - piece.start - len(piece.meaning)
        return position + shift, position + shift + 1


def reveal_all(texts: Sequence[str]) -> list[Revealed]:
    """`reveal` of every text of a batch, at the cost of one look at the bytes of those that hide nothing."""
    suspects = _suspects(texts)
    return [reveal(text) if suspect else Revealed(text) for text, suspect in zip(texts, suspects, strict=True)]


def reveal(text: str, depth: int = DEPTH) -> Revealed:
    """What a text means: base64, hex, escapes, percent and rot13 encodings of readable text undone up to `depth` deep,
    entities read, and tags that only format taken away."""
    pieces = tuple(_pieces(text, depth))
    parts, end = list[str](), 0
    for piece in pieces:
        parts += text[end : piece.start], piece.meaning
        end = piece.end
    return Revealed(_rot13("".join([*parts, text[end:]])), pieces)


def _suspects(texts: Sequence[str]) -> list[bool]:
    """Which texts have a tag, an entity, a run or a word that a disguise has; hardly any others."""
    raw = [text.encode("utf-8", "replace") for text in texts]
    joined = b"\n".join([*raw, b""])
    signs = [found.start() for sign in _SIGNS for found in sign.finditer(joined)]
    places = [*signs, *_runs(joined).tolist(), *_rotated(joined)]
    suspect = [False] * len(raw)
    if places:
        tails = list(accumulate(len(one) + 1 for one in raw))
        for place in places:
            suspect[bisect_right(tails, place)] = True
    return suspect


def _runs(joined: bytes) -> NDArray[np.int64]:
    """Places in all runs of LONG_RUN bytes or more, and in some that are a little shorter: a run of 40 bytes holds four
    words of eight side by side, wherever it begins."""
    words = np.frombuffer(joined.translate(_OF_RUN), np.uint64, len(joined) // 8) == 0
    for reach in (1, 2):  # side by side: two, then four
        words = words[:-reach] & words[reach:]
    return np.asarray(8 * words.nonzero()[0])


def _rotated(joined: bytes) -> Iterator[int]:
    """Where one of _ROTATED stands. Few words are as short and begin as one of them does; those are looked at."""
    codes = np.frombuffer(joined, np.uint8)
    spaces, begun, found = codes == _SPACE, codes[1:] == _INITIALS[0], codes[1:] == _INITIALS[1]
    begun |= found
    for initial in _INITIALS[2:]:
        begun |= np.equal(codes[1:], initial, out=found)  # no array of its own: at this size its pages cost more
    begun &= spaces[:-1]
    for length in _LENGTHS:
        ended = np.logical_and(begun[: 2 - length], spaces[length - 1 :], out=found[: 2 - length])
        for start in ended.nonzero()[0].tolist():
            if joined[start : start + length] in _ROTATED_BYTES:
                yield start


def _pieces(text: str, depth: int) -> Iterator[Piece]:
    """What is to be replaced, in order; where two meet, the first."""
    end = 0
    for piece in sorted(_all_pieces(text, depth), key=lambda piece: (piece.start, -piece.end)):
        if piece.start >= end:
            yield piece
            end = piece.end


def _all_pieces(text: str, depth: int) -> Iterator[Piece]:
    if "&" in text:
        for found in _ENTITIES.finditer(text):
            yield Piece(*found.span(), html.unescape(found[0]))
    if "<" in text:
        for found in _TAG.finditer(text):
            yield Piece(*found.span(), "")
    if depth and _RUN.search(text) is not None:
        for pattern, sign, decode in _ENCODINGS:
            for found in pattern.finditer(text) if sign in text else ():
                meaning = reveal(_readable(decode(found[0])), depth - 1).text
                if not meaning.isascii() or any(char.isspace() for char in meaning):
                    yield Piece(*found.span(), meaning)


def _rot13(text: str) -> str:
    if not any(word in text for word in _ROTATED):
        return text
    shown = {found.lower() for found in _ROT13_WORDS.findall(text)}
    return encode(text, "rot13") if len(shown) >= _LEAST_ROT13 else text


def _from_base64(found: str) -> bytes:
    """The bytes, from the first of the four places where a text that was cut may begin that gives a readable one."""
    symbols = "".join(found.split()).rstrip("=").replace("-", "+").replace("_", "/")
    for skipped in range(4):
        kept = symbols[skipped:]
        kept = kept[:-1] if len(kept) % 4 == 1 else kept  # six bits are no byte
        raw = base64.b64decode(kept + "=" * (-len(kept) % 4))
        if _readable(raw):
            return raw
    return b""


def _from_hex(found: str) -> bytes:
    digits = re.sub(r"\\x|0x|%", "", found)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _from_escapes(found: str) -> bytes:
    units = bytes.fromhex(found.replace("\\u", ""))
    return units.decode("utf-16-be", "replace").encode("utf-8", "replace")


def _from_percent(found: str) -> bytes:
    return unquote_to_bytes(found if "%20" in found else found.replace("+", " "))


_ENCODINGS: tuple[tuple[re.Pattern[str], str, Callable[[str], bytes]], ...] = (
    (_ESCAPES, "\\u", _from_escapes),  # pattern, what must be there at all, decoder
    (_PERCENT, "%", _from_percent),
    (_HEX, "", _from_hex),
    (_BASE64, "", _from_base64),
)


def _readable(raw: bytes) -> str:
    """Bytes as the text that they are: UTF-8, and hardly a sign of it unprintable; else empty. A character cut at
    either end is left out."""
    try:
        text = getincrementaldecoder("utf-8")().decode(_CUT.sub(b"", raw))
    except UnicodeDecodeError:
        return ""
    plain = sum(char.isprintable() or char.isspace() for char in text)
    return text if plain >= _LEAST_READABLE * len(text) else ""
