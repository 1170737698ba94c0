"""What the service says equals what a labelled run says, over the same events at equal as-of."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.pipeline import Pipeline
from service.batch import label
from tests.serving import Running, running

POPULATION = 1_000
SAMPLE = data_dir() / "sample" / "traffic.jsonl"
TIMES = ("first_seen", "last_seen", "flagged_at")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity") / "run"
    label([str(SAMPLE)], folder, pipeline=Pipeline.load(default_bundle_dir()), population=POPULATION, workers=1)
    return folder


def _send(server: Running) -> dict[str, dict[str, Any]]:
    """The sample in shuffled order, in batches of odd sizes, every fourth batch twice; answers by event id."""
    rng = random.Random(7)
    events = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    rng.shuffle(events)
    answers = {}
    while events:
        size = rng.choice([1, 3, 50, 400])
        batch, events = events[:size], events[size:]
        for _ in range(1 + (rng.random() < 0.25)):
            answered = server.client.post("/v1/score/batch", json={"events": batch})
            assert answered.status_code == 200, answered.text
            answers |= {one["event_id"]: one for one in answered.json()["results"]}
    return answers


def _accounts(server: Running) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while cursor is not None:
        page = server.client.get("/v1/accounts", params={"cursor": cursor, "limit": 20}).json()
        found += page["accounts"]
        cursor = page["cursor"]
    return found


def row_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a run as the service spells it."""
    spelt = {k: v.isoformat(timespec="microseconds").replace("+00:00", "Z") for k, v in row.items() if k in TIMES and v}
    return row | spelt | ({"scaffolds": [str(key) for key in row["scaffolds"]]} if "scaffolds" in row else {})


def test_service_and_batch_agree(run: Path, store_url: str) -> None:
    with running(store_url, population=POPULATION, most_wait_ms=60_000) as server:
        answers = _send(server)
        server.publish()
        _compare_prompts(run, answers)
        compare_accounts(run, server)
        _compare_published(run, server)
        campaigns = [row_of(row) for row in pq.read_table(run / "campaigns.parquet").to_pylist()]
        found = server.client.get("/v1/campaigns").json()["campaigns"]
        assert len(campaigns) == 2
        assert [one | {"log10_e": 0} for one in found] == [one | {"log10_e": 0} for one in campaigns]
        assert [one["log10_e"] for one in found] == pytest.approx([one["log10_e"] for one in campaigns], abs=1e-9)


def _compare_prompts(run: Path, answers: dict[str, dict[str, Any]]) -> None:
    labels = [row for path in sorted((run / "labels").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert {row["event_id"] for row in labels} == set(answers)
    for row in labels:
        prompt = answers[row["event_id"]]["prompt"]
        assert prompt["capability"] == row["capability"]
        assert (prompt["template"] or {}).get("id") == row["template_id"]
        assert prompt["p_extraction"] == pytest.approx(row["p_extraction"], abs=1e-5)


def compare_accounts(run: Path, server: Running, but: Sequence[str] = ()) -> None:
    want = [row_of(row) for row in pq.read_table(run / "accounts.parquet").to_pylist()]
    listed = _accounts(server)
    assert [one["account_id"] for one in listed] == [row["account_id"] for row in want]
    for row, one in zip(want, listed, strict=True):
        detail = server.client.get(f"/v1/accounts/{row['account_id']}").json()
        assert {name: detail[name] for name in one} == one
        assert set(detail) == {*row, "reviews"}
        for name, value in ((name, value) for name, value in row.items() if name not in but):
            if isinstance(value, float):
                assert detail[name] == pytest.approx(value, abs=1e-6), name
            else:
                assert detail[name] == value, (row["account_id"], name)


def _compare_published(run: Path, server: Running) -> None:
    """`/v1/score` says what was published, and asking with a known event changes nothing."""
    decisions = {row["account_id"]: row for row in pq.read_table(run / "accounts.parquet").to_pylist()}
    for line in SAMPLE.read_text(encoding="utf-8").splitlines()[:200]:
        answer = server.score(**json.loads(line)).json()["account"]
        row = decisions[answer["account_id"]]
        names = ("decision", "capabilities", "campaign_id", "n_prompts")
        assert {name: answer[name] for name in names} == {name: row[name] for name in names}
        assert answer["log10_e"]["coding"] == pytest.approx(row["log10_e_coding"], abs=1e-6)


def test_filters_agree_with_decisions(run: Path, tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}", population=POPULATION, most_wait_ms=60_000) as server:
        _send(server)
        server.publish()
        rows = pq.read_table(run / "accounts.parquet").to_pylist()
        for decision in ("flag", "review", "clear", "insufficient_evidence"):
            page = server.client.get("/v1/accounts", params={"decision": decision, "limit": 500}).json()
            want = [row["account_id"] for row in rows if row["decision"] == decision]
            assert [one["account_id"] for one in page["accounts"]] == want
        campaign = next(row["campaign_id"] for row in rows if row["campaign_id"])
        members = [row["account_id"] for row in rows if row["campaign_id"] == campaign]
        assert server.client.get(f"/v1/campaigns/{campaign}").json()["accounts"] == members
        page = server.client.get("/v1/accounts", params={"campaign_id": campaign, "limit": 500}).json()
        assert [one["account_id"] for one in page["accounts"]] == members
