"""Templates over HTTP: added, approved, called benign and removed while the service runs, as the command does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from classifier.bundle import default_bundle_dir
from classifier.catalogue import open_catalogue
from classifier.pipeline import Pipeline
from service.batch import label
from service.http import approvals
from service.store.keys import Role, add_key
from tests.command import Ran
from tests.forgeries import BELLOWS, QUILL, fill, rows
from tests.runs import write
from tests.serving import PATIENCE, Running, running
from tests.test_approval_cli import APPROVED, DAY, FORGERS, ordinary, traffic

WHY = {"reason": "ticket 4711"}
SAMPLES = {"samples": rows(fill(QUILL, 20, seed=1))}
ORCHARD = (
    "Picture an orchard ledger whose rows went missing in a storm, and rebuild it.\n{a}\nFor each tree give the graft, "
    "the year and the yield you infer, never a guess without its ground, and sign as the steward of {b}."
)
SHED = rows(fill(ORCHARD, 20, seed=3))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one run, in which a campaign hides; and beside it ordinary traffic to certify on."""
    folder = tmp_path_factory.mktemp("operator")
    write(folder / "ordinary.jsonl", ordinary(44, 150))
    source = write(folder / "before.jsonl", traffic(1, APPROVED - 5 * DAY, range(FORGERS)))
    label([str(source)], folder / "runs" / "september", pipeline=Pipeline.load(default_bundle_dir()), workers=1)
    return folder / "runs"


@pytest.fixture
def server(runs: Path, tmp_path: Path, store_url: str) -> Iterator[Running]:
    """A service with an empty catalogue, on either database."""
    (tmp_path / "local").mkdir()
    own = {"runs": runs, "ordinary": str(runs.parent / "ordinary.jsonl"), "catalogue": tmp_path / "local"}
    with running(store_url, **own) as opened:
        yield opened


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Running]:
    """A service with an empty catalogue, and nothing else."""
    (tmp_path / "local").mkdir()
    with running(f"sqlite:///{tmp_path / 'store.db'}", catalogue=tmp_path / "local") as opened:
        yield opened


def known(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """Signatures of the catalogue, by id."""
    listed = client.get("/v1/templates").json()["templates"]
    return {one["id"]: one for one in listed if one["source"] == "catalogue"}


def family_of(client: httpx.Client, prompt: str, **more: Any) -> str | None:
    answer = client.post("/v1/score", json={"account_id": "asker", "prompt": prompt, **more}).json()
    return answer["prompt"]["template"]["family"] if answer["prompt"]["template"] is not None else None


def acts(running: Running) -> list[tuple[str, str, str]]:
    with running.service.store.reading() as connection:
        rows = connection.execute(text("SELECT who, action, subject FROM audit ORDER BY audit_no")).all()
    return [(row.who, row.action, row.subject) for row in rows]


def test_samples_are_added_and_removed_while_it_runs(small: Running) -> None:
    unseen = fill(QUILL, 1, seed=99)[0]
    assert family_of(small.client, unseen) is None
    body = {"family": "night_mill", "capability": "coding", **WHY, **SAMPLES}
    tried = small.client.post("/v1/templates", json={**body, "dry_run": True})
    assert (tried.status_code, tried.json()["since"], known(small.client)) == (200, None, {})
    (proposal,) = tried.json()["templates"]
    assert (proposal["id"], proposal["tier"], proposal["n_samples"], proposal["n_accounts"]) == (
        *("night_mill/0", "public", 20, 4),
    )
    assert (proposal["found"], proposal["ordinary"]["n_matched"], tried.json()["certified"]) == (1.0, 0, None)

    added = small.client.post("/v1/templates", json=body)
    assert added.status_code == 201 and "tilde" not in added.text
    entry = known(small.client)["night_mill/0"]
    assert (entry["since"], entry["note"]) == (added.json()["since"], "loopback: ticket 4711")
    assert family_of(small.client, unseen) == "night_mill"
    folder = small.service.settings.catalogue
    assert folder is not None and open_catalogue(folder).id == added.json()["catalogue_id"]

    again = small.client.post("/v1/templates", json=body)
    assert again.status_code == 422 and "a family of that name is known already" in again.json()["detail"]
    assert "--" not in again.json()["detail"]

    removed = small.client.delete("/v1/templates/night_mill/0", params=WHY)
    assert (removed.status_code, known(small.client)) == (200, {})
    assert family_of(small.client, unseen, event_id="after") is None
    assert small.client.delete("/v1/templates/night_mill/0", params=WHY).status_code == 404
    assert small.client.delete("/v1/templates/night_mill/0").status_code == 422
    assert acts(small) == [
        ("loopback", "template added (public)", "night_mill/0: ticket 4711"),
        ("loopback", "template removed", "night_mill/0: ticket 4711"),
    ]
    _who_adds_is_named_and_a_scorer_may_not(small, body)


def _who_adds_is_named_and_a_scorer_may_not(small: Running, body: dict[str, Any]) -> None:
    with small.service.store.writing() as connection:
        keys = {role: add_key(connection, role, f"the {role}", None, "test") for role in Role}
    small.service.gate.refresh()
    for role, status in ((Role.SCORER, 403), (Role.ANALYST, 201)):
        headers = {"authorization": f"Bearer {keys[role]}"}
        assert small.client.post("/v1/templates", json=body, headers=headers).status_code == status
        listed = small.client.get("/v1/templates", headers=headers)
        assert listed.status_code == (403 if role is Role.SCORER else 200)
    (note,) = [one["note"] for one in listed.json()["templates"] if one["source"] == "catalogue"]
    assert note == f"{keys[Role.ANALYST].split('_')[1]}: ticket 4711"


def test_a_finding_is_called_benign_or_approved_and_flags_what_is_sent_from_then_on(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.approving.now", APPROVED.isoformat)
    client = server.client
    found = client.get("/v1/templates/discovered", params={"run": "september"}).json()
    finding, *_ = found["findings"]
    assert (finding["n_accounts"], "wording" in finding) == (FORGERS, False)
    path, shop = f"/v1/templates/{finding['id']}/benign", {"run": "september", "family": "shop", **WHY}
    refused = client.post(path, json=shop | {"capability": "coding"}).json()["detail"]
    assert refused == "A benign template is a harmless application's: leave out technique and capability."
    assert client.post(path, json=shop).status_code == 201 and known(client)["shop/0"]["tier"] == "benign"
    assert client.delete("/v1/templates/shop/0", params=WHY).status_code == 200

    body = {"run": "september", "family": "night_mill", "capability": "coding", "tier": "exclusive", **WHY}
    added = client.post(f"/v1/templates/{finding['id']}/approve", json=body)
    assert added.status_code == 201, added.text
    assert added.json()["certified"]["n_accounts"] == known(client)["night_mill/0"]["n_certified"] == 22
    assert known(client)["night_mill/0"]["since"] == APPROVED.isoformat()
    again = client.get("/v1/templates/discovered", params={"run": "september"}).json()
    assert finding["id"] not in {one["id"] for one in again["findings"]} and again["looked_at"]["known"] == 1

    def send(account: str, start: datetime) -> dict[str, Any]:
        events = [
            {"account_id": account, "prompt": one, "timestamp": (start + timedelta(minutes=i)).isoformat()}
            for i, one in enumerate(fill(QUILL, 12, seed=5))
        ]
        assert client.post("/v1/score/batch", json={"events": events}).status_code == 200
        server.publish()
        return dict(client.get(f"/v1/accounts/{account}").json())

    before, after = send("before", APPROVED - DAY), send("after", APPROVED + DAY)
    assert (before["log10_e_coding"] < 1, after["decision"]) == (True, "flag")
    elsewhere = client.post("/v1/templates/0123456789/approve", json=body | {"family": "x"})
    assert (elsewhere.status_code, elsewhere.json()["type"]) == (404, "urn:probewatch:problem:unknown-finding")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "Night Mill"}, "family: "),
        ({"family": "../x"}, "family: "),
        ({"capability": "cooking"}, "capability: "),
        ({"tier": "secret"}, "tier: "),
        ({"reason": ""}, "reason: "),
        ({"extra": 1}, "extra: "),
        ({"samples": []}, "samples: "),
        ({"samples": [{"account_id": "a"}]}, "Sample 1: "),
        ({"samples": [{"account_id": "a", "prompt": "x"}] * 501}, "There are 501 samples: expected 500 at most."),
        ({"samples": rows(fill(QUILL, 20, seed=1), accounts=1)}, "The 20 samples are all of one account"),
        ({"samples": rows(fill(QUILL, 3, seed=1))}, "The samples are 3 distinct prompts: expected 5 to 500"),
        ({"tier": "exclusive"}, "set PROBEWATCH_ORDINARY to files of it, or take the tier public"),
    ],
)
def test_what_will_not_do_is_refused_with_a_sentence(refusing: Running, change: dict[str, Any], said: str) -> None:
    answer = refusing.client.post("/v1/templates", json={"family": "night_mill", **WHY, **SAMPLES, **change})
    assert answer.status_code in (409, 422) and said in answer.json()["detail"]
    assert known(refusing.client) == {}


@pytest.fixture(scope="module")
def refusing(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "local").mkdir()
    with running(f"sqlite:///{folder / 'store.db'}", runs=runs, catalogue=folder / "local") as opened:
        yield opened


def test_without_a_folder_to_write_to_nothing_is_added(tmp_path: Path) -> None:
    body = {"family": "night_mill", **WHY, **SAMPLES}
    with running(f"sqlite:///{tmp_path / 'store.db'}") as bare:
        answer = bare.client.post("/v1/templates", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "No catalogue is configured: make a folder that this service may write to, and serve with --catalogue DIR.",
        )
        missing = bare.client.get("/v1/templates/discovered", params={"run": "september"})
        assert missing.status_code == 409 and "set PROBEWATCH_RUNS" in missing.json()["detail"]


def test_a_run_is_one_of_the_folder_and_nothing_else(refusing: Running) -> None:
    for name in ("..", "/etc", "september/../september", ".", ""):
        answer = refusing.client.get("/v1/templates/discovered", params={"run": name})
        assert answer.status_code == 404, name


def test_two_writers_at_once_lose_nothing(
    small: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Another process writes between what is read here and what is written; so does another thread."""
    prepare, turns = approvals.prepare, list[int]()

    def overtaken(*given: Any) -> Any:
        turns.append(1)
        if len(turns) == 1:
            source = write(tmp_path / "other.jsonl", rows(fill(BELLOWS, 20, seed=2)))
            facts = ("--family", "lodger", "--catalogue", tmp_path / "local", "--yes")
            assert Ran(capsys, "templates", "add", "--from", source, *facts).code == 0
        return prepare(*given)

    monkeypatch.setattr(approvals, "prepare", overtaken)
    bodies = [{"family": "night_mill", **WHY, **SAMPLES}, {"family": "shed", **WHY, "samples": SHED}]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda body: small.client.post("/v1/templates", json=body).status_code, bodies))
    assert (answers, len(turns)) == ([201, 201], 3)
    assert set(known(small.client)) == {"night_mill/0", "lodger/0", "shed/0"}


def test_every_replica_takes_it_up_and_what_the_command_adds_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    own = {"catalogue": local, "refresh_seconds": 0.2}
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with running(url, **own) as one, running(url, **own) as other:
        assert one.client.post("/v1/templates", json={"family": "night_mill", **WHY, **SAMPLES}).status_code == 201
        _wait_for(other, "night_mill/0")
        source = write(tmp_path / "other.jsonl", rows(fill(BELLOWS, 20, seed=2)))
        facts = ("--family", "lodger", "--catalogue", local, "--yes")
        assert Ran(capsys, "templates", "add", "--from", source, *facts).code == 0
        for server in (one, other):
            _wait_for(server, "lodger/0")
            assert family_of(server.client, fill(BELLOWS, 1, seed=9)[0]) == "lodger"


def _wait_for(server: Running, id: str) -> None:
    until = time.monotonic() + PATIENCE
    while id not in known(server.client):
        assert time.monotonic() < until
        time.sleep(0.05)
