"""What whoever installs a hook decides: arguments, or environment variables. Stands after `client`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from probewatch_client import core
from probewatch_client.errors import BadInputError

PREFIX = "PROBEWATCH_"
MOST_SECONDS = 0.2
"""Longest that a hook holds up a request."""
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_DECISIONS = frozenset({"flag", "review", "clear", "insufficient_evidence"})


@dataclass(frozen=True)
class HookSettings:
    """Settings of every hook. By default it watches and never blocks, and never slows anything down.

    Attributes:
        url: of the service.
        key: API key with the role scorer; None where the service has no keys.
        enforce: score in-line, and refuse requests of accounts whose decision is in `block`; else behind the scenes.
        fail_closed: when enforcing, refuse requests that cannot be judged in time; else let them through.
        account: what says whose request it is: see each hook. `key`: a digest of the API key, never the key.
        block: decisions that are refused when enforcing.
        timeout: seconds at most that a request waits for its verdict; up to 0.2.
        most_waiting: events that may wait to be sent; above, they are dropped and counted.
        most_waiting_bytes: the same, in bytes.
        most_body: bytes of a request's body that are read; larger ones are passed on unread, and counted.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    enforce: bool = False
    fail_closed: bool = False
    account: str = "key"
    block: tuple[str, ...] = ("flag",)
    timeout: float = MOST_SECONDS
    most_waiting: int = 10_000
    most_waiting_bytes: int = 64 << 20
    most_body: int = 8 << 20

    def __post_init__(self) -> None:
        core.base_url(self.url)
        core.headers_of(self.key)
        if not 0 < self.timeout <= MOST_SECONDS:
            raise BadInputError(f"timeout is {self.timeout}: expected seconds above 0, up to {MOST_SECONDS}.")
        if min(self.most_waiting, self.most_waiting_bytes, self.most_body) < 1:
            raise BadInputError("most_waiting, most_waiting_bytes and most_body are bounds: expected 1 or more.")
        if not set(self.block) <= _DECISIONS:
            raise BadInputError(f"block is {', '.join(self.block)}: expected some of {', '.join(sorted(_DECISIONS))}.")
        if not self.account:
            raise BadInputError("account is empty: expected what says whose request it is, such as key.")


def settings_of(environment: Mapping[str, str]) -> HookSettings:
    """Settings by PROBEWATCH_URL, PROBEWATCH_KEY, PROBEWATCH_ENFORCE, ..., named as the fields of HookSettings.

    Raises:
        BadInputError: no URL, or a value that cannot be used; names the variable.
    """
    given = {name: value for name in HookSettings.__annotations__ if (value := environment.get(PREFIX + name.upper()))}
    if "url" not in given:
        raise BadInputError(
            f"{PREFIX}URL is not set: expected the URL of the service, such as https://probewatch:8080."
        )
    return hook_settings(given)


def hook_settings(given: Mapping[str, object]) -> HookSettings:
    """Settings of values that may be text, as configuration files and environments hold them.

    Raises:
        BadInputError: a value that cannot be used; names the setting.
    """
    values = {name: _value(name, given[name]) for name in HookSettings.__annotations__ if given.get(name) is not None}
    if "url" not in values:
        raise BadInputError("url is missing: expected the URL of the service, such as https://probewatch:8080.")
    return HookSettings(**values)  # type: ignore[arg-type]


def _value(name: str, value: object) -> object:
    kind = HookSettings.__annotations__[name]
    if kind == "bool":
        found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
        if found is None:
            raise BadInputError(f"{name} is {value!r}: expected yes or no.")
        return found
    if kind.startswith("tuple"):
        words = value.split(",") if isinstance(value, str) else value
        return tuple(str(word).strip() for word in words) if isinstance(words, list | tuple) else (str(words),)
    if kind in ("int", "float"):
        try:
            return int(str(value)) if kind == "int" else float(str(value))
        except ValueError:
            raise BadInputError(f"{name} is {value!r}: expected a number.") from None
    return str(value)
