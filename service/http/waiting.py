"""How many events wait to be scored, how long they will, and whether more may come. Numbers alone: no clock, no thread.

    door -> **waiting** <- scorer

Those that are being scored are among those that wait: it is for their answers, too, that the next one waits.
"""

from __future__ import annotations

FEW = 32
"""Events that are never too slow: to score so many at once takes hardly longer than a single one."""
_SMOOTHING = 0.2


class Waiting:
    """Counts events that came and were not answered yet, and how long one takes of late."""

    def __init__(self, most: int, most_seconds: float) -> None:
        self._most, self._most_seconds = most, most_seconds
        self.there = 0
        """Events that came and wait for answers."""
        self._pace = 0.0  # seconds an event, of late
        self._last = 0.0
        self.coming = 0
        """Events that were let in and have not come yet, since the event loop has not begun with their requests."""
        self.lag = 0.0
        """Seconds that the event loop takes of late to come round to what has come since."""

    def too_long(self, n: int) -> float | None:
        """Seconds that n more would wait here, if these are too many, or too many wait; None if they may come.

        The wait is how many wait already times how long one takes; where that is little, the loop may still be late,
        since to refuse costs as well. What waits for no more than it brings itself is not too slow: batches alone are
        served one after another.
        """
        there = self.there + self.coming
        seconds = there * self._pace
        too_many = there + n > self._most
        is_slow = there + n > FEW and seconds > self._most_seconds
        too_slow = there > n and (is_slow or self.lag > self._most_seconds)
        return seconds if there and (too_many or too_slow) else None

    def came(self, n: int) -> None:
        self.there += n

    def left(self, n: int) -> None:
        """They were answered, one way or the other."""
        self.there -= n

    def let_in(self) -> None:
        """One comes, and is counted here until its own task counts it."""
        self.coming += 1

    def all_came(self) -> None:
        """What was let in in a pass of the event loop has come, or failed to."""
        self.coming = 0

    def note_lag(self, took: float) -> None:
        """The event loop came round in `took` seconds."""
        self.lag += _SMOOTHING * (took - self.lag)

    def forget_lag(self) -> None:
        """Nobody has come for so long that the loop is no longer as late as it was."""
        self.lag = 0.0

    def note_pace(self, n: int, took: float, now: float) -> None:
        """n were scored at once, in `took` seconds; their answers came at `now`, perhaps close upon those before."""
        took = min(took, now - self._last)
        self._pace += _SMOOTHING * (took / max(n, FEW) - self._pace)
        self._last = now
