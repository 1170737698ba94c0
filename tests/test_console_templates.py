"""The console's pages of new templates: what a run shares, what a template would do, adding it and dropping it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from classifier.bundle import default_bundle_dir
from classifier.errors import InputError
from classifier.pipeline import Pipeline
from classifier.signing import Family
from classifier.types import Tier
from service import trial
from service.approving import prepare
from service.batch import label
from service.finished import read_finished
from service.prompts import prompts_sent
from tests.console_store import send
from tests.forgeries import QUILL, fill, rows
from tests.runs import write
from tests.serving import Running, running
from tests.test_approval_cli import APPROVED, DAY, FORGERS, traffic
from tests.test_console import XSS, words

LINES = "\n".join(json.dumps(row) for row in rows(fill(QUILL, 20, seed=1)))
FIELDS = {"family": "night_mill", "tier": "public", "capability": "coding", "reason": "ticket 4711", "act": "try"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one run: on its first day forgers and others, on its second others alone."""
    folder = tmp_path_factory.mktemp("shared")
    start = (APPROVED - 5 * DAY).replace(hour=0)
    second = str(start.date() + timedelta(days=1))
    first = [row for row in traffic(1, start, range(FORGERS)) if row["timestamp"] < second]
    honest = [row for row in first if row["account_id"].startswith("honest")][:50]
    later = [row | {"event_id": f"later-{i}", "timestamp": second} for i, row in enumerate(honest)]
    source = write(folder / "traffic.jsonl", [*first, *first[:5], *later])
    label([str(source)], folder / "runs" / "september", pipeline=Pipeline.load(default_bundle_dir()), workers=1)
    return folder / "runs"


@pytest.fixture
def mine(runs: Path, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "local").mkdir()
    with running(f"sqlite:///{tmp_path / 'store.db'}", runs=runs, catalogue=tmp_path / "local") as opened:
        yield opened


def proposed(server: Running, **more: str) -> httpx.Response:
    return send(server.client, "/propose", "/propose", **{**FIELDS, **more})


def acts(server: Running) -> list[tuple[str, str]]:
    with server.service.store.reading() as connection:
        return [(row.action, row.subject) for row in connection.execute(text("SELECT * FROM audit ORDER BY audit_no"))]


# --- what would have matched ------------------------------------------------------------------------------------------


def test_a_trial_counts_what_the_matcher_names_and_nothing_else(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, run = Pipeline.load(default_bundle_dir()), read_finished(runs / "september")
    given = fill(QUILL, 20, seed=1)
    samples = prompts_sent([f"a{i % 4}" for i in range(20)], [(None, one) for one in given])
    addition = prepare(samples, Family("night_mill", None, "coding", Tier.PUBLIC), [], pipeline)
    first = date(2026, 8, 29)
    fired = trial.try_on(addition.signatures, run, first, pipeline)
    sent = [json.loads(line) for line in (runs.parent / "traffic.jsonl").read_text().splitlines()]
    own = {row["event_id"]: row for row in sent if row["timestamp"].startswith("2026-08-29")}
    forged = [row for row in own.values() if "tildes" in row["prompt"]]
    assert (fired.n_day, fired.n_prompts, fired.n_matched) == (len(own), len(own), len(forged))
    assert (fired.n_accounts, fired.n_users) == (len({row["account_id"] for row in own.values()}), FORGERS)
    assert sum(fired.decisions.values()) == FORGERS and len(fired.accounts) == FORGERS
    most = fired.accounts[0]
    assert most.n_matched == sum(row["account_id"] == most.account_id for row in forged)
    assert most.n_prompts == sum(row["account_id"] == most.account_id for row in own.values())

    last = trial.try_on(addition.signatures, run, None, pipeline)
    assert (last.day, last.n_prompts, last.n_matched, last.accounts) == (date(2026, 8, 30), 50, 0, [])
    with pytest.raises(InputError, match="labelled nothing of 2020-01-01: its last day is 2026-08-30"):
        trial.try_on(addition.signatures, run, date(2020, 1, 1), pipeline)
    monkeypatch.setattr(trial, "MOST_TRIED", 40)
    part = trial.try_on(addition.signatures, run, first, pipeline)
    assert (part.n_day, part.n_prompts) == (len(own), 40) and 0 < part.n_matched < 40


# --- the pages --------------------------------------------------------------------------------------------------------


def test_a_finding_goes_from_the_list_through_a_trial_into_the_catalogue(mine: Running) -> None:
    page = mine.client.get("/templates").text
    assert 'href="/discovered?run=september"' in page
    found = mine.client.get("/discovered?run=september").text
    assert "24 accounts" in words(found) and "finish on the line DONE FOR …" in found
    finding = found.split('<h2 id="f-')[1][:10]
    assert f"/propose?run=september&amp;finding={finding}&amp;tier=benign" in found
    of = {"run": "september", "finding": finding, "trial_run": "september", "day": "2026-08-29"}
    tried = proposed(mine, **of)
    said = words(tried.text)
    assert tried.status_code == 200 and "night_mill/0" in said and "of 24 accounts" in said
    assert "that the run september labelled on 2026-08-29" in said and acts(mine) == []
    assert "night_mill" not in mine.client.get("/templates").text

    added = proposed(mine, **of, act="add")
    assert (added.status_code, added.headers["location"]) == (303, "/templates")
    assert acts(mine) == [("template added (public)", "night_mill/0: ticket 4711")]
    assert (
        mine.score(account_id="a", prompt=fill(QUILL, 1, seed=9)[0]).json()["prompt"]["template"]["id"]
        == "night_mill/0"
    )
    assert finding not in mine.client.get("/discovered?run=september").text
    shown = words(mine.client.get("/template?family=night_mill").text)
    assert "loopback: ticket 4711" in shown and "Matched 1 prompt of 1 account" in shown

    dropped = send(mine.client, "/template?family=night_mill", "/template/drop", id="night_mill/0", reason="a mistake")
    assert dropped.status_code == 303 and acts(mine)[-1] == ("template removed", "night_mill/0: a mistake")
    after = words(mine.client.get("/template?family=night_mill").text)
    assert "This bundle and catalogue do not know the family" in after and "Remove it from the catalogue" not in after


def test_pasted_samples_are_called_benign_and_come_back_in_the_form(mine: Running) -> None:
    tried = proposed(mine, samples=LINES, tier="benign", trial_run="", technique="rubric")
    assert (
        tried.status_code == 200 and "tier benign" in words(tried.text).lower() and "fenced in by tildes" in tried.text
    )
    assert proposed(mine, samples=LINES, tier="benign", act="add").status_code == 303
    assert acts(mine) == [("template added (benign)", "night_mill/0: ticket 4711")]
    with mine.service.store.reading() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        stored = str([connection.execute(text(f"SELECT * FROM {name}")).all() for name in names])
    assert "tildes" not in stored


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"samples": "{"}, 422, "Line 1 is no JSON"),
        ({"samples": '{"account_id": "a"}'}, 422, "Sample 1: "),
        ({"samples": LINES, "reason": " "}, 422, "reason: "),
        ({"samples": LINES, "family": XSS}, 422, "family: "),
        ({"samples": LINES, "tier": "secret"}, 422, "Choose what it is."),
        ({"samples": LINES, "capability": "cooking"}, 422, "capability: "),
        ({"samples": LINES, "tier": "exclusive"}, 409, "set PROBEWATCH_ORDINARY"),
        ({"samples": LINES, "trial_run": "../x"}, 404, "There is no finished run of this name"),
        ({"samples": LINES, "trial_run": "september", "day": "soon"}, 422, "The day is no date"),
        ({"samples": LINES, "trial_run": "september", "day": "2020-01-01"}, 422, "labelled nothing of 2020-01-01"),
        ({"run": "september", "finding": "0123456789"}, 404, "No finding of this run has this id."),
    ],
)
def test_what_will_not_do_is_said_on_the_page(asked: Running, fields: dict[str, str], status: int, said: str) -> None:
    answer = proposed(asked, **{"samples": "", **fields})
    assert answer.status_code == status and said in words(answer.text) and 'role="alert"' in answer.text
    assert "<script>alert" not in answer.text and acts(asked) == []


@pytest.fixture(scope="module")
def asked(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "local").mkdir()
    with running(f"sqlite:///{folder / 'store.db'}", runs=runs, catalogue=folder / "local") as opened:
        yield opened


def test_forms_of_other_sites_add_and_drop_nothing(asked: Running) -> None:
    for path in ("/propose", "/template/drop"):
        assert asked.client.post(path, data={**FIELDS, "samples": LINES, "act": "add"}).status_code == 403
    assert send(asked.client, "/propose", "/template/drop", id="night_mill/0", reason="").status_code == 422
    assert send(asked.client, "/propose", "/template/drop", id="night_mill/0", reason="x").status_code == 404
    assert acts(asked) == []


def test_without_a_catalogue_a_template_can_be_tried_and_not_added(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as bare:
        page = words(bare.client.get("/templates").text)
        assert "No catalogue is configured" in page and "No folder of labelled runs is configured" in page
        tried = proposed(bare, samples=LINES)
        assert tried.status_code == 200 and 'value="add"' not in tried.text and "night_mill/0" in tried.text
        refused = proposed(bare, samples=LINES, act="add")
        assert refused.status_code == 409 and "No catalogue is configured" in words(refused.text)
