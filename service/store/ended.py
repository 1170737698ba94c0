"""Sessions of the console that were ended before their time, by key. Stands after `facts`."""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

from service.store.audit import write_audit
from service.store.facts import set_fact

_MARK = "sessions ended "
_READ = text("SELECT name, value FROM facts WHERE name LIKE :mark")


def end_sessions(connection: Connection, key_id: str, who: str) -> None:
    """End every session that a key has begun, in every browser; the key stays in use."""
    set_fact(connection, _MARK + key_id, str(time.time_ns() // 1000))
    write_audit(connection, who, "sessions ended", key_id)


def read_ended(connection: Connection) -> dict[str, int]:
    """By key: when (us) its sessions were last ended."""
    rows = connection.execute(_READ, {"mark": f"{_MARK}%"})
    return {row.name.removeprefix(_MARK): int(row.value) for row in rows}
