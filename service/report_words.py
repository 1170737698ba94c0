"""How the report says things: names, numbers, dates and shares as readers see them. Pure functions on values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from classifier.taxonomy import OTHER, read_taxonomy

TARGET_TITLES = {one.id: one.title for one in read_taxonomy()}

BASIS_TITLES = {
    "signature": "a known template",
    "intent": "intent alone",
    "public": "public templates",
    "analyst": "prompts of before an analyst knew them",
}

LONGEST_NAME = 160

_NBSP = "\u00a0"

# Controls, zero-width and direction-changing characters: an account chooses its id, and could hide text with them.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def visible(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` with invisible characters spelled out (`\\u202e`) and at most `longest` characters of it."""
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return _INVISIBLE.sub(lambda m: f"\\u{ord(m.group()):04x}", shown)


def title_of(name: str) -> str:
    """An id of a closed or open set as words: `rubric_grading` -> `rubric grading`; hostile ones as `visible`."""
    return TARGET_TITLES[name] if name in TARGET_TITLES else visible(name.replace("_", " "))


def basis_of(name: str) -> str:
    """What a verdict rests on, in words that follow `on`."""
    return BASIS_TITLES[name] if name in BASIS_TITLES else title_of(name)


def aims_of(capabilities: Sequence[str]) -> str:
    """What is probed for, in words; `other` only if there is nothing else."""
    named = [title_of(name) for name in capabilities if name != OTHER]
    return joined(named) if named else "something else than the known capabilities"


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def counted(n: int, noun: str) -> str:
    """`1 account`, `1,234 accounts`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def percent(share: float, *, up: bool = False) -> str:
    """A share in [0, 1] with the digits that matter: `0.01 %`, `6.2 %`, `17 %`. `up`: never below the share."""
    value = 100 * share
    digits = 0 if value == 0 or value >= 9.95 else 1 if value >= 0.995 else 2
    if up:
        value = math.ceil(value * 10**digits - 1e-6) / 10**digits
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_NBSP}%"


def exponent(value: float) -> str:
    """A base-10 logarithm for display: `12.3`; infinities in words."""
    return f"{value:.1f}" if math.isfinite(value) else "∞" if value > 0 else "-∞"


def moment(when: datetime) -> str:
    """`22 Apr 2026, 14:05` (UTC), which breaks between date and time only."""
    return f"{day(when)}{when:, %H:%M}"


def day(when: date) -> str:
    """`22 Apr 2026`."""
    return f"{when.day}{_NBSP}{when:%b}{_NBSP}{when:%Y}"


def span(delay: timedelta) -> str:
    """A duration in its natural unit: `40 minutes`, `3 hours`, `12 days`."""
    minutes = delay.total_seconds() / 60
    if minutes < 90:
        return counted(round(minutes), "minute")
    return counted(round(minutes / 60), "hour") if minutes < 48 * 60 else counted(round(minutes / 1440), "day")
