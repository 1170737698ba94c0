"""Backup and restore: taken while serving, whole, and what comes of it goes on as if nothing had been."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.store.opening import open_store
from service.store.upgrade import head
from tests.command import Ran
from tests.killing import Load, assert_counted_once
from tests.serving import Running, running
from tests.stores import PostgresServer, new_store, postgres_programs
from tests.test_recording import Event, send


class TimedLoad(Load):
    """Events say when they were: sent again they are the same."""

    def _new(self) -> dict[str, Any]:
        event = super()._new()
        event["timestamp"] = 1_700_000_000 + 60 * int(event["event_id"].removeprefix("event-"))
        return event


def load_of(server: Running) -> TimedLoad:
    return TimedLoad(str(server.client.base_url).rstrip("/"))


def verdicts(server: Running) -> list[dict[str, Any]]:
    rows = server.client.get("/v1/accounts").json()["accounts"]
    return [{name: round(v, 9) if isinstance(v, float) else v for name, v in row.items()} for row in rows]


def test_a_backup_under_load_goes_on_where_it_was_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "backup.db"
    with running(url) as server:
        load = load_of(server)
        sending = threading.Thread(target=load.run, args=(1.5,))
        sending.start()
        while sending.is_alive() and len(load.acknowledged) < 50:
            time.sleep(0.005)
        n_before, n_sent = len(load.acknowledged), len(load.sent)
        ran = Ran(capsys, "store", "backup", copy, "--store", url)
        assert ran.code == 0 and ran.out == f"{copy}: {copy.stat().st_size:,} bytes.\n"
        sending.join()
        assert len(load.sent) > n_sent  # writers went on
        whole = verdicts(server)
    assert (copy.stat().st_mode & 0o777, list(tmp_path.glob(".backup*"))) == (0o600, [])
    assert not copy.with_name("backup.db-wal").exists()
    restored = f"sqlite:///{tmp_path / 'restored.db'}"
    assert Ran(capsys, "store", "restore", copy, "--store", restored).code == 0
    with running(restored) as server:
        kept = sum(one["n_prompts"] for one in verdicts(server))
        assert 50 <= n_before <= kept < len(load.sent)
        again = load_of(server)
        again.sent = load.sent
        assert_counted_once(again, restored)  # after all was sent again, as a gateway does that keeps it for a while
        assert verdicts(server) == whole


def test_a_backup_of_postgres_is_pg_dump(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, postgres: PostgresServer
) -> None:
    url, other = postgres.new_database(), postgres.new_database()
    programs, file = postgres_programs(), tmp_path / "dump"
    events = [Event(f"e{i}", f"account-{i % 3}", i, i, 1, 0) for i in range(20)]
    with new_store(url) as store:
        send(store, events)
    said = Ran(capsys, "store", "backup", file, "--store", url).sentence
    assert said.endswith("for PostgreSQL use pg_dump --format=custom --file FILE URL.")
    subprocess.run([programs / "pg_dump", "--format=custom", "--file", file, url], check=True)
    said = Ran(capsys, "store", "restore", file, "--store", other).sentence
    assert said.endswith("for PostgreSQL use pg_restore --clean --if-exists --dbname URL FILE.")
    restore = [programs / "pg_restore", "--clean", "--if-exists", "--dbname", other, file]
    subprocess.run(restore, check=True)
    with new_store(url) as one, new_store(other) as two:
        send(two, events)  # retried: known
        rows = []
        for store in (one, two):
            with store.reading() as connection:
                found = connection.execute(text("SELECT a.*, s.state FROM accounts a JOIN states s USING (account_no)"))
                rows.append(sorted((row.account_id, row.n_prompts, row.log_max_e, bytes(row.state)) for row in found))
    assert rows[0] == rows[1] and len(rows[0]) == 3


def test_what_is_no_backup_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url, target = f"sqlite:///{tmp_path / 'store.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    copy = tmp_path / "backup.db"
    assert Ran(capsys, "store", "backup", copy, "--store", url).sentence.startswith("There is no store")
    with new_store(url) as store:
        send(store, [Event(f"e{i}", f"account-{i}", i, i, 1, 0) for i in range(200)])
    assert Ran(capsys, "store", "backup", copy, "--store", url).code == 0
    again = Ran(capsys, "store", "backup", copy, "--store", url)
    assert (again.code, again.sentence) == (5, f"{copy}: is there already; name a new file.")
    nowhere = Ran(capsys, "store", "backup", tmp_path / "no" / "b.db", "--store", url)
    assert nowhere.code == 5 and "cannot be written" in nowhere.sentence
    ran = Ran(capsys, "store", "restore", copy, "--store", url)
    assert ran.code == 2 and "is there: stop the service and move store.db aside" in ran.sentence
    broken = tmp_path / "broken.db"
    for content, said in [
        (b"", "is no store of probewatch"),
        (b"nonsense" * 999, "is no store of probewatch"),
        (copy.read_bytes()[:-40_000], "is damaged"),
    ]:
        broken.write_bytes(content)
        ran = Ran(capsys, "store", "restore", broken, "--store", target)
        assert ran.code == 3 and (said in ran.sentence or "is no store of probewatch" in ran.sentence)
    (tmp_path / "new.db-wal").write_bytes(b"left over")
    assert "new.db-wal is there" in Ran(capsys, "store", "restore", copy, "--store", target).sentence
    assert not (tmp_path / "new.db").exists()


def test_a_backup_of_a_newer_version_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with new_store(f"sqlite:///{tmp_path / 'store.db'}") as store, store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ran = Ran(capsys, "store", "restore", tmp_path / "store.db", "--store", f"sqlite:///{tmp_path / 'new.db'}")
    assert ran.code == 3 and "is of version 9999, which is newer than this probewatch" in ran.sentence


def test_a_restored_store_is_brought_up_to_date(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with new_store(f"sqlite:///{tmp_path / 'store.db'}"):
        pass
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert Ran(capsys, "store", "restore", tmp_path / "store.db", "--store", url).code == 0
    store = open_store(url)
    with store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == head()
    store.close()
