"""Keeping what is kept no longer than the settings say: a little at a time while serving, or all of it at once.

settings -> **retention** -> store.retention
"""

from __future__ import annotations

import secrets
from dataclasses import fields

from service.settings import Settings
from service.store.audit import write_audit
from service.store.leases import take_lease
from service.store.opening import Store
from service.store.retention import Limits, Prunable, Pruned, count_prunable, prune_some

TURNS = 10
"""Transactions in one turn of a serving process."""
REST = 60_000_000
"""After a turn that found nothing, us."""
_DAY, _HOUR = 86_400_000_000, 3_600_000_000
_LEASE = "retention"
_NOTHING = Pruned(0, 0, 0, 0)


def limits_of(settings: Settings, now: int) -> Limits:
    """What the settings let be kept at a time (us)."""
    accounts = now - settings.keep_account_days * _DAY if settings.keep_account_days else None
    events = now - round(settings.retention_hours * _HOUR)
    excerpts = now - round(settings.excerpt_hours * _HOUR)  # all of them, if none are to be kept any more
    return Limits(now, events, accounts, now - settings.keep_alert_days * _DAY, excerpts)


class Retention:
    """Forgets a little in every turn, in one process at a time."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._holder = secrets.token_hex(8)
        self._rests_until = 0

    def turn(self, now: int) -> None:
        """Forget some of what is past its time. The audit log says how much, event ids apart, of which many go every
        minute."""
        if now < self._rests_until:
            return
        limits = limits_of(self._settings, now)
        for _ in range(TURNS):
            with self._store.writing() as connection:
                if not take_lease(connection, _LEASE, self._holder, now, now + 2 * REST):
                    return
                some = prune_some(connection, limits)
                if some.n_accounts or some.n_messages:
                    write_audit(connection, "retention", "forgotten", str(some))
            if some == _NOTHING:
                self._rests_until = now + REST
                return


def prune(store: Store, settings: Settings, now: int, who: str) -> Pruned:
    """Forget all that is past its time; how much."""
    limits, done = limits_of(settings, now), _NOTHING
    while True:
        with store.writing() as connection:
            some = prune_some(connection, limits)
            if some == _NOTHING:
                write_audit(connection, who, "forgotten", str(done))
                return done
        done = _sum(done, some)


def would_prune(store: Store, settings: Settings, now: int) -> Prunable:
    with store.reading() as connection:
        return count_prunable(connection, limits_of(settings, now))


def _sum(one: Pruned, other: Pruned) -> Pruned:
    return Pruned(*(getattr(one, item.name) + getattr(other, item.name) for item in fields(Pruned)))
