"""service/importing.py: a labelled run in the store says what the run says, and twice is once."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from classifier.bundle import default_bundle_dir
from classifier.errors import InputError, ProbewatchError
from classifier.exceptions import AgreedException
from classifier.pipeline import Pipeline
from service.batch import label
from service.importing import import_run
from service.store.opening import open_store
from tests.command import Ran
from tests.console_store import POPULATION, SAMPLE, imported, sample_run
from tests.serving import Running, running
from tests.stores import new_store

TIMES = ("first_seen", "last_seen", "flagged_at")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_run(tmp_path_factory.mktemp("import") / "run")


def content(url: str) -> dict[str, list[Any]]:
    store = open_store(url)
    names = ("accounts", "units", "states", "uses", "traffic", "day_totals", "activity", "records", "reviews")
    with store.reading() as connection:
        found = {name: sorted(map(str, connection.execute(text(f"SELECT * FROM {name}")))) for name in names}
    store.close()
    return found


def says_the_same(server: Running, run: Path) -> None:
    server.publish()
    for row in pq.read_table(run / "accounts.parquet").to_pylist():
        said = server.client.get(f"/v1/accounts/{row['account_id']}").json()
        for name in set(row) - {*TIMES, "reasons", "review_state"}:
            expected = pytest.approx(row[name], abs=1e-6) if isinstance(row[name], float) else row[name]
            assert said[name] == expected, (row["account_id"], name)
        at = row["flagged_at"]
        assert said["flagged_at"] == (at.isoformat(timespec="microseconds").replace("+00:00", "Z") if at else None)


def test_what_is_imported_says_what_the_run_says(run: Path, store_url: str) -> None:
    imported(run, store_url)
    with running(store_url, population=POPULATION) as server:
        says_the_same(server, run)


def test_twice_is_once_even_when_event_ids_are_forgotten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    first = Ran(capsys, "import", run, "--store", url)
    assert first.out.splitlines()[0] == "1,914 events imported, 0 were known."
    assert f"--store {url} --population 47" in first.out
    before = content(url)
    with open_store(url).writing() as connection:
        connection.execute(text("DELETE FROM events"))
    assert Ran(capsys, "import", run, "--store", url).out.startswith("0 events imported, 1,914 were known.")
    assert content(url) == before


def test_a_killed_import_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setattr("service.importing.CHUNK", 500)

    def stop(more: int) -> None:
        raise KeyboardInterrupt

    with new_store(url) as store:
        with pytest.raises(KeyboardInterrupt):
            import_run(run, store, stop)
        done = import_run(run, store)
        assert (done.n_events, done.n_known) == (1414, 500)
    with running(url, population=POPULATION) as server:
        says_the_same(server, run)


def test_agreed_exceptions_come_along(tmp_path: Path) -> None:
    agreed = AgreedException("acct_0032", "pw_review_bug", "ann@provider.example", "ticket 4711", date(2027, 1, 31))
    pipeline, run = Pipeline.load(default_bundle_dir()), tmp_path / "run"
    label([str(SAMPLE)], run, pipeline=pipeline, population=POPULATION, workers=1, exceptions=[agreed])
    url = imported(run, imported(run, f"sqlite:///{tmp_path / 'store.db'}"))
    with running(url, population=POPULATION) as server:
        server.publish()
        said = server.client.get("/v1/accounts/acct_0032").json()
        want = next(r for r in pq.read_table(run / "accounts.parquet").to_pylist() if r["account_id"] == "acct_0032")
        assert said["log10_max_e"] == pytest.approx(want["log10_max_e"], abs=1e-6)
        assert [(one["state"], one["author"]) for one in said["reviews"]] == [("exempted", "ann@provider.example")]


@pytest.mark.parametrize("harm", ["labels", "evidence", "run.json"])
def test_a_damaged_run_is_refused(run: Path, tmp_path: Path, harm: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    victim = copy / harm if harm == "run.json" else next((copy / harm).glob("*-000000.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with (
        new_store(f"sqlite:///{tmp_path / 'store.db'}") as store,
        pytest.raises(ProbewatchError, match=r"label again|start over"),
    ):
        import_run(copy, store)


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_store(f"sqlite:///{tmp_path / 'store.db'}") as store, pytest.raises(InputError, match="labelled run"):
        import_run(tmp_path, store)
    assert Ran(capsys, "import", tmp_path, "--store", "sqlite:///x.db").code == 3
