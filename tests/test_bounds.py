"""Bounds on what one connection and many may cost: bodies, heads, connections. Slow ones are in test_http."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.serving import Running, running

BODY = 4096
CONNECTIONS = 8


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = f"sqlite:///{tmp_path_factory.mktemp('bounds') / 'store.db'}"
    with running(store, most_body_bytes=BODY, most_connections=CONNECTIONS) as server:
        yield server


def line_to(server: Running) -> socket.socket:
    url = server.client.base_url
    return socket.create_connection((url.host, url.port), timeout=30)


def heard(line: socket.socket) -> bytes:
    """All until it is closed."""
    pieces = []
    try:
        while piece := line.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:  # closed with what it had not read
        pass
    return b"".join(pieces)


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(bounded: Running) -> None:
    head = "POST /v1/score HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
    with line_to(bounded) as line:
        line.sendall(f"{head}content-length: {1 << 40}\r\n\r\n".encode())
        assert heard(line).startswith(b"HTTP/1.1 413 ")
    with line_to(bounded) as line:  # and one that does not say how long it is
        line.sendall(f"{head}transfer-encoding: chunked\r\n\r\n{BODY + 1:x}\r\n".encode() + b" " * (BODY + 1))
        assert heard(line).startswith(b"HTTP/1.1 413 ")


def test_connections_beyond_the_bound_are_refused(bounded: Running) -> None:
    ask = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    lines = [line_to(bounded) for _ in range(CONNECTIONS)]
    try:
        lines[-1].sendall(ask)
        assert heard(lines[-1]).startswith(b"HTTP/1.1 503 ")
    finally:
        for line in lines:
            line.close()
    while True:  # it takes a moment for the server to see that they went
        with line_to(bounded) as line:
            line.sendall(ask)
            if heard(line).startswith(b"HTTP/1.1 200 "):
                return


@pytest.mark.parametrize("name", [b"x-long: ", b""])
def test_a_head_that_never_ends_is_cut_off(bounded: Running, name: bytes) -> None:
    with line_to(bounded) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + name)
        sent = 0
        try:
            while sent < 8 << 20:
                line.sendall(b"x" * 4096 if name else b"a: b\r\n" * 683)
                sent += 4096
        except OSError:
            pass
        assert sent < 8 << 20
