"""A message as it is shown, in the console and by `alerts list`. Stands after `outbox`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from service.store.outbox import Listed


class Shown(TypedDict):
    """Times in ISO 8601. `next_try`: of one that waits."""

    message_id: str
    state: str
    alerts: int
    made: str
    tries: int
    next_try: str | None
    done: str | None
    reason: str | None


def shown(one: Listed) -> Shown:
    return Shown(
        message_id=one.message_id,
        state=one.state,
        alerts=one.n_alerts,
        made=moment(one.made),
        tries=one.tries,
        next_try=moment(one.next_try) if one.state == "waiting" else None,
        done=moment(one.done) if one.done is not None else None,
        reason=one.reason,
    )


def moment(us: int) -> str:
    """A time (us) in ISO 8601."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
