"""Opening, upgrading and rebuilding a store, of either kind."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from classifier.errors import UsageError
from classifier.evidence import Baselines
from classifier.rows import rows_of
from service.store.facts import check_facts, rebuild
from service.store.opening import StoreError, open_store
from service.store.recording import record
from service.store.schema import metadata
from service.store.upgrade import _config, check_version, head, upgrade
from tests.command import Ran
from tests.stores import new_store
from tests.test_recording import BASELINES, Event, assert_equals_replay, labelled, send


def test_migrations_make_the_tables_of_the_schema(store_url: str) -> None:
    with new_store(store_url) as store, store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_exemptions_of_before_go_on_by_the_id_of_the_account(store_url: str) -> None:
    store = open_store(store_url)
    with store.writing() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(text("INSERT INTO accounts VALUES (7, 'ann''s', 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0)"))
        connection.execute(text("INSERT INTO exemptions VALUES (7, 'seed', 86400000000)"))
        for review in ("1, 7, 'exempted', 'seed: agreed', 'bob'", "2, 7, 'watched', 'later', 'eve'"):
            connection.execute(text(f"INSERT INTO reviews VALUES ({review}, NULL, 1)"))
    assert upgrade(store)
    with store.reading() as connection:
        rows = connection.execute(text("SELECT * FROM exemptions")).all()
    assert [tuple(row) for row in rows] == [("ann's", "seed", "review", "bob", "seed: agreed", 86400000000)]
    store.close()


def test_an_upgrade_from_many_at_once_is_done_once(store_url: str) -> None:
    store = open_store(store_url)
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(upgrade(store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    check_version(store)
    store.close()


def test_a_store_of_another_version_is_refused(store_url: str) -> None:
    with new_store(store_url) as store:
        with store.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="9999, which is newer than this"):
            upgrade(store)


def test_a_store_without_tables_is_refused_until_upgraded(store_url: str) -> None:
    store = open_store(store_url)
    with pytest.raises(StoreError, match=f"expected {head()}: run probewatch store upgrade"):
        check_version(store)
    store.close()


def test_a_commit_is_synchronous_in_sqlite(tmp_path: Path) -> None:
    with new_store(f"sqlite:///{tmp_path / 'store.db'}") as store, store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_what_fails_leaves_nothing(store_url: str) -> None:
    with new_store(store_url) as store:
        with pytest.raises(ZeroDivisionError), store.writing() as connection:
            connection.execute(text("INSERT INTO facts (name, value) VALUES ('a', 'b')")) and 1 / 0
        with store.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM facts")).scalar() == 0


def test_a_store_stays_with_its_hash_key_and_baselines(store_url: str) -> None:
    other = replace(BASELINES, m1=0.002)
    events = [Event(f"e{i}", f"account-{i % 2}", 9 * i, i, int(i % 2 == 0), i % 8) for i in range(12)]
    with new_store(store_url) as store:
        send(store, events)
        with store.writing() as connection:
            check_facts(connection, b"key", BASELINES)
        with pytest.raises(StoreError, match="PROBEWATCH_HASH_KEY"), store.writing() as connection:
            check_facts(connection, b"another", BASELINES)
        with pytest.raises(StoreError, match="probewatch store rebuild"), store.writing() as connection:
            check_facts(connection, b"key", other)
        assert rebuild(store, other) == 2
        with store.writing() as connection:
            check_facts(connection, b"key", other)
        assert rebuild(store, Baselines(BASELINES.m1, BASELINES.m2)) == 2
        assert_equals_replay(store, events)


def test_accounts_without_units_are_rebuilt_too(store_url: str) -> None:
    """Those whose prompts a benign signature explained, to the last."""
    labels, units = labelled([Event("e0", "explained", 5, 1, 0, 7)])
    with new_store(store_url) as store:
        with store.writing() as connection:
            record(connection, rows_of(labels, units.slice(0, 0)), [True], BASELINES, 0)
        assert rebuild(store, BASELINES) == 1
        with store.reading() as connection:
            rows = connection.execute(text("SELECT n_prompts, n_units, log_max_e FROM accounts")).all()
    assert [tuple(row) for row in rows] == [(1, 0, 0)]


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    store = open_store(f"postgresql://me:secret@/nothing?host={tmp_path}")
    with pytest.raises(StoreError) as error, store.reading():
        pass
    assert "secret" not in str(error.value) + repr(store.url)


@pytest.mark.parametrize("url", ["sqlite://", "oracle://x", "", "postgresql"])
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected sqlite:///FILE or postgresql://"):
        open_store(url)


def test_the_command_upgrades(capsys: pytest.CaptureFixture[str], store_url: str) -> None:
    assert Ran(capsys, "store", "upgrade", "--store", store_url).out == f"The tables are of version {head()}.\n"
    assert Ran(capsys, "store", "upgrade", "--store", store_url).out == f"The tables are of version {head()} already.\n"
