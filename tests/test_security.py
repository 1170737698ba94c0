"""The page service/SECURITY.md: its table of who may do what, cell by cell against a server; and what it points to."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from service.http.security import FORMS
from service.http.sessions import SESSION
from service.settings import Settings
from service.store.keys import Role, add_key, revoke_key
from service.store.opening import open_store
from tests.console_store import send, token_in
from tests.serving import ROOT, Running, running

PAGE = ROOT / "service" / "SECURITY.md"
COLUMNS = (
    *("no key", "wrong key", "expired key", "revoked key", "scorer", "analyst", "admin"),
    *("session", "session without token"),
)
EVENT = {"account_id": "a", "prompt": "Write a parser."}
BODIES: dict[str, Any] = {
    "/v1/score": EVENT,
    "/v1/score/batch": {"events": [EVENT]},
    "/v1/accounts/{account_id}/reviews": {"state": "watched", "reason": "x"},
    "/account/review": {"id": "a", "state": "watched", "reason": "x"},
    "/try": {"prompt": "Write a parser."},
}
"""What is sent where a call needs more than an empty object or form."""
QUERIES = {"/account": "id=a", "/account/sheet": "id=a", "/template": "family=pw_review_bug"}
NAMES = {"account_id": "a", "name": "console.css"}
"""What stands for a parameter of a path; `unseen` for any other."""


class Seen(NamedTuple):
    """A server with keys, one for each column that has one, and a browser's session of an analyst."""

    server: Running
    keys: dict[str, str]
    session: str
    visit: str
    token: str


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('security') / 'store.db'}") as server:
        with server.service.store.writing() as connection:
            keys = {str(role): add_key(connection, role, str(role), None, "test") for role in Role}
            keys["expired key"] = add_key(connection, Role.ADMIN, "expired", 0, "test")
            keys["revoked key"] = add_key(connection, Role.ADMIN, "revoked", None, "test")
            revoke_key(connection, keys["revoked key"].split("_")[1], "test")
        server.score(**EVENT)
        server.service.gate.refresh()
        keys["wrong key"] = keys["admin"][:-4] + "0000"
        with httpx.Client(base_url=server.client.base_url) as browser:
            token = token_in(browser.get("/login").text)
            answer = browser.post("/login", data={"token": token, "key": keys["analyst"]})
            yield Seen(server, keys, answer.cookies[SESSION], browser.cookies["probewatch_visit"], token)


def documented() -> dict[str, dict[str, int]]:
    """The table of the page: expected status by call and column."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| (call|`[A-Z]+ /)", line)
    ]
    assert tuple(rows[0][1:]) == COLUMNS
    return {row[0].strip("`"): dict(zip(COLUMNS, map(int, row[1:]), strict=True)) for row in rows[1:]}


def calls_of(server: Running) -> set[str]:
    """Every method and path that the app answers, and one that it does not."""
    routes = iter_route_contexts(server.app.routes)
    found = {(method, str(route.path)) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    return {f"{method} {path.replace(':path}', '}')}" for method, path in found} | {"GET /no/such/path"}


def row(call: str, seen: Seen) -> dict[str, int]:
    """How a call is answered now, by column."""
    return {column: ask(call, column, seen).status_code for column in COLUMNS}


def ask(call: str, column: str, seen: Seen) -> httpx.Response:
    method, path = call.split(" ")
    client, headers, body = seen.server.client, bearer(seen, column), dict(BODIES.get(path, {}))
    if method == "DELETE":
        client.post("/v1/score", json=EVENT, headers=bearer(seen, "admin"))  # so that there is something to delete
    if column.startswith("session"):
        headers = {"cookie": f"{SESSION}={seen.session}; probewatch_visit={seen.visit}"}
        body |= {"token": seen.token} if is_form(method, path) and column == "session" else {}
    if path == "/login":
        body["key"] = seen.keys["analyst"]
    client.cookies.clear()
    address = re.sub(r"\{([^}]+)\}", lambda found: NAMES.get(found[1], "unseen"), path)
    sent = {"data": {"x": "1", **body}} if is_form(method, path) else {"json": body}
    url = f"{address}?{QUERIES[path]}" if path in QUERIES else address
    return client.request(method, url, headers=headers, **(sent if method in ("POST", "PUT", "PATCH") else {}))


def is_form(method: str, path: str) -> bool:
    return method == "POST" and FORMS.fullmatch(path) is not None


def bearer(seen: Seen, column: str) -> dict[str, str]:
    return {"authorization": f"Bearer {seen.keys[column]}"} if column in seen.keys else {}


def shown(call: str, statuses: dict[str, int]) -> str:
    return f"| `{call}` | {' | '.join(map(str, statuses.values()))} |"


def test_every_call_is_in_the_table(seen: Seen) -> None:
    missing = sorted(calls_of(seen.server) - documented().keys())
    rows = "\n".join(shown(call, row(call, seen)) for call in missing)
    assert not missing, f"add to the table of {PAGE.name}, if every status is as it should be:\n{rows}"


def test_no_call_in_the_table_is_gone(seen: Seen) -> None:
    gone = documented().keys() - calls_of(seen.server)
    assert not gone, f"take out of the table of {PAGE.name}: {', '.join(sorted(gone))}"


def test_each_cell_of_the_table_is_what_the_server_answers(seen: Seen) -> None:
    table = documented()
    answered = {call: row(call, seen) for call in sorted(table.keys() & calls_of(seen.server))}
    wrong = [
        f"the page: {shown(call, table[call])}\nthe server: {shown(call, found)}"
        for call, found in answered.items()
        if found != table[call]
    ]
    assert not wrong, "\n".join(wrong)


def test_what_the_page_points_to_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tests = re.findall(r"`(tests/\w+\.py)::(\w+)`", page)
    assert len(tests) > 40
    lost = [
        f"{path}::{name}" for path, name in tests if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    files = re.findall(r"`((?:service|classifier)/[\w/]+\.py)`", page)
    assert lost + [path for path in files if not (ROOT / path).is_file()] == []


def test_no_secret_and_no_prompt_is_in_logs_reprs_or_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt, hash_key = "the secret sonnet", "the-hash-key-of-this-house"
    caplog.set_level(logging.DEBUG)  # of every library too
    with running(f"sqlite:///{tmp_path / 'store.db'}", hash_key=hash_key) as server:
        with server.service.store.writing() as connection:
            key = add_key(connection, Role.ADMIN, "ann", None, "test")
        server.service.gate.refresh()
        bearer = {"authorization": f"Bearer {key}"}
        event = {"account_id": "a", "prompt": prompt}
        said = [server.client.post("/v1/score", json=event, headers=bearer).text]
        said += [server.client.post("/v1/score", json=event | {"timestamp": prompt}, headers=bearer).text]
        said += [server.client.post("/v1/score", json=event | {"account_id": ""}, headers={}).text]
        said += [server.client.post("/v1/score/batch", json=[prompt], headers=bearer).text]
        said += [send(server.client, "/login", "/login", key=key).text, server.client.get("/account?id=a").text]
        said += [server.client.get("/metrics", headers=bearer).text, server.client.get("/readyz").text]
        known = (server.service.settings, server.service.gate, server.service.gate.key_of(key), server.service.store)
        said += [repr(one) for one in known]
    secrets = (prompt, hash_key, key.split("_", 2)[2])
    assert caplog.text and not any(secret in text for secret in secrets for text in (*said, caplog.text))
    settings = Settings(store="postgresql://ann:the-password@db/probewatch")
    shown = (repr(settings), str(settings), repr(open_store(settings.store)), repr(open_store(settings.store).engine))
    assert not any("the-password" in text for text in shown)
