"""What a store was begun with and must go on with, and what is told to all processes. Stands after `recording`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from hashlib import blake2b

import orjson
from sqlalchemy import Connection, text

from classifier.evidence import Baselines
from classifier.types import TARGETS
from service.store.opening import Store, StoreError
from service.store.recording import replay_accounts
from service.store.schema import facts
from service.store.statements import upsert, write_many

_READ = text("SELECT value FROM facts WHERE name = :name")
_CHANGED = text(
    "UPDATE days SET changes = changes + 1 WHERE day IN "
    "(SELECT DISTINCT us / 86400000000 FROM units WHERE y > 0 AND family = :family)"
)
_MADE_PUBLIC = text("UPDATE units SET y_public = y_public | y, y = 0 WHERE y > 0 AND family = :family")
_CHUNK = 200
"""Accounts replayed in one transaction."""


def check_facts(connection: Connection, hash_key: bytes, baselines: Baselines) -> None:
    """Note them in a new store; raises StoreError if the store was begun with others."""
    known = _fact(connection, "hash_key")
    own = _fingerprint(hash_key)
    if known is not None and known != own:
        raise StoreError(
            "The store was begun with another hash key, under which no unit would be known again: set "
            "PROBEWATCH_HASH_KEY as it was, or begin a new store."
        )
    capabilities = _fact(connection, "capabilities")
    if capabilities is not None and capabilities != ",".join(TARGETS):
        raise StoreError(
            f"The evidence in the store was counted for {capabilities.replace(',', ', ')}, the taxonomy lists "
            f"{', '.join(TARGETS)}: begin a new store, and import runs labelled anew."
        )
    counted = _fact(connection, "baselines")
    if counted is not None and counted != _document(baselines):
        raise StoreError(
            "The evidence in the store was counted with the baselines of another bundle: run probewatch store rebuild "
            "with the new one."
        )
    set_fact(connection, "hash_key", own)
    set_fact(connection, "baselines", _document(baselines))
    set_fact(connection, "capabilities", ",".join(TARGETS))


def rebuild(store: Store, baselines: Baselines, public: Collection[str] = ()) -> int:
    """Count the evidence of all accounts anew from their units; how many. While it runs nothing else may write.

    `public`: families that flag no more; their matches count for review alone from then on, those of the past too.
    """
    with store.writing() as connection:
        for family in public:
            connection.execute(_CHANGED, {"family": family})
            connection.execute(_MADE_PUBLIC, {"family": family})
    done, last = 0, 0
    while True:
        with store.writing() as connection:
            following = text("SELECT account_no FROM accounts WHERE account_no > :last ORDER BY account_no LIMIT :n")
            numbers = connection.execute(following, {"last": last, "n": _CHUNK}).scalars().all()
            if not numbers:
                set_fact(connection, "baselines", _document(baselines))
                return done
            replay_accounts(connection, numbers, baselines)
        done, last = done + len(numbers), numbers[-1]


def read_reloads(connection: Connection) -> int:
    """How often a reload was asked for: every process loads when it sees that this has grown."""
    found = _fact(connection, "reloads")
    return int(found) if found is not None else 0


def ask_reload(connection: Connection) -> int:
    """Have every process load the bundle and catalogue; how often that was asked for by now."""
    count = read_reloads(connection) + 1
    set_fact(connection, "reloads", str(count))
    return count


def set_fact(connection: Connection, name: str, value: str) -> None:
    write_many(connection, upsert(facts), [(name, value)])


def has_fact(connection: Connection, name: str) -> bool:
    return _fact(connection, name) is not None


def _fact(connection: Connection, name: str) -> str | None:
    found = connection.execute(_READ, {"name": name}).scalar()
    return str(found) if found is not None else None


def _document(baselines: Baselines) -> str:
    return orjson.dumps(asdict(baselines)).decode()


def _fingerprint(hash_key: bytes) -> str:
    """Of a key, from which it cannot be told."""
    return blake2b(b"fingerprint", key=blake2b(hash_key, digest_size=32).digest(), digest_size=16).hexdigest()
