"""Alerts: signed, told once of what is new, and sent at least once, whatever the receiver does."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import text

from classifier.errors import UsageError
from classifier.types import DISCOVERED_SCHEMA
from service.alerts.news import tell_flags, tell_templates
from service.alerts.quiet import parse_quiet
from service.alerts.webhook import Sent, parse_secrets, signature
from service.alerts.worker import FIRST_WAIT, GATHER, LONGEST_WAIT, Alerting, Worker, alerting_of, wait_of
from service.http import refresher
from service.http.metrics import Metrics
from service.settings import Settings, settings_of
from service.store.erasure import erase_account
from service.store.opening import Store, open_store
from service.store.outbox import Kind, Listed, News, announce, count_waiting, read_messages, revive
from service.store.standing import read_thresholds
from tests.command import Ran
from tests.console_store import send as send_form
from tests.receiving import KEY, SECRET, Answer, Receiver, receiver, silence, status, trickle
from tests.serving import Process, running
from tests.stores import new_store
from tests.test_recording import BASELINES, START, Event, send

NOW = START + 12 * 3_600_000_000  # noon
SECOND = 1_000_000
POPULATION = 20


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with new_store(store_url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    """A store in a file: for what is the receiver's doing, not the database's."""
    with new_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def alerting(url: str, **changes: object) -> Alerting:
    found = alerting_of(
        settings_of(alert_url=url, alert_secret=SECRET, console_url="https://probewatch.test/", **changes)
    )
    assert found is not None
    return found


def worker(store: Store, url: str, **changes: object) -> Worker:
    return Worker(store, alerting(url, **changes), Metrics(), 1)


def tell(store: Store, *subjects: str) -> int:
    news = [News(Kind.FLAG, name, {"account_id": name, "capabilities": ["coding"]}) for name in subjects]
    with store.writing() as connection:
        return announce(connection, news, NOW)


def listed(store: Store) -> list[Listed]:
    with store.reading() as connection:
        return read_messages(connection, 10)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specification() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_and_leads_to_the_console(store: Store, hook: Receiver) -> None:
    assert tell(store, "a b", "c") == 2
    assert tell(store, "c") == 0  # told before
    sender = worker(store, hook.url)
    assert sender.turn(NOW + 5 * SECOND) and not sender.turn(NOW + 5 * SECOND)
    (got,) = hook.got
    assert [one["account_id"] for one in got.alerts] == ["a b", "c"]
    assert got.alerts[0] == {
        "kind": "flag",
        "at": "2024-10-04T12:00:00Z",
        "account_id": "a b",
        "capabilities": ["coding"],
        "link": "https://probewatch.test/account?id=a+b",
    }
    assert (got.path, got.headers["webhook-timestamp"]) == ("/hook?team=abuse", str(NOW // SECOND + 5))
    assert not got.is_signed_by(b"another key")
    (message,) = listed(store)
    assert (message.message_id, message.state, message.tries) == (got.message_id, "sent", 1)


def test_while_secrets_change_both_sign(file: Store, hook: Receiver) -> None:
    tell(file, "a")
    other = bytes(reversed(KEY))
    both = f"{SECRET} whsec_{base64.b64encode(other).decode()}"
    Worker(file, alerting_of(Settings(alert_url=hook.url, alert_secret=both)), Metrics(), 1).turn(NOW)  # type: ignore[arg-type]
    assert hook.got[0].is_signed_by(KEY) and hook.got[0].is_signed_by(other)


# --- what becomes of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state", "why"),
    [
        (status(500), "waiting", "it answered 500"),
        (status(404), "waiting", "it answered 404"),
        (status(410), "failed", "it answered 410: it wants no more"),
        (status(302, location="/elsewhere"), "waiting", "it answered 302: redirects are not followed"),
        (silence, "waiting", "it cannot be reached (RemoteDisconnected)"),
        (trickle, "waiting", "it did not answer within 0.3 s"),
    ],
)
def test_what_the_receiver_says_is_kept(file: Store, hook: Receiver, answer: Answer, state: str, why: str) -> None:
    tell(file, "a")
    hook.answer = answer
    assert worker(file, hook.url, alert_seconds=0.3).turn(NOW)
    (message,) = listed(file)
    assert (message.state, message.tries, len(hook.got)) == (state, 1, 1)
    assert message.reason == f"{hook.url.removesuffix('/hook?team=abuse')}: {why}"


def test_a_receiver_that_is_not_there(file: Store) -> None:
    with receiver() as gone:
        pass
    tell(file, "a")
    worker(file, gone.url).turn(NOW)
    assert str(listed(file)[0].reason).endswith("it cannot be reached (ConnectionRefusedError)")


def test_it_is_tried_again_later_under_the_same_id(store: Store, hook: Receiver) -> None:
    tell(store, "a")
    hook.answer = status(503)
    sender = worker(store, hook.url)
    assert sender.turn(NOW) and not sender.turn(NOW + FIRST_WAIT // 2 * SECOND - 1)
    hook.answer = status(200)
    assert sender.turn(NOW + FIRST_WAIT * SECOND) and not sender.turn(NOW + 10**12)
    first, second = hook.got
    assert first.message_id == second.message_id and first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"] and second.is_signed_by(KEY)
    assert (listed(store)[0].state, listed(store)[0].tries, listed(store)[0].reason) == ("sent", 2, None)


def test_waits_double_up_to_an_hour_with_jitter() -> None:
    waits = [[wait_of(tries, Sent("x")) for _ in range(50)] for tries in (1, 2, 3, 8, 100)]
    for most, drawn in zip((30, 60, 120, LONGEST_WAIT, LONGEST_WAIT), waits, strict=True):
        assert most / 2 <= min(drawn) < max(drawn) <= most and len(set(drawn)) > 40
    assert wait_of(1, Sent("x", 429, 900)) == 900


def test_retry_after_is_heeded(file: Store, hook: Receiver) -> None:
    tell(file, "a")
    hook.answer = status(429, retry_after="120")
    worker(file, hook.url).turn(NOW)
    assert listed(file)[0].next_try == NOW + 120 * SECOND


def test_after_its_last_try_a_message_is_given_up_and_may_be_revived(store: Store, hook: Receiver) -> None:
    tell(store, "a")
    hook.answer = status(500)
    sender = worker(store, hook.url, alert_tries=3)
    assert [sender.turn(NOW + hour * 3_600 * SECOND) for hour in range(5)] == [True, True, True, False, False]
    (given_up,) = listed(store)
    assert (given_up.state, given_up.tries) == ("failed", 3) and str(given_up.reason).endswith("it answered 500")
    hook.answer = status(200)
    with store.writing() as connection:
        assert count_waiting(connection).n_failed == 1
        assert revive(connection, NOW) == 1
    assert sender.turn(NOW) and listed(store)[0].state == "sent"
    assert len({got.message_id for got in hook.got}) == 1


def test_while_the_receiver_fails_alerts_gather(file: Store, hook: Receiver) -> None:
    hook.answer = status(500)
    sender = worker(file, hook.url)
    for i in range(10):
        tell(file, f"account-{i}")
        sender.turn(NOW + i * SECOND)
    assert len(listed(file)) == 1
    sender.turn(NOW + GATHER * SECOND)
    assert [one.n_alerts for one in listed(file)] == [9, 1]


def test_quiet_hours_hold_alerts_back_and_one_message_tells_them(store: Store, hook: Receiver) -> None:
    sender = worker(store, hook.url, alert_quiet="22:00-07:00")
    tell(store, "evening")
    night, morning = NOW + 11 * 3_600 * SECOND, NOW + 19 * 3_600 * SECOND
    assert not sender.turn(night)
    tell(store, "night")
    assert not sender.turn(morning - 1) and sender.turn(morning)
    assert [[one["account_id"] for one in got.alerts] for got in hook.got] == [["evening", "night"]]


@pytest.mark.parametrize(
    ("given", "quiet", "loud"),
    [("22:00-07:00", (22, 23, 0, 6), (7, 12, 21)), ("12:00-13:00 UTC", (12,), (0, 11, 13, 23))],
)
def test_quiet_hours_are_of_every_day(given: str, quiet: tuple[int, ...], loud: tuple[int, ...]) -> None:
    span = parse_quiet(given)
    assert [span.hold_at(START + hour * 3_600 * SECOND) for hour in (*quiet, *loud)] == [True] * len(quiet) + [
        False
    ] * len(loud)


def test_one_worker_sends_at_a_time_and_another_goes_on(store: Store, hook: Receiver) -> None:
    one, other = worker(store, hook.url), worker(store, hook.url)
    tell(store, "a")
    assert one.turn(NOW)
    tell(store, "b")
    assert not other.turn(NOW + SECOND)
    assert other.turn(NOW + 120 * SECOND)  # the first is gone: its lease ended
    assert [got.alerts[0]["account_id"] for got in hook.got] == ["a", "b"]


def test_killed_between_sending_and_noting_it_is_sent_again(
    new_server: Callable[..., Process], file: Store, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBEWATCH_ALERT_URL", hook.url)
    monkeypatch.setenv("PROBEWATCH_ALERT_SECRET", SECRET)
    server = new_server(str(file.url))

    def kill(_: BaseHTTPRequestHandler) -> None:
        os.kill(server.process.pid, signal.SIGKILL)

    hook.answer = kill
    server.start()
    tell(file, "a")
    server.process.wait(60)
    (message,) = listed(file)
    assert (message.state, message.tries) == ("waiting", 1)
    hook.answer = status(200)
    assert worker(file, hook.url).turn(message.next_try)
    assert listed(file)[0].state == "sent"
    first, second = hook.got
    assert first.message_id == second.message_id
    assert [one["account_id"] for one in (*first.alerts, *second.alerts)] == ["a", "a"]


# --- what is told -----------------------------------------------------------------------------------------------------

GUILTY = [Event(f"e{a}-{i}", f"account-{a}", i, 100 * a + i, 1, 0) for a in range(6) for i in range(9)]


def tell_flags_of(store: Store) -> int:
    with store.reading() as connection:
        thresholds = read_thresholds(connection, POPULATION, BASELINES)
    return tell_flags(store, thresholds, NOW)


def test_flags_are_told_once_from_when_alerts_were_turned_on(store: Store) -> None:
    send(store, GUILTY[:9])
    assert tell_flags_of(store) == 0  # was flagged before
    send(store, GUILTY[9:27])
    assert (tell_flags_of(store), tell_flags_of(store)) == (2, 0)
    with store.writing() as connection:
        assert count_waiting(connection).n_waiting == 2
        erase_account(connection, "account-1", "me", b"key")
        assert count_waiting(connection).n_waiting == 1  # it is told of no more
    assert tell_flags_of(store) == 0
    send(store, [event._replace(name=f"again-{event.name}") for event in GUILTY[9:18]])
    assert tell_flags_of(store) == 1  # came, was erased, and came again


def test_of_an_erased_account_nothing_is_sent_any_more(store: Store, hook: Receiver) -> None:
    send(store, GUILTY[:9])
    tell(store, "account-0")
    hook.answer = status(500)
    sender = worker(store, hook.url)
    sender.turn(NOW)
    with store.writing() as connection:
        erase_account(connection, "account-0", "me", b"key")
    assert not sender.turn(NOW + 60 * SECOND)
    assert (len(hook.got), listed(store)) == (1, [])


def test_the_refresher_tells_of_flags_and_campaigns(tmp_path: Path, hook: Receiver) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with running(url, alert_url=hook.url, alert_secret=SECRET, population=POPULATION) as server:
        store, sender = server.service.store, server.service.worker
        assert sender is not None
        send(store, GUILTY)
        server.publish()
        server.publish()
        assert sender.turn(NOW) and not sender.turn(NOW)
        found = hook.got[0].alerts
        assert sorted(one["account_id"] for one in found if one["kind"] == "flag") == [f"account-{a}" for a in range(6)]
        (campaign,) = (one for one in found if one["kind"] == "campaign")
        assert (campaign["n_accounts"], campaign["template_families"]) == (6, ["seed"])
        assert campaign["link"] == f"/campaign?id={campaign['campaign_id']}"
        assert next(one for one in found if one["kind"] == "flag")["log10_max_e"] > 3
        more = [event._replace(name=f"x{event.name}", account=f"more-{event.account}") for event in GUILTY[:9]]
        send(store, more)
        server.publish()
        assert sender.turn(NOW + SECOND) and not sender.turn(NOW + SECOND)
        assert [(one["kind"], one["account_id"]) for one in hook.got[1].alerts] == [("flag", "more-account-0")]
        metrics = server.client.get("/metrics").text
        assert 'probewatch_alert_messages_total{outcome="sent"} 2.0' in metrics
        assert "probewatch_alerts_waiting 0.0" in metrics


def test_a_publication_that_fails_tells_nothing(
    tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UsageError("The disk is full.")

    with running(f"sqlite:///{tmp_path / 's.db'}", alert_url=hook.url, alert_secret=SECRET, population=20) as server:
        send(server.service.store, GUILTY)
        with monkeypatch.context() as broken:
            broken.setattr(refresher, "publish", fail)
            server.publish()
        with server.service.store.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM announced")).scalar() == 0
        server.publish()
        with server.service.store.reading() as connection:
            kinds = connection.execute(text("SELECT kind, count(*) FROM alerts GROUP BY kind ORDER BY kind")).all()
        assert [tuple(row) for row in kinds] == [("campaign", 1), ("flag", 6)]


def test_templates_that_a_run_discovered_are_told_once(store: Store, hook: Receiver) -> None:
    def found(scaffold: int, p_extraction: float) -> dict[str, object]:
        seen = {"first_seen": NOW, "last_seen": NOW, "example_event_ids": ["e"]}
        return {
            "scaffold": scaffold,
            "n_accounts": 7,
            "n_prompts": 9,
            "p_extraction": p_extraction,
            "growth": 2.0,
            **seen,
        }

    def tell_of(*rows: dict[str, object]) -> int:
        with store.writing() as connection:
            return tell_templates(connection, pa.Table.from_pylist(list(rows), DISCOVERED_SCHEMA), NOW)

    assert tell_of(found(1, 0.9)) == 1  # noted alone: alerts are not on yet
    tell_flags_of(store)
    assert tell_of(found(1, 0.9), found(2**64 - 1, 0.9), found(3, 0.4)) == 1
    assert tell_of(found(2**64 - 1, 0.9)) == 0
    worker(store, hook.url).turn(NOW)
    assert hook.got[0].alerts == [
        {
            "kind": "template",
            "at": "2024-10-04T12:00:00Z",
            "template_id": "scaffold-ffffffffffffffff",
            "n_accounts": 7,
            "n_prompts": 9,
            "growth": 2.0,
            "first_seen": "2024-10-04T12:00:00.000000Z",
            "last_seen": "2024-10-04T12:00:00.000000Z",
            "link": "https://probewatch.test/discovered",
        }
    ]


# --- the console and the commands -------------------------------------------------------------------------------------


def test_the_console_shows_tests_and_tries_again(tmp_path: Path, hook: Receiver) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with running(url, alert_url=hook.url, alert_secret=SECRET, alert_quiet="22:00-07:00") as server:
        assert "but not from 22:00-07:00 UTC" in server.client.get("/alerts").text
        said = send_form(server.client, "/alerts", "/alerts/test").text
        assert "took the test: it answered 204" in said and hook.got[0].alerts[0]["kind"] == "test"
        hook.answer = status(410)
        assert "did not take the test: it answered 410" in send_form(server.client, "/alerts", "/alerts/test").text
        tell(server.service.store, "a")
        assert server.service.worker is not None
        server.service.worker.turn(NOW)
        page = server.client.get("/alerts").text
        assert "it answered 410: it wants no more" in page and "team=abuse" not in page and SECRET not in page
        assert "1 messages are tried again" in send_form(server.client, "/alerts", "/alerts/retry").text
        with server.service.store.reading() as connection:
            noted = connection.execute(text("SELECT action FROM audit ORDER BY audit_no")).scalars().all()
        assert noted == ["alert tested", "alert tested", "alerts retried"]


def test_without_a_receiver_the_console_says_how(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        assert "set PROBEWATCH_ALERT_URL and PROBEWATCH_ALERT_SECRET" in server.client.get("/alerts").text
        assert send_form(server.client, "/alerts", "/alerts/test").status_code == 409


def test_the_commands(
    capsys: pytest.CaptureFixture[str], store_url: str, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no receiver" in Ran(capsys, "alerts", "test").sentence
    monkeypatch.setenv("PROBEWATCH_ALERT_URL", hook.url)
    assert "without PROBEWATCH_ALERT_SECRET" in Ran(capsys, "alerts", "test").sentence
    refused = Ran(capsys, "serve", "--workers", "2", "--store", store_url)
    assert refused.code == 2 and "without PROBEWATCH_ALERT_SECRET" in refused.sentence
    secret = Ran(capsys, "alerts", "secret").out.strip()
    monkeypatch.setenv("PROBEWATCH_ALERT_SECRET", secret)
    assert Ran(capsys, "alerts", "test").out.endswith(" took the test: it answered 204.\n")
    assert hook.got[0].is_signed_by(base64.b64decode(secret.removeprefix("whsec_")))
    hook.answer = status(401)
    ran = Ran(capsys, "alerts", "test")
    assert (ran.code, ran.sentence.endswith("it answered 401.")) == (5, True)
    with new_store(store_url) as store:
        tell(store, "a")
        worker(store, hook.url, alert_tries=1).turn(NOW)
    said = Ran(capsys, "alerts", "list", "--store", store_url).out
    assert "failed" in said and said.endswith("it answered 401\n0 alerts wait to be sent, 1 messages were given up.\n")
    assert Ran(capsys, "alerts", "retry", "--store", store_url).out == "1 messages are tried again.\n"
    assert '"n_waiting": 1, "n_failed": 0' in Ran(capsys, "alerts", "list", "--json", "--store", store_url).out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("alert_url", "ftp://hidden.test/x", "PROBEWATCH_ALERT_URL cannot be used: expected https://HOST/PATH"),
        ("alert_url", "https://hidden:pass@h/", "without a user name"),
        ("alert_secret", "whsec_hidden", "PROBEWATCH_ALERT_SECRET cannot be used: expected whsec_ and 24 to 64 bytes"),
        ("alert_secret", "hidden", "`probewatch alerts secret` makes one"),
        ("alert_quiet", "9-5", "PROBEWATCH_ALERT_QUIET cannot be used: got '9-5', expected a span of the day"),
        ("alert_quiet", "07:00-07:00", "expected a span of the day in UTC such as 22:00-07:00"),
    ],
)
def test_settings_that_cannot_be_used_are_named_not_shown(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        settings_of(**{name: value})
    assert said in str(error.value) and "hidden" not in str(error.value)


def test_secrets_are_not_shown() -> None:
    settings = settings_of(alert_url="https://h.test/token", alert_secret=SECRET)
    shown = repr(settings) + repr(alerting_of(settings)) + str(settings.model_dump())
    assert SECRET not in shown and "token" not in shown and repr(KEY) not in shown
    assert parse_secrets(settings.alert_secret) == [KEY]  # type: ignore[arg-type]


def test_no_store_is_made_by_opening_one_that_is_not_there(tmp_path: Path) -> None:
    assert not open_store(f"sqlite:///{tmp_path / 'store.db'}").is_there()
