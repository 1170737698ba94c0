"""The audit log: who did what, and when. Rows are added and never changed. Stands after `opening`."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from service.store.schema import audit


def write_audit(connection: Connection, who: str, action: str, subject: str) -> None:
    """Note an act, in the transaction that does it."""
    connection.execute(audit.insert(), {"at": time.time_ns() // 1000, "who": who, "action": action, "subject": subject})
