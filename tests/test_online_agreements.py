"""What the service says equals what a run says where a catalogue has an exclusive family and exceptions are agreed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from classifier.pipeline import Pipeline
from classifier.types import Tier
from service.batch import label
from service.exceptions import read_exceptions
from service.store.reading import read_account
from tests.command import Ran
from tests.console_store import send as send_form
from tests.runs import write
from tests.serving import Running, running
from tests.test_approval_cli import APPROVED, DAY, traffic
from tests.test_online_parity import POPULATION, compare_accounts, row_of
from tests.test_reachback import signature, with_catalogue

FAMILY = signature().facts.family
ENTRY = '[[exception]]\naccount = "{}"\nfamily = "{}"\nwho = "ann"\nwhy = "ticket {}"\nuntil = 2026-09-{:02}\n'
FORGERS = 12


class World:
    """Traffic before and after an approval, a catalogue, and a file of exceptions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.local, self.file = folder, folder / "local", folder / "agreed.toml"
        self.pipeline: Pipeline = with_catalogue(self.local, Tier.EXCLUSIVE)
        before = traffic(1, APPROVED - 2 * DAY, range(FORGERS))
        self.events = [*before, *traffic(2, APPROVED + DAY, range(FORGERS // 2))]
        self.source = write(folder / "events.jsonl", self.events)

    def agree(self, *entries: tuple[str, str, int]) -> None:
        """Write the file: account, ticket, last day."""
        self.file.write_text("".join(ENTRY.format(name, FAMILY, why, day) for name, why, day in entries))

    def run(self) -> Path:
        """Label all, as it is agreed now."""
        out = self.folder / f"run-{random.getrandbits(32):x}"
        agreed = read_exceptions(self.file)
        label([str(self.source)], out, pipeline=self.pipeline, population=POPULATION, workers=1, exceptions=agreed)
        return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("agreed"))


def send(server: Running, events: list[dict[str, Any]]) -> None:
    for start in range(0, len(events), 400):
        answered = server.client.post("/v1/score/batch", json={"events": events[start : start + 400]})
        assert answered.status_code == 200, answered.text


def compare(run: Path, server: Running) -> dict[str, dict[str, Any]]:
    """All that both say of accounts and campaigns; rows of the run by account."""
    server.publish()
    compare_accounts(run, server)
    want = [row_of(row) | {"log10_e": 0} for row in pq.read_table(run / "campaigns.parquet").to_pylist()]
    assert [one | {"log10_e": 0} for one in server.client.get("/v1/campaigns").json()["campaigns"]] == want
    rows = {row["account_id"]: row for row in pq.read_table(run / "accounts.parquet").to_pylist()}
    for decision in ("flag", "review", "clear", "insufficient_evidence"):
        page = server.client.get("/v1/accounts", params={"decision": decision, "limit": 500}).json()
        own = [name for name, row in rows.items() if row["decision"] == decision]
        assert [one["account_id"] for one in page["accounts"]] == own, decision
    decisions = server.standing.refresh().decisions
    assert {str(one): n for one, n in decisions.items()} == {
        name: sum(row["decision"] == name for row in rows.values()) for name in map(str, decisions)
    }
    return rows


def test_the_service_goes_by_approvals_and_exceptions_as_a_run_does(world: World, store_url: str) -> None:
    events = list(world.events)
    random.Random(5).shuffle(events)  # late ones, and some of accounts that were agreed upon before they were seen
    world.agree(("forger-0", "1", 30), ("forger-1", "2", 30), ("forger-9", "3", 30), ("unseen", "4", 30))
    settings = {"catalogue": world.local, "exceptions": world.file, "population": POPULATION, "most_wait_ms": 60_000}
    with running(store_url, **settings) as server:
        send(server, events[: len(events) // 2])
        world.agree(("forger-1", "2", 5), ("forger-2", "5", 30), ("forger-8", "6", 30))
        assert server.client.post("/v1/reload").status_code == 200
        send(server, events[len(events) // 2 :])
        rows = compare(world.run(), server)
        decided = {name: (rows[name]["decision"], rows[name]["basis"]) for name in rows if name.startswith("forger")}
        flagged, linked = ("flag", "signature"), ("review", "analyst")
        assert (decided["forger-0"], decided["forger-9"], decided["forger-3"]) == (flagged, linked, flagged)
        assert decided["forger-2"] == decided["forger-8"] == ("clear", None)
        assert "(ann, until 2026-09-30: ticket 5)" in rows["forger-2"]["reasons"][-1]
        said = server.score(**world.events[0] | {"account_id": "forger-9", "event_id": "another"}).json()["account"]
        assert (said["decision"], said["campaign_id"]) == ("review", rows["forger-9"]["campaign_id"])


def test_what_a_review_exempts_can_be_withdrawn(world: World, tmp_path: Path) -> None:
    world.file.write_text("exception = []\n")
    settings = {"catalogue": world.local, "population": POPULATION, "most_wait_ms": 60_000}
    with running(f"sqlite:///{tmp_path / 'store.db'}", **settings) as server:
        send(server, world.events)

        def review(state: str, **more: str) -> Any:
            page, fields = "/account?id=forger-0", {"id": "forger-0", "state": state, "family": FAMILY, "reason": "x"}
            return send_form(server.client, page, "/account/review", **fields, **more)

        assert review("withdrawn").status_code == 422
        assert review("exempted", until="2030-01-01").status_code == 303
        assert server.client.get("/v1/accounts/forger-0").json()["decision"] == "clear"
        assert review("withdrawn").status_code == 303
        again = review("withdrawn")
        assert again.status_code == 422 and "Choose a family that a review of this account exempts" in again.text
        detail = server.client.get("/v1/accounts/forger-0").json()
        assert [one["state"] for one in detail["reviews"]] == ["withdrawn", "exempted"]
        server.publish()
        compare_accounts(world.run(), server, but=("review_state",))


def test_a_bad_file_of_exceptions_stops_nothing_that_runs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agreed.toml"
    file.write_text(ENTRY.format("forger-0", FAMILY, "1", 30))
    with running(f"sqlite:///{tmp_path / 'store.db'}", exceptions=file) as server:
        file.write_text("[[exception]]\naccount = 3\n")
        answer = server.client.post("/v1/reload")
        assert answer.status_code == 409 and "exception 1 lacks family, who, why, until" in answer.json()["detail"]
        with server.service.store.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM exemptions")).scalar() == 1
            assert read_account(connection, "forger-0") is None
    ran = Ran(capsys, "serve", "--store", f"sqlite:///{tmp_path / 'store.db'}", "--exceptions", file)
    assert ran.code == 3 and "exception 1 lacks family" in ran.sentence
