"""Who may do what: each endpoint, each role, and no key, a wrong, an expired and a revoked one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from service.http.security import OPEN, roles_of
from service.store.keys import Role, add_key, read_keys, revoke_key, split_key
from tests.command import Ran
from tests.serving import Running, running

EVENT = {"account_id": "a", "prompt": "Write a parser."}
REVIEW = {"state": "watched", "reason": "x"}
TEMPLATE = {"family": "x", "reason": "x"}


class Call(NamedTuple):
    """A request, who may make it, and how it is answered then."""

    method: str
    path: str
    roles: str  # initials of those who may: scorer, analyst, admin (x)
    status: int
    body: Any = None


CALLS = (
    Call("POST", "/v1/score", "sx", 200, EVENT),
    Call("POST", "/v1/score/batch", "sx", 200, {"events": [EVENT]}),
    Call("GET", "/v1/accounts", "ax", 200),
    Call("GET", "/v1/accounts/a", "ax", 200),
    Call("POST", "/v1/accounts/a/reviews", "ax", 201, REVIEW),
    Call("DELETE", "/v1/accounts/unseen", "x", 404),
    Call("GET", "/v1/campaigns", "ax", 200),
    Call("GET", "/v1/campaigns/unseen", "ax", 404),
    Call("GET", "/v1/templates", "ax", 200),
    Call("GET", "/v1/templates/discovered?run=unseen", "ax", 409),
    Call("POST", "/v1/templates", "ax", 409, TEMPLATE | {"samples": [EVENT]}),
    Call("POST", "/v1/templates/unseen/approve", "ax", 409, TEMPLATE | {"run": "unseen"}),
    Call("POST", "/v1/templates/unseen/benign", "ax", 409, TEMPLATE | {"run": "unseen"}),
    Call("DELETE", "/v1/templates/unseen?reason=x", "ax", 409),
    Call("POST", "/v1/reload", "x", 200),
    Call("GET", "/metrics", "sax", 200),
    Call("GET", "/no/such/route", "x", 404),
)
INITIALS = {Role.SCORER: "s", Role.ANALYST: "a", Role.ADMIN: "x"}


class Locked(NamedTuple):
    """A server with keys: those in use by role, and those that are not."""

    server: Running
    keys: dict[Role, str]
    useless: dict[str, str]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('access') / 'store.db'}") as server:
        server.score(**EVENT)
        with server.service.store.writing() as connection:
            keys = {role: add_key(connection, role, f"the {role}", None, "test") for role in Role}
            expired = add_key(connection, Role.ADMIN, "expired", 0, "test")
            revoked = add_key(connection, Role.ADMIN, "revoked", None, "test")
            parts = split_key(revoked)
            assert parts is not None
            revoke_key(connection, parts[0], "test")
        server.service.gate.refresh()
        admin = keys[Role.ADMIN]
        wrong = {"expired": expired, "revoked": revoked, "wrong": admin[:-1] + ("A" if admin[-1] != "A" else "B")}
        yield Locked(server, keys, wrong | {"unknown": f"pw_{'0' * 12}_{'x' * 43}", "no key at all": "nonsense"})


def _ask(server: Running, call: Call, key: str | None) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return server.client.request(call.method, call.path, json=call.body, headers=headers)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_each_role_may_what_the_table_says(locked: Locked, call: Call) -> None:
    for role, key in locked.keys.items():
        answer = _ask(locked.server, call, key)
        assert answer.status_code == (call.status if INITIALS[role] in call.roles else 403), (role, answer.text)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_without_a_key_that_holds_nothing_is_told(locked: Locked, call: Call) -> None:
    for key in (None, *locked.useless.values()):
        answer = _ask(locked.server, call, key)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["detail"] == "No valid API key was sent: expected Authorization: Bearer KEY."


@pytest.mark.parametrize("path", sorted(OPEN))
def test_what_is_open_needs_no_key(locked: Locked, path: str) -> None:
    assert locked.server.client.get(path).status_code == 200


def test_files_of_the_console_are_open_and_nothing_else_beside_them(locked: Locked) -> None:
    client = locked.server.client
    assert client.get("/static/console.css").status_code == 200
    assert {client.get(f"/static/{name}").status_code for name in ("%2e%2e/x", "", "a/b", "A")} == {401}


def test_every_route_is_in_the_table(locked: Locked) -> None:
    document = locked.server.client.get("/openapi.json").json()
    listed = {(call.method, re.sub("/(a|unseen)(?=/|$)", "/{id}", call.path.split("?")[0])) for call in CALLS}
    for path, methods in document["paths"].items():
        for method in methods:
            place = (method.upper(), re.sub(r"\{\w+\}", "{id}", path))
            assert path in OPEN or place in listed or place == ("GET", "/v1/accounts/{id}"), place
    assert roles_of("PUT", "/v1/accounts") == {Role.ADMIN}


def test_a_key_is_never_kept_whole(locked: Locked) -> None:
    secret = locked.keys[Role.ADMIN].split("_", 2)[2]
    with locked.server.service.store.reading() as connection:
        keys = read_keys(connection)
        dump = [
            str(row) for name in ("api_keys", "audit") for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
        ]
    assert secret not in repr(keys) and not any(secret in row for row in dump)
    assert keys[0].digest.hex() not in repr(keys)


def test_keys_are_rotated_without_a_restart(locked: Locked) -> None:
    server = locked.server
    with server.service.store.writing() as connection:
        key = add_key(connection, Role.ANALYST, "short-lived", None, "test")
    accounts = Call("GET", "/v1/accounts", "ax", 200)
    assert _ask(server, accounts, key).status_code == 401
    server.service._look_around()  # what happens every few seconds
    assert _ask(server, accounts, key).status_code == 200
    with server.service.store.writing() as connection:
        revoke_key(connection, key.split("_")[1], "test")
    server.service._look_around()
    assert _ask(server, accounts, key).status_code == 401


def test_each_key_has_its_own_rate(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('rate') / 'store.db'}"
    with running(url, rate_per_second=0.001) as server:
        with server.service.store.writing() as connection:
            first, second = (add_key(connection, Role.SCORER, name, None, "test") for name in ("one", "two"))
        server.service.gate.refresh()
        call = CALLS[0]
        assert [_ask(server, call, first).status_code for _ in range(2)] == [200, 429]
        assert _ask(server, call, second).status_code == 200
        assert int(_ask(server, call, first).headers["retry-after"]) > 100


def test_keys_are_managed_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    store = ["--store", f"sqlite:///{tmp_path / 'store.db'}"]
    assert Ran(capsys, "keys", "list", *store).out == "There are no keys: the service answers this machine alone.\n"
    key = Ran(capsys, "keys", "add", "--role", "scorer", "--name", "gateway", "--days", 30, *store).out.strip()
    key_id = key.split("_")[1]
    assert f"{key_id}  scorer   in use      ends 20" in Ran(capsys, "keys", "list", *store).out
    assert Ran(capsys, "keys", "revoke", key_id, *store).out == f"The key {key_id} is revoked.\n"
    assert "not in use" in Ran(capsys, "keys", "list", *store).out
    assert Ran(capsys, "keys", "logout", key_id, *store).out == f"The sessions of the key {key_id} are ended.\n"
    assert Ran(capsys, "keys", "logout", "nobody", *store).code == 2
    again = Ran(capsys, "keys", "revoke", key_id, *store)
    assert again.code == 2 and "There is no key" in again.sentence
    wrong = Ran(capsys, "keys", "add", "--role", "king", "--name", "x", *store)
    assert wrong.code == 2 and "expected one of scorer, analyst, admin" in wrong.sentence


def test_alerts_are_for_admins(locked: Locked) -> None:
    def ask(role: Role, method: str, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {locked.keys[role]}", "content-type": "application/x-www-form-urlencoded"}
        return locked.server.client.request(method, path, headers=headers)

    shown = {role: ask(role, "GET", "/alerts").status_code for role in Role}
    assert shown == {Role.SCORER: 403, Role.ANALYST: 403, Role.ADMIN: 200}
    for path in ("/alerts/test", "/alerts/retry"):
        assert all("may not do this" in ask(role, "POST", path).text for role in (Role.SCORER, Role.ANALYST))
        assert "This form is of another page" in ask(Role.ADMIN, "POST", path).text
