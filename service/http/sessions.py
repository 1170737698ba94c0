"""Sessions of the console: a cookie that says which API key logged in, and until when. Stands before `security`.

The cookie is signed with the digest of the key, which every process has in the store: a session ends with its key, and
nothing is kept of it but, by key, when all that had begun were ended. Whoever can read digests in the store can make
sessions, and has what these show before him.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

from service.store.keys import ApiKey

SESSION = "probewatch_session"
HOURS = 12
"""A working day: then one logs in again."""
_LASTS = HOURS * 3_600_000_000


def session_of(key: ApiKey, now: int) -> str:
    """The cookie of a key that logs in now (us)."""
    said = f"{key.key_id}.{now + _LASTS}.{secrets.token_hex(8)}"
    return f"{said}.{_signature(said, key.digest)}"


def session_in(headers: Headers) -> str:
    """The cookie in a request; empty if there is none."""
    return cookie_in(headers, SESSION)


def cookie_in(headers: Headers, name: str) -> str:
    """A cookie in a request; empty if there is none, or no reading them."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def key_of_session(cookie: str, keys: Mapping[str, ApiKey], ended: Mapping[str, int], now: int) -> ApiKey | None:
    """The key that logged in, if both it and the session hold at a time (us). `ended`: by key, up to when."""
    said, _, signature = cookie.rpartition(".")
    parts = said.split(".")
    key = keys.get(parts[0])
    if key is None or len(parts) != 3 or not hmac.compare_digest(signature, _signature(said, key.digest)):
        return None
    until = int(parts[1])
    holds = now < until and ended.get(key.key_id, 0) < until - _LASTS
    return key if holds and key.holds_at(now) else None


def _signature(said: str, digest: bytes) -> str:
    return blake2b(said.encode(), key=digest, digest_size=32, person=b"session").hexdigest()
