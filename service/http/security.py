"""Who may do what: API keys, roles, rates. One gate before all routes, closed by default. Stands after `published`."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from service.http.problems import Problem, unavailable
from service.http.sessions import key_of_session, session_in
from service.store.ended import read_ended
from service.store.keys import ApiKey, Role, digest_of, read_keys, split_key
from service.store.opening import Store

ANALYSTS = frozenset({Role.ANALYST, Role.ADMIN})
SCORERS = frozenset({Role.SCORER, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
EVERYONE = frozenset(Role)

OPEN = frozenset({"/livez", "/readyz", "/docs", "/openapi.json", "/login"})
_STATIC = re.compile(r"/static/[a-z.]+")
PAGES = re.compile(
    r"/|/accounts(\.csv)?|/account(/sheet)?|/campaigns?|/templates?|/discovered|/propose|/models?|/organisations"
    r"|/beginnings|/try|/alerts"
)
FORMS = re.compile(r"/login|/logout|/account/review|/propose|/template/drop|/try|/alerts/(test|retry)")
"""The console: what a browser asks for and sends, with its session where an API client has its key."""
ACCESS: tuple[tuple[str, re.Pattern[str], frozenset[Role]], ...] = tuple(
    (method, re.compile(path), roles)
    for method, path, roles in (
        ("POST", r"/v1/score(/batch)?", SCORERS),
        ("GET", r"/v1/accounts(/.+)?", ANALYSTS),
        ("POST", r"/v1/accounts/.+/reviews", ANALYSTS),
        ("DELETE", r"/v1/accounts/.+", ADMINS),
        ("GET", r"/v1/campaigns(/[^/]+)?", ANALYSTS),
        ("GET", r"/v1/templates(/discovered)?", ANALYSTS),
        ("POST", r"/v1/templates(/[^/]+/(approve|benign))?", ANALYSTS),
        ("DELETE", r"/v1/templates/.+", ANALYSTS),
        ("POST", r"/v1/reload", ADMINS),
        ("GET", r"/metrics", EVERYONE),
        ("GET", r"/alerts", ADMINS),
        ("POST", r"/alerts/(test|retry)", ADMINS),
        ("GET", PAGES.pattern, ANALYSTS),
        ("POST", FORMS.pattern, ANALYSTS),
    )
)
"""Method, path and who may. What is not listed needs an admin, so that a route that is forgotten here is closed."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(:\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Caller:
    """Who sends a request: the id of the key, or `loopback` where no keys are in use."""

    name: str
    role: Role


KEYLESS = Caller("loopback", Role.ADMIN)


class Gate:
    """Keys of the store as last read, and what each has sent of late."""

    def __init__(self, store: Store, rate: float) -> None:
        self._store, self._rate = store, rate
        self._keys: Mapping[str, ApiKey] | None = None
        self._ended: Mapping[str, int] = {}
        self._sent: dict[str, tuple[float, float]] = {}

    def refresh(self) -> None:
        """Read the keys again, and which sessions were ended; blocks."""
        with self._store.reading() as connection:
            self._ended = read_ended(connection)
            self._keys = {key.key_id: key for key in read_keys(connection)}

    def admit(self, method: str, path: str, headers: Headers) -> Caller | None:
        """Who asks, if they may; None for what is open to all. Raises Problem 401, 403 or 421."""
        if path in OPEN or _STATIC.fullmatch(path):
            return None
        caller = self._caller(headers, is_console(method, path))
        if caller.role not in roles_of(method, path):
            raise Problem(403, "not-allowed", f"A key with the role {caller.role} may not do this.")
        return caller

    def spend(self, caller: Caller, n: int) -> None:
        """Count events against the rate of a key. Raises Problem 429."""
        if not self._rate:
            return
        now = time.monotonic()
        left, since = self._sent.get(caller.name, (self._rate, now))
        left = min(self._rate, left + (now - since) * self._rate)
        if left < min(n, self._rate):  # one batch above the rate passes when nothing else was sent
            wait = (min(n, self._rate) - left) / self._rate
            detail = f"This key may send {self._rate:g} prompts a second."
            raise Problem(429, "too-many", detail, {"retry-after": str(1 + int(wait))})
        self._sent[caller.name] = (left - n, now)

    def key_of(self, text: str) -> ApiKey | None:
        """The key that a text is, if it holds now."""
        keys, parts = self._known(), split_key(text.strip())
        found = keys.get(parts[0]) if parts is not None else None
        digest = found.digest if found is not None else bytes(32)
        right = hmac.compare_digest(digest_of(parts[1] if parts is not None else ""), digest)
        return found if found is not None and right and found.holds_at(time.time_ns() // 1000) else None

    @property
    def is_open(self) -> bool:
        """Whether no key is in use, so that this machine alone is answered."""
        return not self._known()

    def _known(self) -> Mapping[str, ApiKey]:
        if self._keys is None:
            raise unavailable("store-unavailable", "The API keys were not read yet: try again.")
        return self._keys

    def _caller(self, headers: Headers, of_console: bool) -> Caller:
        keys = self._known()
        if not keys:
            return _keyless(headers)
        scheme, _, text = headers.get("authorization", "").partition(" ")
        found = self.key_of(text) if scheme.lower() == "bearer" else None
        if found is None and of_console:
            found = key_of_session(session_in(headers), keys, self._ended, time.time_ns() // 1000)
        if found is None:
            detail = "No valid API key was sent: expected Authorization: Bearer KEY."
            raise Problem(401, "no-valid-key", detail, {"www-authenticate": "Bearer"})
        return Caller(found.key_id, found.role)


def is_console(method: str, path: str) -> bool:
    """Whether a browser asks for a page of the console, or sends one of its forms."""
    return (FORMS if method == "POST" else PAGES).fullmatch(path) is not None


def roles_of(method: str, path: str) -> frozenset[Role]:
    """Who may."""
    asked = "GET" if method == "HEAD" else method
    for known, pattern, roles in ACCESS:
        if known == asked and pattern.fullmatch(path):
            return roles
    return ADMINS


def _keyless(headers: Headers) -> Caller:
    """Without keys, whoever reaches loopback; not a web page that was led there under another name."""
    match = _HOST.fullmatch(headers.get("host", ""))
    if match is None or match[1].strip("[]").lower() not in LOOPBACK:
        raise Problem(421, "not-this-host", "Without API keys only requests to localhost are answered.")
    return KEYLESS
