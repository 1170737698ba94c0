"""Twenty ways in which a line of an OpenAI batch file is broken. Each makes the bytes of a line from a good request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

Request = dict[str, Any]


def _with_body(**changes: Any) -> Callable[[Request], bytes]:
    """Fields of the body replaced, those that are None left out."""

    def line(request: Request) -> bytes:
        body = {name: value for name, value in (request["body"] | changes).items() if value is not None}
        return orjson.dumps(request | {"body": body})

    return line


def _said(content: Any) -> Callable[[Request], bytes]:
    return _with_body(messages=[{"role": "user", "content": content}])


def _fixed(line: bytes) -> Callable[[Request], bytes]:
    return lambda request: line


WAYS: tuple[Callable[[Request], bytes], ...] = (
    lambda request: orjson.dumps(request)[:-40],
    lambda request: orjson.dumps(request) + b"}",
    lambda request: orjson.dumps(request).replace(b"batch", b"b\xff\xfetch"),
    lambda request: orjson.dumps([request]),
    lambda request: orjson.dumps(request | {"body": None}),
    lambda request: orjson.dumps(request | {"body": "see above"}),
    _fixed(b"not json at all"),
    _fixed(b"12345"),
    _fixed(b'"a string"'),
    _fixed(b"null"),
    _fixed(b"{}"),
    _fixed(b"[" * 5000),
    _with_body(user=None),
    _with_body(user=["a", "list"]),
    _with_body(messages=None),
    _with_body(messages=[]),
    _with_body(messages=[{"role": "assistant", "content": "no one asked"}]),
    _said(None),
    _said([{"type": "image_url", "image_url": {"url": "data:,"}}]),
    _said("   "),
)
