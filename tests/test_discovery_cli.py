"""`probewatch templates discover, approve, benign`: from a run to a signature, and every way it can go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from classifier.bundle import data_dir
from classifier.catalogue import open_catalogue
from service import cli, discovery, exits, sightings
from tests.command import Ran
from tests.forgeries import BELLOWS, QUILL, SLOT_WORDS, fill
from tests.runs import write

PASSED_ON = (
    "Pray tell the tale of the clockmaker whose cuckoo refused every spring to sing before the mayor had bowed twice."
)
SECRET = "zanzibarquokka"


def traffic() -> list[dict[str, Any]]:
    """The shipped sample; 12 accounts that use a template, 8 that use an application, 20 that pass one prompt on."""
    sample = (data_dir() / "sample" / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in sample]
    prompts = [*zip(fill(QUILL, 60, seed=3), (f"forge-{i % 12}" for i in range(60)), strict=True)]
    prompts += zip(fill(BELLOWS, 24, seed=4), (f"lodger-{i % 8}" for i in range(24)), strict=True)
    prompts += [(PASSED_ON, f"reader-{i}") for i in range(20)]
    return rows + [
        {
            "event_id": f"new-{i}",
            "account_id": account,
            "prompt": prompt,
            "timestamp": rows[37 * i % len(rows)]["timestamp"],
        }
        for i, (prompt, account) in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with traffic.jsonl and its labelled run."""
    folder = tmp_path_factory.mktemp("made")
    source = write(folder / "traffic.jsonl", traffic())
    assert exits.run_app(cli.app, ["label", str(source), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged: its ledger names the inputs where they lay first, in `made`."""
    return Path(shutil.copytree(made, tmp_path / "moved"))


def findings(capsys: pytest.CaptureFixture[str], run: Path, *more: object) -> list[dict[str, Any]]:
    ran = Ran(capsys, "templates", "discover", run, "--json", *more)
    assert (ran.code, ran.err) == (0, "")
    return list(json.loads(ran.out)["findings"])


# --- discovering ------------------------------------------------------------------------------------------------------


def test_the_campaign_comes_first_the_application_next_and_what_is_passed_on_last(
    capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    found = findings(capsys, made / "run")
    assert [(one["rank"], one["n_accounts"], one["n_prompts"]) for one in found] == [
        (1, 12, 60),
        (2, 8, 24),
        (3, 20, 20),
    ]
    assert [one["diversity"] for one in found] == [1, 1, 0.05]
    assert found[0]["shingles"] == 43 and 0 < found[2]["p_extraction"] < found[0]["p_extraction"] < 1
    assert found[0]["first_seen"] < found[0]["last_seen"] and "wording" not in json.dumps(found)


def test_discover_shows_wordings_with_slots(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    ran = Ran(capsys, "templates", "discover", made / "run")
    assert (ran.code, ran.err) == (0, "") and max(map(len, ran.out.splitlines())) <= 80
    said = " ".join(ran.out.replace("\u00a0", " ").split())
    assert said.startswith("3 wordings shared among ")
    assert "sent by 12 accounts, in 60 distinct prompts" in said and "constant 43 runs of three words" in said
    assert "wording Here is a scrap of workshop notes, fenced in by tildes … Invent one repair task" in said
    assert [word for word in SLOT_WORDS if word in said] == []
    assert Ran(capsys, "templates", "discover", made / "run", "--top", "1").out.count("sent by") == 1


def test_the_same_run_gives_the_same_ids(capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path) -> None:
    lines = (made / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
    source = write(tmp_path / "again.jsonl", lines[::-1])
    assert Ran(capsys, "label", source, "--out", tmp_path / "again", "--quiet").code == 0
    ids = [one["id"] for one in findings(capsys, made / "run")]
    assert [one["id"] for one in findings(capsys, tmp_path / "again")] == ids and len(set(ids)) == 3


def test_what_one_account_alone_says_is_never_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An account that sends most of the prompts puts one phrase of its own into each."""
    own = QUILL.replace(
        "Invent one repair task", f"My name is {SECRET} {SECRET} {SECRET} indeed. Invent one repair task"
    )
    prompts = [*((p, "loud") for p in fill(own, 30, seed=1)), *((p, f"a-{i}") for i, p in enumerate(fill(QUILL, 5, 2)))]
    rows = [{"account_id": account, "prompt": prompt} for prompt, account in prompts]
    assert Ran(capsys, "label", write(tmp_path / "t.jsonl", rows), "--out", tmp_path / "run", "--quiet").code == 0
    ran = Ran(capsys, "templates", "discover", tmp_path / "run")
    assert "6 accounts" in ran.out and "workshop notes" in ran.out and SECRET not in ran.out


def test_what_stands_around_an_application_is_looked_at_and_the_application_is_not(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    """A template wrapped in the prompt of an application that is known to be benign."""
    local = tmp_path / "local"
    lodger = findings(capsys, made / "run")[1]["id"]
    ran = Ran(capsys, "templates", "benign", made / "run", lodger, "--family", "shed", "--catalogue", local, "--yes")
    assert ran.code == 0
    pairs = zip(fill(BELLOWS, 30, seed=5), fill(QUILL, 30, seed=6), strict=True)
    wrapped = [{"account_id": f"w-{i % 10}", "prompt": f"{app}\n{forged}"} for i, (app, forged) in enumerate(pairs)]
    source = write(tmp_path / "wrapped.jsonl", wrapped)
    label = ("label", source, "--out", tmp_path / "run", "--catalogue", local, "--quiet")
    assert Ran(capsys, *label).code == 0
    ran = Ran(capsys, "templates", "discover", tmp_path / "run", "--catalogue", local)
    assert (ran.code, ran.out.count("sent by")) == (0, 1) and "sent by      10 accounts" in ran.out


@pytest.mark.parametrize("most", [20_000, 5_000])
def test_beyond_what_memory_may_hold_shingles_are_sampled(
    capsys: pytest.CaptureFixture[str], made: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(sightings, "MOST_SIGHTINGS", most)
    found = findings(capsys, made / "run")
    assert (found[0]["n_accounts"], found[0]["n_prompts"], found[0]["shingles"]) == (12, 60, 43)


def test_of_an_account_a_bounded_number_of_prompts_is_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [{"account_id": f"a-{i % 5}", "prompt": prompt} for i, prompt in enumerate(fill(QUILL, 500, seed=8))]
    assert Ran(capsys, "label", write(tmp_path / "t.jsonl", rows), "--out", tmp_path / "run", "--quiet").code == 0
    document = json.loads(Ran(capsys, "templates", "discover", tmp_path / "run", "--json").out)
    assert document["looked_at"]["accounts"] == 5
    assert 5 * 16 <= document["looked_at"]["prompts"] <= 5 * discovery.PROMPTS_PER_ACCOUNT
    assert document["findings"][0]["n_prompts"] == document["looked_at"]["prompts"]


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"account_id": f"a-{i}", "prompt": word} for i, word in enumerate(SLOT_WORDS)]
    assert Ran(capsys, "label", write(tmp_path / "t.jsonl", rows), "--out", tmp_path / "run", "--quiet").code == 0
    ran = Ran(capsys, "templates", "discover", tmp_path / "run")
    assert (ran.code, ran.out) == (
        0,
        "Nothing found: among 16 unexplained prompts of 16 accounts no wording that no signature explains is shared by "
        "5 accounts.\n",
    )
    assert findings(capsys, tmp_path / "run") == []


# --- from a finding to a signature ------------------------------------------------------------------------------------


def test_an_approved_finding_is_a_public_signature_and_no_finding_any_more(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    local, before = tmp_path / "local", findings(capsys, made / "run")
    facts = ("--technique", "task_synthesis", "--capability", "coding", "--note", "Ada", "--catalogue", local)
    approve = ("templates", "approve", made / "run", before[0]["id"], "--family", "night_mill", *facts)
    dry = Ran(capsys, *approve, "--dry-run")
    assert dry.code == 0 and dry.out.endswith("Nothing was added (--dry-run).\n") and not local.exists()
    ran = Ran(capsys, *approve, "--yes")
    assert ran.code == 0 and "signature night_mill/0" in ran.out
    (entry,) = open_catalogue(local).entries
    found = entry.signature.facts
    assert (found.tier.value, found.technique, found.target) == ("public", "task_synthesis", "coding")
    assert (entry.origin.n_samples, entry.origin.n_accounts, entry.origin.note) == (60, 12, "Ada")
    assert len(entry.signature.shingles) == 43
    after = findings(capsys, made / "run", "--catalogue", local)
    assert [one["id"] for one in after] == [one["id"] for one in before[1:]] and after[0]["rank"] == 1
    ran = Ran(capsys, "templates", "discover", made / "run", "--catalogue", local)
    assert "Left out: 1 wording that signatures added since the run explain." in ran.out


def test_a_benign_finding_is_an_application(capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path) -> None:
    local, before = tmp_path / "local", findings(capsys, made / "run")
    finding = before[1]["id"]
    ran = Ran(capsys, "templates", "benign", made / "run", finding, "--family", "shed", "--catalogue", local, "--yes")
    assert ran.code == 0
    assert [e.signature.facts.tier.value for e in open_catalogue(local).entries] == ["benign"]
    after = findings(capsys, made / "run", "--catalogue", local)
    assert [one["id"] for one in after] == [before[0]["id"], before[2]["id"]]


@pytest.mark.parametrize("command", ["approve", "benign"])
def test_what_is_no_finding_or_no_signature_is_refused(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path, command: str
) -> None:
    found, local = findings(capsys, made / "run"), tmp_path / "local"
    for id, name, code, said in (
        ("nope", "x", 2, f"nope: no finding of {made / 'run'} has this id; `probewatch templates discover` lists them"),
        (found[0]["id"], "A B", 2, "--family got 'A B'"),
        (found[0]["id"], "oss_instruct", 2, "a family of that name is known already"),
    ):
        ran = Ran(capsys, "templates", command, made / "run", id, "--family", name, "--catalogue", local, "--yes")
        assert ran.code == code and said in ran.sentence
    assert not local.exists()


# --- runs that cannot be asked ----------------------------------------------------------------------------------------


def test_where_the_inputs_lie_now_may_be_told(capsys: pytest.CaptureFixture[str], made: Path, moved: Path) -> None:
    expected = findings(capsys, made / "run")
    ledger = moved / "run" / "resume" / "ledger.json"
    ledger.write_text(ledger.read_text().replace(str(made), str(moved / "gone")))
    ran = Ran(capsys, "templates", "discover", moved / "run")
    assert ran.code == 3 and f"is not at {moved / 'gone' / 'traffic.jsonl'} any more" in ran.sentence
    assert "give the files that were labelled, wherever they lie now, as PATH" in ran.sentence
    assert findings(capsys, moved / "run", moved / "traffic.jsonl") == expected
    assert findings(capsys, moved / "run", moved / "*.jsonl") == expected
    other = write(moved / "other.jsonl", traffic()[:9])
    ran = Ran(capsys, "templates", "discover", moved / "run", other)
    assert ran.code == 3 and "is not among the files given" in ran.sentence
    ledger.write_text(ledger.read_text().replace(str(moved / "gone"), str(moved)))
    write(moved / "traffic.jsonl", traffic()[:9])
    ran = Ran(capsys, "templates", "discover", moved / "run")
    assert ran.code == 3 and "has changed since it was labelled; label it into a new run" in ran.sentence


def test_what_is_no_finished_run_is_refused(capsys: pytest.CaptureFixture[str], moved: Path, tmp_path: Path) -> None:
    def refused(run: Path, said: str) -> None:
        for command in (
            ("discover",),
            ("approve", "x", "--family", "x", "--yes"),
            ("benign", "x", "--family", "x", "--yes"),
        ):
            ran = Ran(capsys, "templates", command[0], run, *command[1:])
            assert ran.code == 3 and said in ran.sentence

    refused(tmp_path / "nowhere", "is not a folder; give the folder that `probewatch label --out` wrote")
    refused(moved, "holds no run.json, so it is no labelled run, or one that was stopped")
    document = (moved / "run" / "run.json").read_text()
    (moved / "run" / "run.json").write_text(document[:50])
    refused(moved / "run", "its run.json and resume/ledger.json cannot be read together; label again")
    (moved / "run" / "run.json").unlink()
    refused(moved / "run", "holds no run.json")


def test_labels_that_cannot_be_read_are_refused(capsys: pytest.CaptureFixture[str], moved: Path) -> None:
    (part,) = (moved / "run" / "labels").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:1000])
    ran = Ran(capsys, "templates", "discover", moved / "run")
    assert ran.code == 5 and "is not a part of a labelled run" in ran.sentence


def test_a_run_of_another_bundle_is_refused(capsys: pytest.CaptureFixture[str], moved: Path) -> None:
    ledger = moved / "run" / "resume" / "ledger.json"
    document = json.loads(ledger.read_text())
    ledger.write_text(json.dumps({**document, "bundle_id": "0123456789abcdef"}))
    ran = Ran(capsys, "templates", "discover", moved / "run")
    assert ran.code == 4 and "was labelled with bundle 0123456789abcdef, this is" in ran.sentence
