"""Addresses within the console. Ids of accounts hold any characters, so they stand in the query, not the path."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode


def link_to(path: str, given: Mapping[str, object] | None = None, **more: object) -> str:
    """A path with those of the parameters that have a value."""
    parts = {**(given if given is not None else {}), **more}
    query = urlencode({name: value for name, value in parts.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path


def within(target: str) -> str:
    """A target to go on to after logging in, if it lies within this console; else its first page."""
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if safe else "/"
