"""Quiet hours: a span of every day, UTC, in which no alert is sent. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class QuietHours:
    """From `begin` until before `end`, over midnight if it is the earlier one."""

    begin: time
    end: time

    def hold_at(self, us: int) -> bool:
        """Whether a moment (us since 1970) is quiet."""
        now = datetime.fromtimestamp(us / 1e6, UTC).time()
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} UTC"


def parse_quiet(given: str) -> QuietHours:
    """Quiet hours of `22:00-07:00`. Raises ValueError."""
    found = _SPAN.fullmatch(given.strip().removesuffix("UTC").strip())
    if found is None or found[1] + found[2] == found[3] + found[4]:
        raise ValueError(f"got {given!r}, expected a span of the day in UTC such as 22:00-07:00")
    begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    return QuietHours(begin, end)
