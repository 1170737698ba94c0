"""What is kept no longer than its time, and what stays: nothing that is held against an account is lost unsaid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from classifier.campaigns import Campaigns
from classifier.units import DAY_US
from service.retention import REST, Retention, would_prune
from service.settings import settings_of
from service.store.campaigns import CampaignFinder, Families
from service.store.opening import Store
from service.store.outbox import Kind, News, announce, compose, note_sent, take
from service.store.reading import Review, add_review, read_account
from service.store.retention import MOST_ACCOUNTS
from service.store.reviewing import exempt_account
from tests.command import Ran
from tests.stores import new_store
from tests.test_recording import BASELINES, START, Event, send

LATER = 24 * 500  # hours: longer than accounts are kept
NOW = START + 500 * DAY_US
GUILTY = [Event(f"e{a}-{i}", f"guilty-{a}", i, 100 * a + i, 1, 0) for a in range(6) for i in range(9)]
HONEST = [Event(f"h{a}-{i}", f"honest-{a:02}", i, 5000 + 100 * a + i, 0, 0) for a in range(9) for i in range(3)]
FAMILIES = Families(1, {})
FRESH = Event("fresh", "fresh", LATER, 1, 0, 0)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with new_store(store_url) as opened:
        send(opened, [*GUILTY, *HONEST, FRESH])
        yield opened


def names(store: Store) -> set[str]:
    with store.reading() as connection:
        return set(connection.execute(text("SELECT account_id FROM accounts")).scalars())


def campaigns(store: Store) -> Campaigns:
    finder = CampaignFinder()
    with store.reading() as connection:
        finder.refresh(connection, FAMILIES)
        return finder.find(connection, FAMILIES).campaigns


def review(store: Store, account_id: str, until: int | None, family: str | None = None) -> None:
    with store.writing() as connection:
        known = read_account(connection, account_id)
        assert known is not None
        given = Review("exempted" if family else "watched", "why", "ann", until, NOW)
        if family is None:
            add_review(connection, known.totals["account_no"], given)
        else:
            exempt_account(connection, known, family, given, "digest", BASELINES)


def test_accounts_long_unseen_go_unless_something_is_held_or_agreed(store: Store) -> None:
    review(store, "honest-00", None)
    review(store, "honest-01", NOW + 1)
    review(store, "honest-02", NOW)  # over
    review(store, "guilty-0", NOW + DAY_US, "seed")
    review(store, "guilty-1", NOW, "seed")  # over: nothing is held against it any more
    settings = settings_of()
    expected = would_prune(store, settings, NOW)
    Retention(store, settings).turn(NOW)
    guilty = {f"guilty-{a}" for a in range(6) if a != 1}
    assert names(store) == {*guilty, "honest-00", "honest-01", "fresh"}
    assert (expected.would.n_accounts, expected.n_held) == (8, 7)
    assert would_prune(store, settings, NOW).would.n_accounts == 0
    with store.reading() as connection:
        for table in ("units", "states", "records", "uses", "traffic"):
            known = f"SELECT count(*) FROM {table} WHERE account_no NOT IN (SELECT account_no FROM accounts)"
            assert connection.execute(text(known)).scalar() == 0, table
        noted = connection.execute(text("SELECT who, subject FROM audit WHERE action = 'forgotten'")).all()
    assert [tuple(row) for row in noted] == [
        ("retention", "82 event ids, 8 accounts, 0 messages of alerts, 0 excerpts")
    ]


def test_campaigns_stay_what_they_are(store: Store) -> None:
    before = campaigns(store)
    assert before.table.num_rows == 1
    Retention(store, settings_of()).turn(NOW)
    assert not any(name.startswith("honest") for name in names(store))
    assert campaigns(store).table.equals(before.table)
    send(store, [Event("new", "new", 1, 77, 0, 0)])  # SQLite gives it a number that was another's
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM activity WHERE account_no < 0")).scalar() == 9
    assert campaigns(store).of_account == before.of_account


def test_of_accounts_few_go_at_once_and_none_if_none_may(store: Store) -> None:
    send(store, [Event(f"m{i}", f"many-{i}", 1, 9000 + i, 0, 0) for i in range(MOST_ACCOUNTS * 2)])
    n = len(names(store))
    Retention(store, settings_of(keep_account_days=0)).turn(NOW)
    assert len(names(store)) == n
    with store.writing() as connection:
        connection.execute(text("DELETE FROM leases"))
    turning = Retention(store, settings_of())
    turning.turn(NOW)
    assert len(names(store)) == n - 9 - 2 * MOST_ACCOUNTS
    with store.reading() as connection:
        steps = connection.execute(text("SELECT count(*) FROM audit WHERE action = 'forgotten'")).scalar()
    assert steps == 3
    send(store, [Event("late", "late", 2, 1, 0, 0)])
    turning.turn(NOW + 1)
    assert "late" in names(store)  # it rests
    turning.turn(NOW + REST)
    assert "late" not in names(store)


def test_old_traffic_is_kept_as_it_was_when_new(store: Store) -> None:
    Retention(store, settings_of()).turn(NOW + 9_999 * DAY_US)
    assert "fresh" in names(store)  # the newest event of all


def test_alerts_that_were_sent_go_after_their_time(store: Store) -> None:
    with store.writing() as connection:
        for i in range(2):
            announce(connection, [News(Kind.CAMPAIGN, f"campaign-{i}", {})], NOW)
            compose(connection, NOW)
        message = take(connection, NOW, NOW + 1)
        assert message is not None
        note_sent(connection, message, NOW)
    Retention(store, settings_of(keep_alert_days=30)).turn(NOW + 30 * DAY_US)
    assert would_prune(store, settings_of(), NOW + 30 * DAY_US).would.n_messages == 0
    Retention(store, settings_of(keep_alert_days=30)).turn(NOW + 31 * DAY_US)
    with store.reading() as connection:
        assert connection.execute(text("SELECT subject FROM alerts")).scalars().all() == ["campaign-1"]  # not sent yet
        assert connection.execute(text("SELECT count(*) FROM announced")).scalar() == 2  # told once, for good


def test_the_command_says_what_it_would_do_and_does_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with new_store(url) as store:
        send(store, [*GUILTY, *HONEST, FRESH])
        held = "6 accounts are as old and stay: something is held against them, or agreed upon.\n"
        counts = "82 event ids, 9 accounts, 0 messages of alerts, 0 excerpts.\n"
        assert Ran(capsys, "store", "prune", "--dry-run", "--store", url).out == f"Would forget: {counts}{held}"
        assert len(names(store)) == 16
        assert Ran(capsys, "store", "prune", "--store", url).out == f"Forgotten: {counts}{held}"
        assert len(names(store)) == 7
        with store.reading() as connection:
            who, subject = connection.execute(text("SELECT who, subject FROM audit")).one()
        assert who.startswith("command line, ") and f"{subject}.\n" == counts
