"""Context: models, organisations, end users: counted alike by `import` and `/v1/score`, shown, and no evidence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from classifier.bundle import default_bundle_dir
from classifier.pipeline import DEFAULT_HASH_KEY, Pipeline
from classifier.units import DAY_US
from classifier.verdicts import Thresholds
from service.batch import label
from service.context import contexts_of
from service.store.context_sums import HOUR_US, read_context_sums, read_moves
from service.store.opening import open_store
from service.store.sketch import EMPTY, added, count, merged
from service.timestamps import to_micros
from tests.console_store import POPULATION, SAMPLE, imported
from tests.serving import Running, running
from tests.stores import new_store

OLD, NEW, RESELLER = "grand-1", "grand-2", "resale <b>& co</b>"
RELEASE = to_micros("2026-09-08T00:00:00Z")
MOVED = {"acct_0032", "acct_0030", "acct_0044"}  # of a campaign, and all of their prompts from the release on
TABLES = ("account_models", "model_days", "account_organisations", "end_users")


def sent() -> list[dict[str, Any]]:
    """The sample with a model that comes on a day, a reseller of two accounts, and 60 end users of one account."""
    records = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    for i, record in enumerate(records):
        name, late = record["account_id"], to_micros(record["timestamp"]) >= RELEASE
        record["model"] = NEW if late and name in MOVED else OLD
        record["org_id"] = RESELLER if name in ("acct_0032", "acct_0001") else None
        record["end_user_id"] = f"user-{i % 60}" if name == "acct_0032" else None
    return list({record["event_id"]: record for record in reversed(records)}.values())[::-1]  # the first of each id


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "traffic.jsonl").write_text("".join(json.dumps(record) + "\n" for record in sent()))
    pipeline = Pipeline.load(default_bundle_dir())
    label([str(folder / "traffic.jsonl")], folder / "run", pipeline=pipeline, population=POPULATION, workers=1)
    return folder / "run"


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Running]:
    with running(imported(run, f"sqlite:///{run.with_name('store.db')}"), population=POPULATION) as found:
        found.publish()
        yield found


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows with the names of accounts for their numbers."""
    store = open_store(url)
    with store.reading() as connection:
        names = dict(connection.execute(text("SELECT account_no, account_id FROM accounts")).all())
        found = {name: connection.execute(text(f"SELECT * FROM {name}")).mappings().all() for name in TABLES}
    store.close()
    rows = {
        name: [
            {**row, "account_no": names[row["account_no"]]} if "account_no" in row else {**row, "part": 0}
            for row in own
        ]
        for name, own in found.items()
    }
    return {
        name: sorted(tuple(map(str, row.values())) for row in own) for name, own in rows.items() if name != "model_days"
    }


def page(server: Running, address: str) -> str:
    answer = server.client.get(address)
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<script.*?</script>", "", answer.text))).split())


# --- what is counted --------------------------------------------------------------------------------------------------


def test_scored_or_imported_the_counts_are_the_same(run: Path, server: Running, store_url: str) -> None:
    records = sent()
    with running(store_url, population=POPULATION) as online:
        for start in range(0, len(records), 500):
            some = records[start : start + 500]
            assert online.client.post("/v1/score/batch", json={"events": [*some, *some[:5]]}).status_code == 200
    assert content(store_url) == content(f"sqlite:///{run.with_name('store.db')}")


def test_models_are_counted_by_day_as_they_were_sent(server: Running) -> None:
    wanted = Counter((to_micros(one["timestamp"]) // DAY_US, one["model"]) for one in sent())
    days = server.standing.snapshot().context.models
    assert {(one.day, one.model): one.n_prompts for one in days} == wanted
    assert sum(one.n_matched for one in days) == sum(one.n_matched for one in server.standing.snapshot().days)


def test_no_end_user_is_kept(run: Path, server: Running) -> None:
    files = [run.with_name("store.db"), *(run / "context").glob("*.parquet"), *(run / "labels").glob("*.parquet")]
    name = next(one["end_user_id"] for one in sent() if one["end_user_id"] is not None)
    assert all(name.encode() not in path.read_bytes() for path in files)
    table = pq.read_table(next((run / "context").glob("*.parquet")))
    mine = contexts_of([(None, None, name), (None, None, None)], DEFAULT_HASH_KEY)
    other = contexts_of([(None, None, name)], b"another key")
    assert mine[0] is not None and mine[0].end_user in table["end_user"].to_pylist() and mine[1] is None
    assert other[0] is not None and other[0].end_user not in table["end_user"].to_pylist()


def test_context_is_no_evidence(run: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    label([str(SAMPLE)], tmp_path / "plain", pipeline=pipeline, population=POPULATION, workers=1)
    with_context, without = (pq.read_table(folder / "accounts.parquet") for folder in (run, tmp_path / "plain"))
    names = [name for name in without.column_names if name != "evidence_event_ids"]
    assert with_context.select(names).to_pylist() == without.select(names).to_pylist()


def test_what_is_no_name_is_no_context_and_no_reason_to_refuse(server: Running) -> None:
    odd = {"account_id": "odd", "prompt": "Hello.", "model": " ", "org_id": 7, "end_user_id": "x" * 2_000}
    assert server.score(**odd).status_code == 200
    assert "Context, never evidence" in page(server, "/account?id=odd")
    server.client.delete("/v1/accounts/odd")
    with server.service.store.reading() as connection:
        left = connection.execute(text("SELECT count(*) FROM account_organisations WHERE org_id = '7'")).scalar()
    assert left == 0
    server.standing.refresh()  # which other tests look at


@pytest.mark.parametrize("n", [0, 1, 30, 250, 20_000])
def test_a_sketch_counts(n: int) -> None:
    keys = np.random.default_rng(n).integers(0, 2**64, n, np.uint64).tolist()
    halves = [added(EMPTY, keys[: n // 2]), added(EMPTY, keys[n // 3 :])]
    assert merged(halves) == added(EMPTY, [*keys, *keys]) and len(EMPTY) == 256
    assert count(merged(halves)) == pytest.approx(n, rel=0.2, abs=1)


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_who_moved_to_a_new_model(server: Running) -> None:
    with server.service.store.reading() as connection:
        moves = read_moves(connection, NEW, RELEASE // DAY_US)
        names = dict(connection.execute(text("SELECT account_no, account_id FROM accounts")).all())
    assert {names[number] for number in moves.moved} == MOVED and moves.n_before > len(MOVED)
    said = page(server, f"/model?name={NEW}")
    assert f"Of {moves.n_before} accounts that sent prompts of known templates" in said and "acct_0044" in said
    assert "It was there when the logs begin" in page(server, f"/model?name={OLD}")
    assert NEW in page(server, "/models")
    assert server.client.get("/model?name=nobody").status_code == 404


def test_organisations_and_end_users(server: Running) -> None:
    found = server.standing.snapshot().context.organisations
    assert [(one.org_id, one.n_accounts, one.n_flagged) for one in found] == [(RESELLER, 2, 1)]
    users = len({one["end_user_id"] for one in sent()} - {None})
    assert found[0].n_users == pytest.approx(users, rel=0.1)
    said = page(server, "/organisations")
    assert RESELLER in said and "acct_0032" in said and "acct_0030" not in said
    listed = page(server, "/accounts?organisation=resale+%3Cb%3E%26+co%3C%2Fb%3E")
    assert "acct_0032" in listed and "acct_0001" in listed and "acct_0030" not in listed
    of_account = page(server, "/account?id=acct_0032")
    assert RESELLER in of_account and f"about {found[0].n_users}" in of_account and NEW in of_account


def test_accounts_that_began_together(store_url: str) -> None:
    """By hand: of 40 accounts that code, one began in each of 30 hours, ten in the hour after; eight others plan."""
    start = 20_000 * DAY_US
    begun = [(start + hour * HOUR_US, 12, 0) for hour in range(30)]
    begun += [(start + 30 * HOUR_US + i, 12, 0) for i in range(10)] + [
        (start + 30 * HOUR_US + i, 0, 12) for i in range(4)
    ]
    with new_store(store_url) as store:
        with store.writing() as connection:
            for i, (first, coding, planning) in enumerate(begun):
                connection.execute(
                    text(
                        "INSERT INTO accounts (account_id, n_prompts, n_coding, n_agentic_reasoning, n_matched, "
                        "n_other, n_long_horizon_planning, first_seen, last_seen, n_units, log_max_e, log_review) "
                        "VALUES (:id, 13, :coding, 0, 2, 1, :planning, :first, :first, 1, 0, 0)"
                    ),
                    {"id": f"a{i}", "coding": coding, "planning": planning, "first": first},
                )
        with store.reading() as connection:
            (found,) = read_context_sums(connection, Thresholds(POPULATION, 0, 1e9, 1e9, 1)).beginnings
    assert (found.n_accounts, found.mix, found.hour) == (10, (4, 0, 0), start // HOUR_US + 30)
    assert found.usual == pytest.approx(40 / 31) and (found.n_prompts, found.n_matched) == (130, 20)
    assert (found.first, found.last) == (start + 30 * HOUR_US, start + 30 * HOUR_US + 9)


def test_accounts_that_began_together_are_listed(server: Running) -> None:
    first = min(to_micros(one["timestamp"]) for one in sent() if one["account_id"] == "acct_0032")
    accounts = page(server, f"/accounts?began={first // HOUR_US}.3.0.0")
    assert "first seen in the same hour" in accounts
    assert "In no hour" in page(server, "/beginnings")
    assert server.client.get("/accounts?began=1.2").status_code == 422


def test_without_context_the_pages_say_what_to_send(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as empty:
        empty.publish()
        assert "have your gateway send model" in page(empty, "/models")
        said = page(empty, "/organisations")
        assert "have your gateway send org_id" in said and "have your gateway send end_user_id" in said
        assert "In no hour" in page(empty, "/beginnings")
