"""service/client: both shells by one contract, against the real service; what is retried, and that it counts once."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.bundle import data_dir
from probewatch_client import (
    AsyncClient,
    BadAnswerError,
    BadInputError,
    BusyError,
    Client,
    ConflictError,
    Event,
    Failure,
    NoAnswerError,
    NotAllowedError,
    NotFoundError,
    ProbewatchError,
    Problem,
    RefusedError,
    Retry,
    Score,
    core,
)
from probewatch_client.core import Batch, Reply, answer_of, pause_after, pause_before_retry
from probewatch_client.errors import error_of
from probewatch_client.events import MOST_BYTES, Encoded, cut, encode
from probewatch_client.traffic import event_of_body
from service.store.keys import Role, add_key
from tests.hosting import LossyLine
from tests.serving import Process, Running, running

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = data_dir() / "sample" / "traffic.jsonl"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NO_RETRY = Retry(tries=1)
QUICK = Retry(tries=6, first=0.01, most=0.05)


class Awaited:
    """AsyncClient as if it waited: one event loop, each call run to its end."""

    def __init__(self, url: str, key: str | None = None, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, key, **options)

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            found = getattr(self._client, name)(*given, **named)
            return self._runner.run(_all_of(found) if inspect.isasyncgen(found) else found)

        return call

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


async def _all_of(generator: Any) -> list[Any]:
    return [one async for one in generator]


Shell = type[Client] | type[Awaited]


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def shell(request: pytest.FixtureRequest) -> Shell:
    found: Shell = request.param
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = tmp_path_factory.mktemp("client") / "store.db"
    with running(f"sqlite:///{store}", population=1_000, most_wait_ms=60_000) as up:
        yield up


def _url(server: Running) -> str:
    return str(server.client.base_url)


def _sample() -> list[Event]:
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    fields = ("account_id", "event_id", "prompt", "messages", "system", "tools")
    given = [{name: row[name] for name in fields if name in row} for row in rows]
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    return [Event(**one, timestamp=time) for one, time in zip(given, times, strict=True)]


# --- what both shells do ---


def test_a_score_says_what_the_service_says(shell: Shell, server: Running) -> None:
    event = Event("ann", "Write a parser for this log format.", system="You are a helpful assistant.")
    with shell(_url(server)) as client:
        found = client.score(event)
        again = client.score(event)
    said = server.score(account_id="ann", event_id=event.event_id, system=event.system, prompt=event.prompt).json()
    assert found == again
    assert (found.event_id, found.bundle_id, found.catalogue_id) == (event.event_id, said["bundle_id"], "none")
    assert dict(found.prompt.probabilities) == said["prompt"]["probabilities"]
    labels = (found.prompt.capability, found.prompt.p_extraction)
    assert labels == (said["prompt"]["capability"], said["prompt"]["p_extraction"])
    assert found.account.decision == said["account"]["decision"] == "insufficient_evidence"
    assert found.account.verdict_as_of.tzinfo is not None


def test_any_number_of_events_in_order(shell: Shell, server: Running) -> None:
    account = f"many-{shell.__name__}"
    events = [Event(account, f"Sort list number {i}.") for i in range(2_100)]
    events[1_500] = Event(account, "  ")
    with shell(_url(server)) as client:
        outcomes = client.score_batch(events)
    assert [one.event_id for one in outcomes] == [event.event_id for event in events]
    assert [i for i, one in enumerate(outcomes) if isinstance(one, Failure)] == [1_500]
    assert isinstance(outcomes[1_500].error, RefusedError) and outcomes[1_500].error.problem.kind == "bad-event"
    assert server.client.get(f"/v1/accounts/{account}").json()["n_prompts"] == 2_099


def test_one_event_that_spoils_a_request_takes_no_other_with_it(shell: Shell, server: Running) -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    events = [Event(f"deep-{shell.__name__}", f"Deep {i}", tools=[deep] if i == 37 else None) for i in range(100)]
    with shell(_url(server)) as client:
        outcomes = client.score_batch(events)
    assert [i for i, one in enumerate(outcomes) if isinstance(one, Failure)] == [37]
    assert outcomes[37].error.problem.kind == "too-deep"


def test_accounts_campaigns_and_templates(shell: Shell, server: Running) -> None:
    with shell(_url(server)) as client:
        outcomes = client.score_batch(_sample())
        assert sum(isinstance(one, Score) for one in outcomes) == len(outcomes)
        server.publish()
        flagged = list(client.accounts(decision="flag", page=5))
        assert [one.account_id for one in flagged] == sorted(
            row["account_id"] for row in server.client.get("/v1/accounts?decision=flag").json()["accounts"]
        )
        assert len(flagged) == 12
        detail = client.account("acct_0032")
        assert detail.decision == "flag" and detail.basis == "signature" and detail.reasons
        assert detail.evidence_event_ids[0].startswith("ev_")
        largest = client.campaigns()[0]
        whole = client.campaign(largest.campaign_id)
        assert len(whole.accounts) == largest.n_accounts
        assert {one.account_id for one in client.accounts(campaign_id=largest.campaign_id)} == set(whole.accounts)
        assert list(client.accounts(seen_since=datetime.now(UTC) + timedelta(days=1))) == []
        known = client.templates()
        assert len(known.templates) == len(server.client.get("/v1/templates").json()["templates"])
        assert client.reload().changed is False


def test_reviews_and_erasure(shell: Shell, server: Running) -> None:
    with shell(_url(server)) as client:
        client.score(Event("b/ä 1?", "Plan a trip."))
        until = datetime(2030, 1, 31, tzinfo=UTC)
        review = client.review("b/ä 1?", "watched", "ticket 4711", until)
        assert (review.state, review.reason, review.until) == ("watched", "ticket 4711", until)
        assert client.account("b/ä 1?").reviews == (review,)
        client.erase("b/ä 1?")
        with pytest.raises(NotFoundError, match="unknown-account"):
            client.account("b/ä 1?")
        with pytest.raises(NotFoundError):
            client.erase("b/ä 1?")
        with pytest.raises(RefusedError, match="'confirmed', 'dismissed' or 'watched'"):
            client.review("ann", "guilty", "because")


def test_an_event_id_belongs_to_one_account(shell: Shell, server: Running) -> None:
    with shell(_url(server)) as client:
        name = client.score(Event("carl", "Plan a trip.")).event_id
        with pytest.raises(ConflictError, match="used for another account"):
            client.score(Event("dora", "Plan a trip.", event_id=name))


def test_keys(shell: Shell, tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as up:
        with up.service.store.writing() as connection:
            key = add_key(connection, Role.SCORER, "gateway", None, "test")
        up.service.gate.refresh()
        with shell(_url(up), key) as client:
            assert client.score(Event("ann", "Hello.")).account.account_id == "ann"
            with pytest.raises(NotAllowedError, match="403 not-allowed"):
                client.account("ann")
            assert key not in repr(client)
        with shell(_url(up), "pw_wrong") as client, pytest.raises(NotAllowedError, match="401 no-valid-key") as raised:
            client.score_batch([Event("ann", "Hello.")])
        assert "pw_wrong" not in str(raised.value)


def test_a_lost_answer_counts_once(shell: Shell, server: Running) -> None:
    account = f"lost-{shell.__name__}"
    line = LossyLine(_url(server), losing=2)
    with shell(line.url, retry=QUICK) as client:
        assert client.score(Event(account, "Sort a list.")).account.n_prompts == 1
        line.losing = 3
        outcomes = client.score_batch([Event(account, f"Sort list {i}.") for i in range(1_500)])
        assert sum(isinstance(one, Score) for one in outcomes) == 1_500
        assert line.losing == 0
    assert server.client.get(f"/v1/accounts/{account}").json()["n_prompts"] == 1_501
    line.close()


def test_what_must_not_be_done_twice_is_not_repeated(shell: Shell, server: Running) -> None:
    account = f"once-{shell.__name__}"
    server.score(account_id=account, prompt="Hello.")
    line = LossyLine(_url(server), losing=1)
    with shell(line.url, retry=QUICK) as client, pytest.raises(NoAnswerError, match="may have been done all the same"):
        client.review(account, "watched", "once")
    assert len(server.client.get(f"/v1/accounts/{account}").json()["reviews"]) == 1
    line.close()


def test_a_server_killed_before_its_answer_counts_once(new_server: Callable[..., Process], tmp_path: Path) -> None:
    process = new_server(f"sqlite:///{tmp_path / 'store.db'}")
    process.start()

    def die_and_return() -> None:
        process.kill()
        threading.Thread(target=process.start).start()

    line = LossyLine(process.url, losing=1, lost=die_and_return)
    with Client(line.url, retry=Retry(tries=200, first=0.05, most=0.2, patience=60)) as client:
        outcomes = client.score_batch([Event("ann", f"Sort list {i}.") for i in range(300)])
        assert sum(isinstance(one, Score) for one in outcomes) == 300
        assert client.account("ann").n_prompts == 300
    line.close()
    assert process.stop()[0] == 0


def test_nobody_there(shell: Shell) -> None:
    with shell("http://127.0.0.1:1", retry=QUICK) as client:
        with pytest.raises(NoAnswerError, match="no connection; nothing was counted twice") as raised:
            client.score(Event("ann", "Hello."))
        assert raised.value.sent is False
        failures = client.score_batch([Event("ann", "Hello."), Event("ann", "Again.")])
    assert [type(one.error) for one in failures] == [NoAnswerError, NoAnswerError]


def test_both_shells_have_the_same_methods() -> None:
    def promised(kind: type) -> dict[str, Any]:
        found = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {name: (inspect.signature(value).parameters, value.__doc__) for name, value in found.items()}

    assert promised(Client) == promised(AsyncClient)


# --- the core, without I/O ---


def test_what_cannot_be_sent() -> None:
    for event, said in (
        (Event("", "x"), "account_id is empty"),
        (Event("a"), "either prompt or messages"),
        (Event("a", "x", messages=[]), "either prompt or messages"),
        (Event("a", "x", timestamp=datetime(2026, 1, 1)), "no time zone"),
        (Event("a", messages=[{"role": "user", "content": object()}]), "no JSON"),
    ):
        with pytest.raises(BadInputError, match=said):
            encode(event)
    for url in ("probewatch:8080", "ftp://x", "http://", "http://user:secret@host"):
        with pytest.raises(BadInputError, match="URL of the service") as raised:
            Client(url)
        assert "secret" not in str(raised.value)
    for key in ("", "a\nb", " key"):
        with pytest.raises(BadInputError, match="API key"):
            Client("http://x", key)
    with pytest.raises(BadInputError, match="timeout"):
        Client("http://x", timeout=0)
    with pytest.raises(BadInputError, match="cannot be asked for"):
        core.account("..")


def test_no_prompt_in_what_is_shown() -> None:
    event = Event("a", "a secret", messages=None, system="a secret", tools=["a secret"])
    assert "a secret" not in f"{event!r} {encode(event)!r} {core.score(event)!r}"


@given(sizes=st.lists(st.sampled_from([10, MOST_BYTES // 2, MOST_BYTES - 1, MOST_BYTES * 2]), max_size=6))
def test_parts_hold_every_event_and_fit(sizes: list[int]) -> None:
    class Sized(bytes):
        def __len__(self) -> int:
            return self.size

    events = []
    for i, size in enumerate(sizes):
        body = Sized()
        body.size = size
        events.append(Encoded(str(i), body))
    parts = cut(events)
    assert [event for part in parts for event in part] == events
    assert all(len(part) == 1 or sum(len(event.body) for event in part) <= MOST_BYTES for part in parts)


def test_at_most_a_thousand_in_a_part() -> None:
    events = [Encoded(str(i), b"x") for i in range(2_500)]
    assert [len(part) for part in cut(events)] == [1_000, 1_000, 500]


BUSY = error_of("POST /v1/score", Problem(503, "overloaded", "", "Full."), 2.0)
LOST = NoAnswerError("lost", sent=True)


@pytest.mark.parametrize(
    ("error", "repeatable", "tried", "spent", "pause"),
    [
        (LOST, True, 1, 0.0, 0.075),
        (LOST, True, 3, 0.0, 0.3),
        (LOST, True, 5, 0.0, None),  # tries are used up
        (LOST, True, 1, 29.99, None),  # and patience
        (LOST, False, 1, 0.0, None),
        (NoAnswerError("not sent", sent=False), False, 1, 0.0, 0.075),
        (BUSY, False, 1, 0.0, 2.075),  # as it asked for, and a little
        (error_of("", Problem(429, "too-many", "", "")), False, 1, 0.0, 0.075),
        (error_of("", Problem(503, "x", "", ""), 60.0), True, 1, 0.0, None),
        (error_of("", Problem(500, "our-fault", "", "")), True, 1, 0.0, None),
        (error_of("", Problem(422, "bad-event", "", "")), True, 1, 0.0, None),
        (BadAnswerError("html"), True, 1, 0.0, None),
    ],
)
def test_when_it_is_asked_again(
    error: ProbewatchError, repeatable: bool, tried: int, spent: float, pause: float | None
) -> None:
    call = core.score(Event("a", "x")) if repeatable else core.erase("a")
    assert pause_before_retry(Retry(), call, error, tried, spent, 0.5) == (pause and pytest.approx(pause))


def test_pauses_double_to_a_limit_and_spread() -> None:
    retry = Retry(first=1, most=8)
    assert [pause_after(retry, tried, None, 0.0) for tried in (1, 2, 3, 4, 5, 99)] == [0.5, 1, 2, 4, 4, 4]
    assert pause_after(retry, 4, None, 1.0) == 8


PROBLEM = {"type": "urn:probewatch:problem:overloaded", "title": "t", "status": 503, "detail": "Full."}


@pytest.mark.parametrize(
    ("status", "body", "after", "kind", "seconds"),
    [
        (503, json.dumps(PROBLEM), "7", BusyError, 7.0),
        (503, json.dumps(PROBLEM), "Fri, 01 May 2026 12:00:09 GMT", BusyError, 9.0),
        (503, json.dumps(PROBLEM), "Fri, 01 May 2026 11:00:00 GMT", BusyError, 0.0),
        (503, json.dumps(PROBLEM), "soon", BusyError, None),
        (503, "<html>", None, BusyError, None),
        (502, "", "3", BusyError, 3.0),
        (404, "<html>", None, BadAnswerError, None),
        (302, "", None, BadAnswerError, None),
        (200, "<html>", None, BadAnswerError, None),
        (200, "[]", None, BadAnswerError, None),
        (200, "{}", None, BadAnswerError, None),
    ],
)
def test_answers_that_are_no_success(status: int, body: str, after: str | None, kind: type, seconds: Any) -> None:
    with pytest.raises(kind) as raised:
        answer_of(core.score(Event("a", "x")), Reply(status, body.encode(), after), NOW)
    assert getattr(raised.value, "retry_after", None) == seconds


def test_an_answer_of_another_shape_names_the_place() -> None:
    found = {"state": "watched", "reason": 3, "author": "ann", "until": None, "at": "2026-05-01T12:00:00Z"}
    with pytest.raises(BadAnswerError, match=r"the answer\.reason is int, expected str"):
        core.review("a", "watched", "x", None).read(found)
    with pytest.raises(BadAnswerError, match="the answer has no event_id"):
        core.score(Event("a", "x")).read({})
    more = {"bundle_id": "b", "catalogue_id": "c", "changed": True, "new_in_version_9": 1}
    assert core.reload().read(more).changed is True


def test_events_that_the_service_cannot_take_now_go_again() -> None:
    events = [Encoded(str(i), b"{}") for i in range(4)]
    batch = Batch(events, Retry(tries=3, first=1, most=8))
    busy, bad = Problem(503, "store-unavailable", "", ""), Problem(422, "bad-event", "", "")
    score = object.__new__(Score)
    assert batch.part() == events
    assert batch.answered([score, busy, bad, busy], 0.0) == 0.5
    assert batch.part() == [events[1], events[3]]
    assert batch.answered([score, busy], 0.0) == 1.0
    assert batch.part() == [events[3]]
    assert batch.answered([busy], 0.0) == 0.0
    assert batch.part() == []
    assert [type(one) for one in batch.outcomes] == [Score, Score, Failure, Failure]
    assert [one.event_id for one in batch.outcomes[2:]] == ["2", "3"]


# --- a distribution of its own ---

ALONE = """
import importlib.util, sys
sys.path[:0] = sys.argv[1:]
OURS = {"classifier", "service", "training", "faiss", "fastapi", "starlette", "numpy", "pyarrow", "litellm", "google"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OURS:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import probewatch_client, probewatch_client.asgi, probewatch_client.ext_authz, probewatch_client.otlp
print(sorted(OURS & {name.split(".")[0] for name in sys.modules}), probewatch_client.Client("http://x"))
"""


def test_it_needs_httpx_alone() -> None:
    import httpx

    paths = [str(ROOT / "service" / "client"), str(Path(httpx.__file__).parents[1])]
    command = [sys.executable, "-S", "-s", "-c", ALONE, *paths]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[] Client('http://x')\n", "")


def test_its_wheel_holds_it_typed(tmp_path: Path) -> None:
    from zipfile import ZipFile

    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT / "service" / "client", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("probewatch_client-*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        needs = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
    here = {f"probewatch_client/{path.name}" for path in (ROOT / "service/client/probewatch_client").glob("*.py*")}
    assert {name for name in names if name.startswith("probewatch_client/")} == here | {"probewatch_client/py.typed"}
    assert [line for line in needs if "extra ==" not in line] == ["Requires-Dist: httpx<1,>=0.28"]


def test_context_goes_with_an_event_where_there_is_any() -> None:
    whole = Event("a", "x", event_id="1", model="grand-2", org_id="acme", end_user_id="u")
    assert json.loads(encode(whole).body) == {
        **{"account_id": "a", "prompt": "x", "event_id": "1"},
        **{"model": "grand-2", "org_id": "acme", "end_user_id": "u"},
    }
    assert json.loads(encode(Event("a", "x", event_id="1")).body) == {"account_id": "a", "prompt": "x", "event_id": "1"}
    for model, sent in (("grand-2", "grand-2"), (7, None), ("", None)):
        found = event_of_body({"model": model, "prompt": "x"}, "a")
        assert isinstance(found, Event) and found.model == sent
