"""Connections to PostgreSQL that wait only so long: no one else notices a server that hangs or a line that is cut.

`statement_timeout` is the server's to keep, and one that is stopped keeps nothing. Imported by `opening` when needed.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

BRIEF_SECONDS = 5.0
"""For what takes no time by itself: to connect, to see whether a connection is alive, to roll back."""


class PatientConnection(psycopg.Connection[Any]):  # type: ignore[misc, unused-ignore]  # where psycopg is not installed
    """Waits `patience` seconds for each answer; without one it is closed, and OperationalError raised."""

    patience = BRIEF_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = timeout if timeout is not None else self.patience
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError:
            if self.info.transaction_status is TransactionStatus.ACTIVE:  # the answer did not come, and must not later
                self.pgconn.finish()
            raise
