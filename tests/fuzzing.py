"""Requests that nobody would send, against a real server: no 500, and nothing that the OpenAPI document does not say.

By schemathesis from the document, for what it describes; by Hypothesis for bodies of no shape at all, and for the
console. Shared by a test and a benchmark.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.store.keys import Role, add_key
from tests.console_store import token_in
from tests.serving import Running, running

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
COSTLY = 3
"""Examples at most of a call without any input."""
EVENT = {"account_id": "a", "prompt": "Write a parser.", "event_id": "e"}
FIELDS = (
    *("account_id", "prompt", "messages", "system", "tools", "event_id", "timestamp", "role", "content", "text"),
    *("type", "events", "state", "reason", "until", "parts", "tool_calls", "attributes"),
)
TELLING: list[Any] = [
    "user",
    "system",
    "text",
    "2026-05-01T12:00:00Z",
    "9999-12-31T23:59:59Z",
    1e308,
    -1,
    2**70,
    "\ud800",
]
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TELLING)
_names = st.sampled_from(FIELDS) | st.text(max_size=5)
VALUES = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5), max_leaves=12
)
EVENTS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(lambda some: {**EVENT, **some})
BODIES = st.one_of(
    VALUES.map(json.dumps).map(str.encode),
    EVENTS.map(json.dumps).map(str.encode),
    st.lists(EVENTS | VALUES, max_size=4).map(lambda events: json.dumps({"events": events}).encode()),
    st.tuples(EVENTS, st.integers(0, 200), st.binary(max_size=5)).map(lambda cut: _damaged(*cut)),
    st.binary(max_size=50),
)
_TEXT_FIELDS = (
    *("id", "state", "reason", "until", "family", "prompt", "key", "next", "search", "decision", "capability"),
    *("after", "since", "campaign", "cursor", "limit", "seen_since"),
)
_texts = st.text(max_size=20) | st.sampled_from(
    ["a", "watched", "exempted", "2027-01-31", "flag", "coding", "-1", "9" * 30]
)
QUERIES = st.dictionaries(st.sampled_from(_TEXT_FIELDS), _texts, max_size=5)
JSON_CALLS = ("/v1/score", "/v1/score/batch", "/v1/accounts/a/reviews")
FORMS = ("/try", "/account/review", "/login")
PAGES = (
    *("/", "/accounts", "/accounts.csv", "/account", "/account/sheet", "/campaign", "/campaigns", "/template"),
    *("/templates", "/try", "/login", "/v1/accounts"),
)


def _damaged(event: dict[str, Any], at: int, piece: bytes) -> bytes:
    body = json.dumps(event).encode()
    return body[:at] + piece + body[at:]


class Fuzzed:
    """A server, and what was sent to it: by call and status."""

    def __init__(self, server: Running, key: str) -> None:
        self.server = server
        self.seen: Counter[tuple[str, int]] = Counter()
        self._bearer = {"authorization": f"Bearer {key}"}
        self._session = requests.Session()
        self._session.headers.update(self._bearer)
        self._browser = httpx.Client(base_url=server.client.base_url, timeout=60)
        self._token = token_in(self._browser.get("/login").text)
        self._browser.post("/login", data={"token": self._token, "key": key})

    @property
    def n(self) -> int:
        return sum(self.seen.values())

    @property
    def n_errors(self) -> int:
        return sum(n for (_, status), n in self.seen.items() if status >= 500)

    def document(self, n: int, seeded: int) -> None:
        """Up to `n` cases for each call of the OpenAPI document that fit it, and as many that do not."""
        document = self.server.client.get("/openapi.json").json()
        for call in [call for calls in document["paths"].values() for call in calls.values()]:
            call.pop("security", None)  # or schemathesis would send keys of its own
        schema = schemathesis.openapi.from_dict(document)
        for found in schema.get_all_operations():
            operation = found.ok()
            may_be_wrong = bool(operation.body or operation.query)
            takes_input = may_be_wrong or bool(operation.path_parameters)
            for mode in GenerationMode if may_be_wrong else (GenerationMode.POSITIVE,):
                cases = operation.as_strategy(generation_mode=mode)
                _run(self._call, cases, n if takes_input else min(n, COSTLY), seeded)

    def bodies(self, n: int, seeded: int) -> None:
        """`n` bodies for every call that takes JSON."""
        for path in JSON_CALLS:
            _run(partial(self._post, path), BODIES, n, seeded)

    def console(self, n: int, seeded: int) -> None:
        """`n` queries for every page, and `n` forms of every kind."""
        for path in PAGES:
            _run(partial(self._get, path), QUERIES, n, seeded)
        for path in FORMS:
            _run(partial(self._fill, path), QUERIES, n, seeded)

    def close(self) -> None:
        self._browser.close()
        self._session.close()

    def _call(self, case: schemathesis.Case) -> None:
        answer = case.call(base_url=str(self.server.client.base_url), session=self._session)
        self.seen[case.operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    def _post(self, path: str, body: bytes) -> None:
        headers = {"content-type": "application/json", **self._bearer}
        self._note("POST", path, self.server.client.post(path, content=body, headers=headers))

    def _get(self, path: str, query: dict[str, str]) -> None:
        headers = self._bearer if path.startswith("/v1") else {}
        self._note("GET", path, self._browser.get(path, params=query, headers=headers))

    def _fill(self, path: str, fields: dict[str, str]) -> None:
        self._note("POST", path, self._browser.post(path, data={**fields, "token": self._token}))

    def _note(self, method: str, path: str, answer: httpx.Response) -> None:
        self.seen[f"{method} {path}", answer.status_code] += 1
        assert answer.status_code < 500, answer.text


def _run(send: Callable[[Any], None], cases: st.SearchStrategy[Any], n: int, seeded: int) -> None:
    def send_one(case: Any) -> None:
        send(case)

    quiet = settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    seed(seeded)(quiet(given(cases)(send_one)))()


@contextmanager
def fuzzed(folder: Path) -> Iterator[Fuzzed]:
    """A server with a key, that sheds nothing."""
    with running(f"sqlite:///{folder / 'store.db'}", most_wait_ms=600_000, most_waiting=1_000_000) as server:
        server.score(**EVENT)
        with server.service.store.writing() as connection:
            key = add_key(connection, Role.ADMIN, "fuzz", None, "test")
        server.service.gate.refresh()
        with closing(Fuzzed(server, key)) as made:
            yield made
