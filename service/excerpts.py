"""Excerpts: the redacted beginning of a prompt, for an installation that opted in. Used by the scorer alone.

Redaction is for what people put into prompts by the way: addresses, numbers, keys. It makes no text anonymous.
"""

from __future__ import annotations

import re
from unicodedata import normalize

_REACH, _TAIL = 4, 256
"""How many times the excerpt's length is looked at, since what is taken out shortens it; and up to how many characters
of a word that this look may have cut are left out, since a half of something is not recognised."""
_CUT = re.compile(rf"\S{{1,{_TAIL}}}\Z")
_URL = re.compile(r"(https?://)(?:[^\s/?#@]{0,200}@)?([^\s?#]{0,500})[?#]\S*", re.IGNORECASE)
_PATTERNS = (  # bounded, so that no text takes long
    (re.compile(r"[^\s@<>()\[\]\"',;:]{1,64}@[^\s@<>()\[\]\"',;:]+"), "[e-mail]"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|github_pat|xox[a-z])[-_][A-Za-z0-9_-]{8,}"), "[key]"),
    (re.compile(r"(?<![^\W_])(?=[\w+/=.-]{0,200}\d)(?=[\w+/=.-]{0,200}[^\W\d_])[A-Za-z0-9_+/=.-]{20,}"), "[key]"),
    (re.compile(r"\+?\(?\d(?:[\s().\u2010-\u2015-]{0,3}\d){6,}"), "[number]"),
)


def excerpt(prompt: str, most: int) -> str:
    """The first `most` characters of a prompt, redacted."""
    reach = _REACH * most + _TAIL
    head = prompt if len(prompt) <= reach else _CUT.sub("", prompt[:reach])
    return redacted(head)[:most].strip()


def redacted(text: str) -> str:
    """A text without e-mail addresses, what looks like a card, a phone or a key, queries of URLs, and control
    characters."""
    plain = "".join(one if one.isprintable() or one == "\n" else " " for one in normalize("NFKC", text))
    plain = _URL.sub(r"\1\2?[query]", plain)
    for pattern, instead in _PATTERNS:
        plain = pattern.sub(instead, plain)
    return plain
