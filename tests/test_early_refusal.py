"""The door: a refusal before HTTP is parsed is, byte for byte and count for count, the one after."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from starlette.datastructures import Headers

from service.http.door import START, Door, Refused, read_head
from service.http.metrics import Metrics
from service.http.problems import Problem, unavailable
from service.http.security import KEYLESS, Caller
from service.http.waiting import Waiting
from service.store.keys import Role, add_key
from tests.serving import Running, running

pytest.importorskip("httptools", reason="with h11 nothing is refused early")

CROWD = 50_000
BODY = orjson.dumps({"account_id": "a", "prompt": "Write a parser."})
COUNTS = re.compile(
    r'^(probewatch_(?:events|requests|request_seconds)_(?:\w*total|count)(?:\{.*"/v1/score".*\})?) (\S+)$', re.MULTILINE
)


class Watched(NamedTuple):
    """A server, and what its door answered."""

    server: Running
    early: list[Refused]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('door') / 'store.db'}", idle_seconds=1) as server:
        yield server


@pytest.fixture
def watched(up: Running, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(up, answers_of_the_door(monkeypatch))


def answers_of_the_door(monkeypatch: pytest.MonkeyPatch) -> list[Refused]:
    early: list[Refused] = []
    refuse = Door.refuse

    def noting(self: Door, data: bytes) -> Refused | None:
        refused = refuse(self, data)
        if refused is not None:
            early.append(refused)
        return refused

    monkeypatch.setattr(Door, "refuse", noting)
    return early


@contextmanager
def overloaded(server: Running) -> Iterator[None]:
    """As if many waited."""
    server.service.scorer.waiting.came(CROWD)
    try:
        yield
    finally:
        server.service.scorer.waiting.left(CROWD)


def request(*fields: str, body: bytes = BODY, length: int | None = None) -> bytes:
    n = len(body) if length is None else length
    usual = ("host: localhost", "content-type: application/json", f"content-length: {n}")
    return START + "\r\n".join([*usual, *fields, "", ""]).encode() + body


@contextmanager
def line_to(server: Running) -> Iterator[socket.socket]:
    url = server.client.base_url
    with socket.create_connection((url.host, url.port), timeout=30) as line:
        yield line


def answer_on(line: socket.socket) -> bytes:
    """One answer, by its content-length; of its date only that there is one."""
    heard = b""
    while (end := heard.find(b"\r\n\r\n")) < 0 or len(heard) < end + 4 + length_in(heard):
        piece = line.recv(1 << 16)
        assert piece, heard
        heard += piece
    return re.sub(rb"\r\ndate: [^\r]+ GMT\r\n", b"\r\ndate: then\r\n", heard)


def length_in(heard: bytes) -> int:
    found = re.search(rb"content-length: (\d+)", heard)
    return int(found[1]) if found is not None else 0


def asked(server: Running, *pieces: bytes, closes: bool = False) -> bytes:
    """The answer on a line of its own to what is sent in pieces, the later ones once it is there."""
    with line_to(server) as line:
        line.sendall(pieces[0])
        heard = answer_on(line)
        with suppress(ConnectionError):  # what comes after an answer that ends the line is not read
            for piece in pieces[1:]:
                line.sendall(piece)
            assert not closes or line.recv(100) == b""
        return heard


def counts(server: Running) -> dict[str, float]:
    return {name: float(value) for name, value in COUNTS.findall(server.client.get("/metrics").text)}


def counted(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


# --- the same answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [None, "keep-alive", "close", "Close"])
def test_the_answer_and_what_is_counted_are_those_of_the_usual_way(watched: Watched, connection: str | None) -> None:
    whole = request(*([f"connection: {connection}"] if connection is not None else []))
    closes = connection is not None and connection.lower() == "close"
    with overloaded(watched.server):
        first = counts(watched.server)
        early = asked(watched.server, whole, closes=closes)
        assert len(watched.early) == 1
        second = counts(watched.server)
        usual = asked(watched.server, *in_two(whole), closes=closes)
        third = counts(watched.server)
    assert len(watched.early) == 1
    assert early == usual and early.startswith(b"HTTP/1.1 503 Service Unavailable\r\ndate: then\r\nretry-after: ")
    assert (b"connection: close" in early) == closes
    assert b"More events come than can be scored" in early
    assert counted(first, second) == counted(second, third)
    assert counted(first, second) == {
        "probewatch_events_received_total": 1,
        "probewatch_events_shed_total": 1,
        'probewatch_requests_total{path="/v1/score",status="503"}': 1,
        'probewatch_request_seconds_count{path="/v1/score"}': 1,
    }


def in_two(whole: bytes) -> tuple[bytes, bytes]:
    end = whole.index(b"\r\n\r\n") + 4
    return whole[:end], whole[end:]


def test_a_line_goes_on_after_refusals_of_either_kind(watched: Watched) -> None:
    whole = request()
    with line_to(watched.server) as line:
        with overloaded(watched.server):
            for pieces in ((whole,), in_two(whole), (whole,), (whole,)):
                line.sendall(pieces[0])
                assert answer_on(line).startswith(b"HTTP/1.1 503 ")
                for piece in pieces[1:]:
                    line.sendall(piece)
                    time.sleep(0.2)  # a segment of its own
        line.sendall(whole)
        assert answer_on(line).startswith(b"HTTP/1.1 200 ")
    assert len(watched.early) == 3


def test_a_line_on_which_all_is_refused_is_not_taken_for_silent(watched: Watched) -> None:
    with line_to(watched.server) as line, overloaded(watched.server):
        for _ in range(5):  # for longer than `idle_seconds`
            line.sendall(request())
            assert answer_on(line).startswith(b"HTTP/1.1 503 ")
            time.sleep(0.3)
        assert line.recv(100) == b""  # but closed when it is
    assert len(watched.early) == 5


def test_that_nothing_is_scored_is_told_early_too(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched.server.service.scorer, "lost", "What scores was lost.")
    early, usual = (asked(watched.server, *pieces) for pieces in ((request(),), in_two(request())))
    assert early == usual and b"scoring-lost" in early and len(watched.early) == 1


# --- what goes the usual way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("expect: 100-continue"), 503),
        (request("upgrade: h2c", "connection: upgrade"), 503),
        (request("connection: close, keep-alive"), 503),
        (request("content-length: 5"), 400),
        (request("transfer-encoding: chunked"), 400),
        (request("folded: a", " b"), 400),
        (request("x: a\x00b"), 400),
        (request(length=len(BODY) + 1), 503),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 503),
        (request().replace(b"/v1/score", b"/v1/score?a=b"), 503),
        (request().replace(b"application/json", b"text/plain"), 415),
        (request().replace(b"localhost", b"example.com"), 421),
        (request().replace(b"host: localhost\r\n", b""), 421),
        (request().replace(b"/v1/score", b"/v1/scores"), 404),
    ],
)
def test_what_is_unusual_is_answered_by_who_can_read_it(watched: Watched, sent: bytes, status: int) -> None:
    with overloaded(watched.server):
        said = asked(watched.server, sent)
    assert said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 %d " % status), said
    assert watched.early == []


def test_two_requests_at_once_are_answered_in_turn(watched: Watched) -> None:
    with overloaded(watched.server), line_to(watched.server) as line:
        line.sendall(request() + request("connection: close"))
        heard = b"".join(iter(lambda: line.recv(1 << 16), b""))
    assert heard.count(b"HTTP/1.1 503 ") == 2 and watched.early == []


def test_a_body_that_looks_like_a_request_is_none(watched: Watched) -> None:
    """The head is answered before its body is there, and the body is what the next bytes are."""
    inner = request()
    with overloaded(watched.server), line_to(watched.server) as line:
        line.sendall(in_two(request(body=inner))[0])
        assert answer_on(line).startswith(b"HTTP/1.1 503 ")
        line.sendall(inner)
        time.sleep(0.2)
        line.sendall(request("connection: close"))
        heard = b"".join(iter(lambda: line.recv(1 << 16), b""))
    assert heard.count(b"HTTP/1.1 503 ") == 1 and len(watched.early) == 1


def test_answers_come_in_the_order_of_the_requests(watched: Watched) -> None:
    with line_to(watched.server) as line:
        with watched.server.service.store.writing():  # nothing else is committed meanwhile
            line.sendall(request())
            while not watched.server.service.scorer.waiting.there:
                time.sleep(0.01)
            with overloaded(watched.server):
                line.sendall(request("connection: close"))
                time.sleep(0.2)
        heard = b"".join(iter(lambda: line.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", heard)[0] == b"200" and watched.early == []


def test_beyond_the_most_connections_the_server_refuses_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = answers_of_the_door(monkeypatch)
    with running(f"sqlite:///{tmp_path / 'store.db'}", most_connections=2) as server, overloaded(server):
        assert asked(server, request(), closes=True).endswith(b"\r\n\r\nService Unavailable")
    assert early == []


def test_who_may_not_ask_learns_nothing_of_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        with server.service.store.writing() as connection:
            keys = {role: add_key(connection, role, "x", None, "test") for role in Role}
        server.service.gate.refresh()
        scorer = keys[Role.SCORER]
        early = answers_of_the_door(monkeypatch)
        before = server.service.metrics.counts()
        with overloaded(server):
            statuses = [
                asked(server, request(*fields))[9:12]
                for fields in (
                    (),
                    (f"authorization: Bearer {scorer[:-2]}",),
                    (f"authorization: Basic {scorer}",),
                    (f"authorization: Bearer {keys[Role.ANALYST]}",),
                )
            ]
            assert statuses == [b"401", b"401", b"401", b"403"]
            assert early == [] and server.service.metrics.counts() == before
            for role in (Role.SCORER, Role.ADMIN):
                whole = request(f"Authorization: bearer  {keys[role]}")
                assert asked(server, whole) == asked(server, *in_two(whole))
        assert len(early) == 2
        after = server.service.metrics.counts()
        assert {name: after[name] - before[name] for name in after} == {
            "received": 4, "scored": 0, "shed": 4, "rejected": 0, "failed": 0,
        }  # fmt: skip


def test_with_traces_every_request_has_its_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = answers_of_the_door(monkeypatch)
    store, url = f"sqlite:///{tmp_path / 'store.db'}", "http://127.0.0.1:9/v1/traces"
    with running(store, traces_url=url) as server, overloaded(server):
        assert asked(server, request()).startswith(b"HTTP/1.1 503 ")
    assert early == []


# --- what is counted --------------------------------------------------------------------------------------------------


def test_who_was_let_in_is_asked_again_when_the_body_is_there(watched: Watched) -> None:
    head, body = in_two(request())
    before = watched.server.service.metrics.counts()
    with line_to(watched.server) as line:
        line.sendall(head)
        time.sleep(0.2)
        with overloaded(watched.server):
            line.sendall(body)
            assert answer_on(line).startswith(b"HTTP/1.1 503 ")
    after = watched.server.service.metrics.counts()
    assert {name for name in after if after[name] != before[name]} == {"received", "shed"}


class FewPlaces:
    """Scores nothing, and lets so many wait."""

    def __init__(self, most: int) -> None:
        self.waiting = Waiting(most, 1.0)

    def is_full(self, n: int) -> bool:
        return self.waiting.too_long(n) is not None

    def refusal(self, n: int) -> Problem | None:
        return unavailable("overloaded", "wait") if self.is_full(n) else None


class OpenGate:
    def admit(self, method: str, path: str, headers: Headers) -> Caller:
        return KEYLESS


def door_of(places: FewPlaces) -> Door:
    return Door(OpenGate(), places, Metrics())  # type: ignore[arg-type]


def test_those_that_come_at_once_count_against_each_other() -> None:
    async def come() -> None:
        places = FewPlaces(5)
        door = door_of(places)
        assert [door.refuse(request()) is None for _ in range(8)] == [True] * 5 + [False] * 3
        places.waiting.came(5)  # as their tasks do, in the next pass
        await asyncio.sleep(0)
        assert places.waiting.coming == 0 and door.refuse(request()) is not None
        places.waiting.left(5)
        assert door.refuse(request()) is None

    asyncio.run(come())


def test_nothing_is_kept_of_what_is_refused() -> None:
    async def come() -> None:
        places = FewPlaces(1)
        places.waiting.came(1)
        door, data = door_of(places), request(body=b"x" * 100_000)
        before = sys.getrefcount(data)
        refused = [door.refuse(data) for _ in range(100)]
        assert None not in refused and sys.getrefcount(data) == before

    asyncio.run(come())


def test_a_head_is_read_as_the_parser_reads_it() -> None:
    head = read_head(START + b'Host:localhost\r\nX-Odd: \t a:b "c"\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n{}')
    assert head is not None and not head.stays
    assert head.fields == [
        (b"host", b"localhost"), (b"x-odd", b'a:b "c"'), (b"content-length", b"2"), (b"connection", b"Close"),
    ]  # fmt: skip
    assert read_head(START + b"\r\n") is None
    assert read_head(START + b"content-length: 0\r\n") is None
    assert read_head(START + b"content-length: 0\r\nx : a\r\n\r\n") is None
    assert read_head(START + b"content-length: 0\r\nx: a \r\n\r\n") is None
    assert read_head(START + b"content-length: +0\r\n\r\n") is None
    assert read_head(START + b"content-length: 0\nx: a\r\n\r\n") is None
