"""API keys: made once, kept as digests, looked up by a public part. Stands after `opening`.

A key is `pw_ID_SECRET`. Its secret is 256 random bits, so that one fast digest of it is as safe as a slow one.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import Connection, select, update

from classifier.errors import UsageError
from service.store.audit import write_audit
from service.store.schema import api_keys

_MARK = "pw"


class Role(StrEnum):
    """What a key is for."""

    SCORER = "scorer"  # sends traffic
    ANALYST = "analyst"  # reads verdicts and reviews them
    ADMIN = "admin"  # all of it


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept; times in us, None: never. `digest` is SHA-256 of the secret."""

    key_id: str
    digest: bytes
    role: Role
    name: str
    created: int
    expires: int | None
    revoked: int | None

    def holds_at(self, us: int) -> bool:
        return self.revoked is None and (self.expires is None or us < self.expires)

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id}, {self.role})"


def add_key(connection: Connection, role: Role, name: str, days: float | None, who: str) -> str:
    """Make a key; the only time that it is seen whole."""
    now = time.time_ns() // 1000
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = None if days is None else now + round(days * 86_400_000_000)
    row = ApiKey(key_id, digest_of(secret), role, name, now, expires, None)
    connection.execute(api_keys.insert(), {**vars(row), "role": str(role)})
    write_audit(connection, who, "key added", f"{key_id} ({role})")
    return f"{_MARK}_{key_id}_{secret}"


def read_keys(connection: Connection) -> list[ApiKey]:
    """All keys, oldest first."""
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created, api_keys.c.key_id))
    return [ApiKey(**{**row._mapping, "role": Role(row.role)}) for row in rows]


def revoke_key(connection: Connection, key_id: str, who: str) -> None:
    """Take a key out of use. Raises UsageError if there is none in use by that id."""
    change = update(api_keys).where(api_keys.c.key_id == key_id, api_keys.c.revoked.is_(None))
    if connection.execute(change.values(revoked=time.time_ns() // 1000)).rowcount == 0:
        raise UsageError(f"There is no key {key_id} in use: `probewatch keys list` shows them.")
    write_audit(connection, who, "key revoked", key_id)


def split_key(text: str) -> tuple[str, str] | None:
    """Public id and secret of a key; None if it has not the form of one."""
    parts = text.split("_", 2)
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == _MARK else None


def digest_of(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
