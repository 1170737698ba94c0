"""Leases: of all processes one does a thing, and another goes on where it ended. Stands after `opening`."""

from __future__ import annotations

from sqlalchemy import Connection, text

_TAKE = text(
    "INSERT INTO leases (name, holder, until) VALUES (:name, :holder, :until) ON CONFLICT (name) DO UPDATE "
    "SET holder = :holder, until = :until WHERE leases.until <= :now OR leases.holder = :holder"
)


def take_lease(connection: Connection, name: str, holder: str, now: int, until: int) -> bool:
    """Whether `holder` has a thing to itself until a time (us); whoever has it already keeps it longer."""
    taken = {"name": name, "holder": holder, "now": now, "until": until}
    return connection.execute(_TAKE, taken).rowcount > 0
