"""`probewatch templates`, and --catalogue in `label` and `score`: the real commands, end to end."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.catalogue import add_entries, open_catalogue, remove_entry
from classifier.catalogue_folder import INDEX
from classifier.errors import BundleError
from classifier.pipeline import Pipeline
from classifier.signatures import Signature
from classifier.types import CAPABILITIES
from service import cli, exits, workers
from service.prompts import sample_ordinary
from service.report_words import percent
from tests.command import Ran
from tests.forgeries import ASKS, BELLOWS, QUILL, SLOT_WORDS, fill, rows
from tests.runs import labels_of, records, write
from tests.test_workers import events

SAMPLE = data_dir() / "sample" / "traffic.jsonl"
NOTE = "Ada, desk 4: seen on resold keys"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return write(tmp_path / "samples.jsonl", rows(fill(QUILL, 30, seed=1)))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue with a family, made by the command."""
    folder = tmp_path_factory.mktemp("made")
    file = write(folder / "samples.jsonl", rows(fill(QUILL, 30, seed=1)))
    assert exits.run_app(cli.app, [str(part) for part in adding(file, folder / "local")]) == 0
    return folder / "local"


def adding(file: Path, folder: Path, *more: object) -> tuple[object, ...]:
    facts = ("--family", "night_mill", "--technique", "task_synthesis", "--capability", "coding", "--note", NOTE)
    return ("templates", "add", "--from", file, "--catalogue", folder, *facts, "--yes", *more)


def label(capsys: pytest.CaptureFixture[str], source: Path, out: Path, *more: object) -> Ran:
    return Ran(capsys, "label", source, "--out", out, "--quiet", *more)


def later_traffic(path: Path) -> Path:
    """100 uses of the template by two accounts, among other prompts of theirs and of others."""
    forged = [row | {"event_id": f"f-{i}"} for i, row in enumerate(rows(fill(QUILL, 100, seed=9), accounts=2))]
    asked = [row | {"event_id": f"q-{i}"} for i, row in enumerate(rows([*ASKS], accounts=2))]
    return write(path, [*forged, *asked, *records(40)])


# --- adding -----------------------------------------------------------------------------------------------------------


def test_add_shows_what_it_adds_and_says_where(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path
) -> None:
    ran = Ran(capsys, *adding(samples, tmp_path / "local"))
    assert (ran.code, ran.err) == (0, "") and max(map(len, ran.out.splitlines()[:-1])) <= 80
    lines = " ".join(ran.out.replace("\u00a0", " ").split())
    for said in (
        "signature night_mill/0 tier public technique task synthesis aims at coding constant 43 runs of three words "
        "matches at 6 of them, and 3 % in order",
        "samples 30 of 30, of 4 accounts",
        "found afterwards 100 % of these samples",
        "ordinary traffic 0 % of 1,276 prompts of 35 accounts match it",
        "worst account 0 % of its prompts match it",
        "wording Here is a scrap of workshop notes, fenced in by tildes … Invent one repair task",
    ):
        assert said in lines
    written = open_catalogue(tmp_path / "local")
    assert ran.out.endswith(
        f"{tmp_path / 'local'}: now catalogue {written.id} with 1 signature, 1 of them new; use it with --catalogue "
        f"{tmp_path / 'local'}\n"
    )
    (entry,) = written.entries
    assert (entry.origin.note, entry.origin.n_samples, entry.origin.n_accounts) == (NOTE, 30, 4)


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path) -> None:
    ran = Ran(capsys, *adding(samples, tmp_path / "local", "--dry-run"))
    assert ran.code == 0 and ran.out.endswith("\nNothing was added (--dry-run).\n")
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize(("answer", "added"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_add_asks_on_a_terminal(
    capsys: pytest.CaptureFixture[str],
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    added: bool,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    arguments = [argument for argument in adding(samples, tmp_path / "local") if argument != "--yes"]
    ran = Ran(capsys, *arguments)
    assert ran.code == 0 and f"Add to {tmp_path / 'local'}? [y/N]: " in ran.out
    assert (tmp_path / "local" / INDEX).exists() is added and ("Nothing was added." in ran.out) is not added


def test_a_question_that_is_left_unanswered_is_an_interruption(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    ran = Ran(capsys, *(argument for argument in adding(samples, tmp_path / "local") if argument != "--yes"))
    assert ran.code == 130 and ran.err.startswith("probewatch: Interrupted") and not (tmp_path / "local").exists()


def test_without_a_terminal_it_asks_nothing_and_refuses(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO("y\n")
    closed.close()
    for stdin in (io.StringIO("y\n"), closed, None):
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = Ran(capsys, "templates", "add", "--from", samples, "--family", "mill", "--catalogue", tmp_path / "local")
        assert ran.code == 2 and ran.sentence.startswith("There is no terminal to confirm on: give --yes")
        assert not (tmp_path / "local").exists()


def test_a_second_family_joins_the_first_and_a_known_one_is_refused(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "local"
    Ran(capsys, *adding(samples, folder))
    other = write(tmp_path / "other.jsonl", rows(fill(BELLOWS, 20, seed=2)))
    assert (
        Ran(capsys, "templates", "add", "--from", other, "--family", "shed", "--catalogue", folder, "--yes").code == 0
    )
    assert [one.signature.facts.id for one in open_catalogue(folder).entries] == ["night_mill/0", "shed/0"]
    before = open_catalogue(folder).id
    ran = Ran(capsys, *adding(other, folder))
    assert ran.code == 2 and ran.sentence.startswith("--family got night_mill: a family of that name is known already")
    again = Ran(capsys, "templates", "add", "--from", samples, "--family", "dusk", "--catalogue", folder, "--yes")
    assert again.code == 3 and "most others match night_mill already" in again.sentence
    assert open_catalogue(folder).id == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--family", "Night Mill"], 2, "--family got 'Night Mill': expected up to 64 of a-z"),
        (["--family", "x", "--technique", "a/b"], 2, "--technique got 'a/b'"),
        (
            ["--family", "x", "--capability", "cooking"],
            2,
            "--capability got 'cooking': expected one of coding",
        ),
        (["--family", "x", "--tier", "holy"], 2, "--tier got 'holy': expected exclusive, public or benign"),
        (
            ["--family", "x", "--tier", "exclusive"],
            2,
            "--tier exclusive needs --against: traffic known to be ordinary, half of whose accounts must certify",
        ),
        (["--family", "x", "--tier", "benign", "--capability", "coding"], 2, "is a harmless application: leave out"),
        (["--family", "x", "--note", "caf\udce9"], 2, "--note is not valid UTF-8"),
        (["--family", "x", "--against", "nowhere.jsonl"], 3, "nowhere.jsonl does not exist"),
        (["--family", "x", "--against", "uses.jsonl"], 3, "x/0 would match 4.5\u00a0% of 1,336 ordinary prompts"),
        (["--family", "x", "--bundle", "nowhere"], 4, "manifest.json cannot be read"),
        (["--family", "x", "--from", "nowhere.jsonl"], 3, "nowhere.jsonl does not exist"),
        (["--family", "x", "--from", "asks.jsonl"], 3, "have nothing in common"),
        (["--family", "x", "--from", "four.jsonl"], 3, "The samples are 4 distinct prompts: expected 5 to 500"),
        (["--family", "x", "--from", "broken.jsonl"], 3, "4 distinct prompts (and 3 rejected records)"),
        (["--family", "x", "--from", "one.jsonl"], 3, "all of one account"),
        (["--family", "x", "--catalogue", "taken"], 5, "holds files and is no catalogue"),
        (["--family", "x", "--catalogue", "taken", "--dry-run"], 5, "holds files and is no catalogue"),
        (["--family", "x", "--catalogue", "taken", "--from", "nowhere.jsonl"], 5, "holds files and is no catalogue"),
        (["--family", "x", "--catalogue", "one.jsonl/local"], 5, "cannot be written (Not a directory)"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "asks.jsonl", rows([*ASKS]))
    write(tmp_path / "four.jsonl", rows(fill(QUILL, 4, seed=1)))
    write(tmp_path / "broken.jsonl", [*rows(fill(QUILL, 4, seed=1)), "{", "{}", "[]"])
    write(tmp_path / "one.jsonl", rows(fill(QUILL, 9, seed=1), accounts=1))
    write(tmp_path / "uses.jsonl", rows(fill(QUILL, 60, seed=3), accounts=1))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    ran = Ran(capsys, "templates", "add", "--from", samples, "--catalogue", "local", "--yes", *arguments)
    shown = ran.err.removeprefix("probewatch: ")
    assert ran.code == code and said in shown and shown.count("\n") == 1
    assert not (tmp_path / "local").exists() and not (tmp_path / "taken" / INDEX).exists()


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o500])
def test_a_folder_that_cannot_be_used_is_refused(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    folder = tmp_path / "local"
    folder.mkdir(mode=mode)
    access = os.access  # root may do everything, so what others may is told here
    monkeypatch.setattr(
        os, "access", lambda path, want: access(path, want) if path != folder else (mode >> 6) & want == want
    )
    for more in (("--yes",), ("--dry-run",)):
        ran = Ran(capsys, "templates", "add", "--from", samples, "--family", "x", "--catalogue", folder, *more)
        assert ran.code == 5 and "cannot be written (Permission denied); check permissions" in ran.sentence
    assert Ran(capsys, "templates", "list", "--catalogue", folder).code == 4
    folder.chmod(0o700)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_samples_come_in_any_format(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.csv

    table, file = pa.Table.from_pylist(rows(fill(QUILL, 30, seed=1))), tmp_path / f"samples.{suffix}"
    pyarrow.csv.write_csv(table, file) if suffix == "csv" else pq.write_table(table, file)
    assert Ran(capsys, *adding(file, tmp_path / "local")).code == 0
    assert len(open_catalogue(tmp_path / "local").entries[0].signature.shingles) == 43


def test_the_catalogue_holds_no_text(catalogue: Path) -> None:
    stored = b"".join(path.read_bytes() for path in catalogue.iterdir()).lower()
    words = {word.strip(".,;:~\n{}").lower() for word in QUILL.split()} | set(SLOT_WORDS)
    told = {word for word in words if len(word) >= 5} - {"{a}", "tildes.\n~~~"}
    assert {"workshop", "tildes", "solve", "marmot", "hawthorn"} <= told and len(told) > 25
    assert [word for word in told if word.encode() in stored] == []
    assert b"night_mill" in stored and NOTE.lower().encode() in stored


# --- removing ---------------------------------------------------------------------------------------------------------


def test_remove_takes_a_signature_away_and_keeps_the_version_before(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "local"
    Ran(capsys, *adding(samples, folder))
    before = open_catalogue(folder).id
    ran = Ran(capsys, "templates", "remove", "night_mill/0", "--catalogue", folder, "--yes")
    now = open_catalogue(folder)
    assert (ran.code, ran.out) == (0, f"{folder}: now catalogue {now.id} with 0 signatures\n") and now.entries == ()
    assert len(open_catalogue(folder, before).entries) == 1
    assert "0 of the catalogue." in Ran(capsys, "templates", "list", "--catalogue", folder).out
    assert Ran(capsys, *adding(samples, folder)).code == 0  # the name is free again


def test_what_cannot_be_removed_is_refused(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_catalogue(catalogue).id
    bundled = Pipeline.load(default_bundle_dir()).labeler.templates.signatures[0].facts.id
    for given in (bundled, "night_mill/7", "night_mill"):
        ran = Ran(capsys, "templates", "remove", given, "--catalogue", catalogue, "--yes")
        assert ran.code == 2 and ran.sentence.startswith(f"{given}: is no signature of catalogue {catalogue}")
    assert Ran(capsys, "templates", "remove", "x/0", "--catalogue", tmp_path / "nowhere", "--yes").code == 4
    assert not (tmp_path / "nowhere").exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    ran = Ran(capsys, "templates", "remove", "night_mill/0", "--catalogue", catalogue)
    assert ran.code == 2 and ran.sentence.startswith("There is no terminal to confirm on: give --yes")
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert Ran(capsys, "templates", "remove", "night_mill/0", "--catalogue", catalogue).out.endswith(
        "Nothing was removed.\n"
    )
    assert open_catalogue(catalogue).id == before


def test_a_catalogue_that_moves_while_it_is_added_to_is_left_alone(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service import approving

    folder, propose = tmp_path / "local", approving.propose
    Ran(capsys, *adding(samples, folder))
    before = open_catalogue(folder).id

    def overtaken(*given: Any) -> Any:
        found = propose(*given)
        remove_entry(folder, "night_mill/0", before)
        return found

    monkeypatch.setattr(approving, "propose", overtaken)
    other = write(tmp_path / "other.jsonl", rows(fill(BELLOWS, 20, seed=2)))
    ran = Ran(capsys, "templates", "add", "--from", other, "--family", "shed", "--catalogue", folder, "--yes")
    assert ran.code == 5 and f"was changed meanwhile, from version {before} to" in ran.err
    assert open_catalogue(folder).entries == ()


# --- looking ----------------------------------------------------------------------------------------------------------


def test_list_and_show_tell_the_bundle_s_from_one_s_own(capsys: pytest.CaptureFixture[str], catalogue: Path) -> None:
    n = len(Pipeline.load(default_bundle_dir()).labeler.templates.signatures)
    assert Ran(capsys, "templates", "list").out.endswith(f"\n{n} signatures: {n} of the bundle, 0 of the catalogue.\n")
    listed = Ran(capsys, "templates", "list", "--catalogue", catalogue).out.splitlines()
    assert len(listed) == n + 2 and listed[-1] == f"{n + 1} signatures: {n} of the bundle, 1 of the catalogue."
    assert listed[-2].split() == ["night_mill/0", "public", "catalogue", "task", "synthesis,", "coding"]
    document = json.loads(Ran(capsys, "templates", "list", "--catalogue", catalogue, "--json").out)
    assert document["catalogue_id"] == open_catalogue(catalogue).id and len(document["templates"]) == n + 1
    assert document["templates"][0]["from"] == "bundle" and document["templates"][0]["since"] is None
    shown = json.loads(Ran(capsys, "templates", "show", "night_mill/0", "--catalogue", catalogue, "--json").out)
    since = open_catalogue(catalogue).entries[0].origin.since
    assert shown["template"] == document["templates"][-1] == {
        "id": "night_mill/0",
        "family": "night_mill",
        "technique": "task_synthesis",
        "capability": "coding",
        "tier": "public",
        "from": "catalogue",
        "minimum_hits": 6,
        "minimum_coverage": 0.03,
        "shingles": 43,
        "vectors": 1,
        "since": since,
        "note": NOTE,
        "n_samples": 30,
        "n_accounts": 4,
        "n_certified": 0,
    }  # fmt: skip
    words = Ran(capsys, "templates", "show", "night_mill/0", "--catalogue", catalogue).out
    assert words.startswith("signature night_mill/0 of the catalogue\n") and NOTE in words
    ran = Ran(capsys, "templates", "show", "night_mill/0")
    assert ran.code == 2 and ran.sentence.startswith("night_mill/0: no signature has this id")


def test_check_counts_collisions_and_matches(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path
) -> None:
    own = write(tmp_path / "benign.jsonl", [*rows(fill(QUILL, 3, seed=4)), *rows([*ASKS]), *records(5)])
    ran = Ran(capsys, "templates", "check", "--catalogue", catalogue, "--against", own)
    lines = ran.out.replace("\u00a0", " ").splitlines()
    n = len(sample_ordinary()) + 20
    assert ran.code == 0 and lines[0].endswith(" families, no id twice.")
    share = percent(3 / n).replace("\u00a0", " ")
    assert lines[-3:] == [
        f"Of {n:,} ordinary prompts:",
        f"  {share} match night_mill/0 (public)",
        f"  {share} match an extraction signature.",
    ]
    shared = lines.index(next(line for line in lines if line.endswith("the smaller one's shingles:")))
    pairs = lines[shared + 1 : -3]
    assert lines[shared] == f"{len(pairs)} pairs of different families share over half of the smaller one's shingles:"
    assert not [line for line in lines[:-3] if "night_mill" in line]


def test_check_without_traffic_looks_at_the_shipped_sample(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "templates", "check", "--json")
    told = json.loads(ran.out)
    assert ran.code == 0 and told["signatures"] == len(Pipeline.load(default_bundle_dir()).labeler.templates.signatures)
    assert told["ordinary_prompts"] == len(sample_ordinary()) and told["catalogue_id"] == "none"
    assert [match for match in told["matched"] if match["tier"] != "benign"] == []
    assert all(one["named"] is not None for one in told["unfound"])


def test_check_names_a_signature_that_nothing_finds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.test_catalogue import entry

    pipeline = Pipeline.load(default_bundle_dir())
    sound = entry("sound_mill", width=pipeline.labeler.encoder.dimensions)
    facts = replace(sound.signature.facts, min_hits=len(sound.signature.shingles))
    sound = replace(sound, signature=replace(sound.signature, facts=facts))
    facts = replace(facts, id="hungry_mill/0", family="hungry_mill", min_hits=facts.min_hits + 1)
    hungry = replace(
        sound, signature=Signature(facts, sound.signature.shingles + np.uint64(1), sound.signature.vectors)
    )
    add_entries(tmp_path / "local", [sound, hungry], pipeline.encoder_digest, None)
    ran = Ran(capsys, "templates", "check", "--catalogue", tmp_path / "local")
    assert ran.code == 4 and "  hungry_mill/0 (public): not found at all" in ran.out.splitlines()
    lost = "probewatch: templates: hungry_mill/0: not found in a text of all its own shingles; "
    assert ran.err.startswith(lost) and ran.err.count("\n") == 1
    assert "  sound_mill/0 (public): " not in ran.out


def test_check_refuses_an_id_that_the_bundle_has(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.test_catalogue import entry

    pipeline = Pipeline.load(default_bundle_dir())
    family = pipeline.labeler.templates.signatures[0].facts.family
    add_entries(
        tmp_path / "local", [entry(family, width=pipeline.labeler.encoder.dimensions)], pipeline.encoder_digest, None
    )
    ran = Ran(capsys, "templates", "check", "--catalogue", tmp_path / "local")
    said = f"catalogue {tmp_path / 'local'}: has a signature {family}/0, and so has the bundle"
    assert ran.code == 4 and ran.sentence.startswith(said)


# --- labelling --------------------------------------------------------------------------------------------------------


def test_label_finds_later_uses_and_names_the_catalogue(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path
) -> None:
    traffic, made = later_traffic(tmp_path / "traffic.jsonl"), open_catalogue(catalogue).id
    assert label(capsys, traffic, tmp_path / "run", "--catalogue", catalogue, "--population", 1000).code == 0
    labels = labels_of(tmp_path / "run").to_pylist()
    forged = [row for row in labels if row["event_id"].startswith("f-")]
    assert sum(row["template_id"] == "night_mill/0" for row in forged) >= 98
    assert {(row["template_family"], row["technique"]) for row in forged} == {("night_mill", "task_synthesis")}
    assert [row["event_id"] for row in labels if row["template_id"] is not None and row not in forged] == []
    assert json.loads((tmp_path / "run" / "run.json").read_text())["catalogue_id"] == made
    for path in (tmp_path / "run").rglob("*.parquet"):
        assert pq.read_schema(path).metadata[b"catalogue_id"] == made.encode()
    accounts = {row["account_id"]: row for row in pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()}
    assert {name for name, row in accounts.items() if row["template_rate"] > 0.5} == {"forge-0", "forge-1"}
    for row in accounts.values():  # what was learnt from traffic flags nobody
        assert row["decision"] != "flag" and row["basis"] != "signature"
    assert {accounts["forge-0"]["decision"], accounts["forge-0"]["basis"]} <= {"review", "public"}


def test_without_the_catalogue_nothing_is_matched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    traffic = later_traffic(tmp_path / "traffic.jsonl")
    assert label(capsys, traffic, tmp_path / "run").code == 0
    assert labels_of(tmp_path / "run")["template_id"].null_count == 152
    assert json.loads((tmp_path / "run" / "run.json").read_text())["catalogue_id"] == "none"


def test_the_sample_s_ordinary_traffic_is_labelled_as_before(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path
) -> None:
    for name, more in (("with", ("--catalogue", catalogue)), ("without", ())):
        assert label(capsys, SAMPLE, tmp_path / name, *more).code == 0
    assert labels_of(tmp_path / "with").equals(labels_of(tmp_path / "without"))


def test_resuming_with_another_catalogue_is_refused(
    capsys: pytest.CaptureFixture[str], catalogue: Path, samples: Path, tmp_path: Path
) -> None:
    traffic, made = later_traffic(tmp_path / "traffic.jsonl"), open_catalogue(catalogue).id
    Ran(capsys, *adding(samples, tmp_path / "local"))
    other = open_catalogue(tmp_path / "local").id
    assert label(capsys, traffic, tmp_path / "run", "--catalogue", catalogue).code == 0
    for more, found in ((("--catalogue", tmp_path / "local"), other), ((), "none")):
        ran = label(capsys, traffic, tmp_path / "run", *more)
        assert ran.code == 5
        assert f"was labelled with catalogue id {made}, this run has {found}; choose another --out" in ran.sentence
    assert label(capsys, traffic, tmp_path / "run", "--catalogue", catalogue).code == 0


@pytest.mark.parametrize("killed", [True, False])
def test_a_run_goes_on_with_the_version_it_was_begun_with(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, killed: bool
) -> None:
    folder, run = tmp_path / "local", tmp_path / "run"
    Ran(capsys, *adding(samples, folder))
    traffic, begun = later_traffic(tmp_path / "traffic.jsonl"), open_catalogue(folder).id
    assert label(capsys, traffic, run, "--catalogue", folder).code == 0
    if killed:
        (run / "run.json").unlink()
        expected = (run / "accounts.parquet").read_bytes()
        (run / "accounts.parquet").unlink()
    assert Ran(capsys, "templates", "remove", "night_mill/0", "--catalogue", folder, "--yes").code == 0
    newest = open_catalogue(folder).id
    more = write(
        tmp_path / "more.jsonl", [row | {"event_id": f"m-{i}"} for i, row in enumerate(rows(fill(QUILL, 9, 7)))]
    )
    ran = Ran(capsys, "label", traffic, *(() if killed else (more,)), "--out", run, "--catalogue", folder)
    assert ran.code == 0
    said = f"catalogue {folder}: the run goes on with version {begun}, which it was begun with; for {newest}, choose"
    assert said in ran.err
    assert json.loads((run / "run.json").read_text())["catalogue_id"] == begun
    if killed:
        assert (run / "accounts.parquet").read_bytes() == expected
    else:
        added = [row["template_id"] for row in labels_of(run).to_pylist() if row["event_id"].startswith("m-")]
        assert added == ["night_mill/0"] * 9
    assert label(capsys, traffic, run, "--catalogue", folder, "--fresh").code == 0
    assert json.loads((run / "run.json").read_text())["catalogue_id"] == newest
    assert labels_of(run)["template_id"].null_count == 152


def test_score_says_what_label_says(capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path) -> None:
    prompts = [*fill(QUILL, 3, seed=9), *ASKS[:2]]
    file = write(tmp_path / "few.jsonl", [row | {"event_id": str(i)} for i, row in enumerate(rows(prompts))])
    assert label(capsys, file, tmp_path / "run", "--catalogue", catalogue).code == 0
    labelled = {row["event_id"]: row for row in labels_of(tmp_path / "run").to_pylist()}
    for i, prompt in enumerate(prompts):
        found = json.loads(Ran(capsys, "score", prompt, "--json", "--catalogue", catalogue).out)
        row, said = labelled[str(i)], found["prompt"]
        assert found["catalogue_id"] == open_catalogue(catalogue).id and said["capability"] == row["capability"]
        numbers = [said["p_extraction"], *(said["probabilities"][name] for name in CAPABILITIES)]
        expected = [row["p_extraction"], *(row[f"p_{name}"] for name in CAPABILITIES)]
        assert numbers == pytest.approx(expected, abs=1e-5)
        assert (said["template"] is not None) is (i < 3)
        if said["template"] is not None:
            names = {"id": "template_id", "family": "template_family", "technique": "technique"}
            spans = {"start": "match_start", "end": "match_end"}
            for name, column in (names | spans).items():
                assert said["template"][name] == row[column]
            for name in ("similarity", "coverage"):
                assert said["template"][name] == pytest.approx(row[name], abs=1e-5)
            assert prompt[row["match_start"] : row["match_end"]].startswith("Here is a scrap of workshop")


def test_vectors_of_another_encoder_are_left_out_with_a_word(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path
) -> None:
    add_entries(tmp_path / "other", open_catalogue(catalogue).entries, "f" * 16, None)
    (prompt,) = fill(QUILL, 1, seed=9)
    ran = Ran(capsys, "score", prompt, "--json", "--catalogue", tmp_path / "other")
    assert ran.code == 0 and "match by their shingles alone" in ran.err
    template = json.loads(ran.out)["prompt"]["template"]
    assert (template["id"], template["similarity"]) == ("night_mill/0", None) and template["coverage"] > 0.9
    file = write(tmp_path / "few.jsonl", rows([prompt]))
    assert label(capsys, file, tmp_path / "run", "--catalogue", tmp_path / "other").err == ""
    assert labels_of(tmp_path / "run")["similarity"].to_pylist() == [None]
    other = write(tmp_path / "other.jsonl", rows(fill(BELLOWS, 20, seed=2)))
    for more in ((), ("--dry-run",)):
        refused = Ran(
            capsys,
            "templates",
            "add",
            "--from",
            other,
            "--family",
            "shed",
            "--yes",
            "--catalogue",
            tmp_path / "other",
            *more,
        )
        assert (
            refused.code == 4 and "made with another encoder than this bundle's; give the --bundle" in refused.sentence
        )


@pytest.mark.parametrize("damage", ["missing", "cut", "altered", "newer"])
def test_4_is_a_catalogue_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], catalogue: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "local"
    add_entries(folder, open_catalogue(catalogue).entries, open_catalogue(catalogue).encoder, None)
    index = (folder / INDEX).read_text()
    changed = {
        "missing": None,
        "cut": index[:200],
        "altered": index.replace("night_mill", "night_mull"),
        "newer": index.replace('"format_version": 1', '"format_version": 2'),
    }[damage]
    (folder / INDEX).unlink() if changed is None else (folder / INDEX).write_text(changed)
    file = write(tmp_path / "few.jsonl", records(3))
    for arguments in (
        ["label", file, "--out", tmp_path / "run"],
        ["score", "hello"],
        ["templates", "list"],
        ["templates", "check"],
    ):
        ran = Ran(capsys, *arguments, "--catalogue", folder)
        assert ran.code == 4 and ran.sentence.startswith(f"catalogue {folder}: ")
    assert not (tmp_path / "run").exists()


def test_an_application_of_one_s_own_is_excused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    desk = (
        "You look after parcels at a tile depot. Quote the shelf plan, and hand over to the foreman.\n{a}\nVisitor: {b}"
    )
    file = write(tmp_path / "desk.jsonl", rows(fill(desk, 20, seed=1)))
    facts = ("--family", "tile_depot", "--tier", "benign", "--catalogue", tmp_path / "local", "--yes")
    assert Ran(capsys, "templates", "add", "--from", file, *facts).code == 0
    later = write(tmp_path / "later.jsonl", rows([*fill(desk, 10, seed=2), *ASKS]))
    assert label(capsys, later, tmp_path / "run", "--catalogue", tmp_path / "local").code == 0
    labels = labels_of(tmp_path / "run")
    assert labels["benign_app"].to_pylist() == ["tile_depot"] * 10 + [None] * len(ASKS)
    assert labels["template_id"].null_count == 10 + len(ASKS)


# --- worker processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forks", [workers._FORKS, False])
def test_worker_processes_have_the_catalogue(catalogue: Path, monkeypatch: pytest.MonkeyPatch, forks: bool) -> None:
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr(workers, "_FORKS", forks)
    pipeline, batch = Pipeline.load(default_bundle_dir(), catalogue=catalogue), forged_events()
    pool = workers.Workers(pipeline, 2)
    pool.start_for(batch.num_rows)
    (apart,) = pool.label(batch)
    pool.shutdown()
    assert apart.labels["template_id"].to_pylist() == ["night_mill/0"] * batch.num_rows
    assert apart.labels.equals(pipeline.label(batch).labels)


def test_worker_processes_load_the_version_of_the_run(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_loaded", list[Any]())
    known = open_catalogue(catalogue)
    first = add_entries(tmp_path / "local", known.entries, known.encoder, None)
    pipeline = Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")
    assert remove_entry(tmp_path / "local", "night_mill/0", first.id).entries == ()
    started = list[tuple[Any, ...]]()
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda n, context, load, given: started.append(given))
    workers.Workers(pipeline, 2)._spawned()
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    workers._load(*started[0])
    (loaded,) = workers._loaded
    assert isinstance(loaded, Pipeline) and loaded.catalogue_id == first.id
    assert loaded.label(forged_events()).labels["template_id"].to_pylist() == ["night_mill/0"] * 8


def test_a_bundle_that_is_replaced_during_a_run_stops_it(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(default_bundle_dir(), catalogue=catalogue)
    monkeypatch.setattr(workers, "_loaded", [pipeline])
    packed = workers._pack(events(3))
    workers._label(pipeline.bundle_id, packed)
    with pytest.raises(BundleError, match=f"bundle {'0' * 16}: was replaced by {pipeline.bundle_id} during"):
        workers._label("0" * 16, packed)


def forged_events() -> Any:
    import pyarrow as pa

    from classifier.types import EVENT_SCHEMA

    sent = [{"event_id": str(i), "timestamp": i, **row} for i, row in enumerate(rows(fill(QUILL, 8, seed=9)))]
    return pa.RecordBatch.from_pylist(sent, EVENT_SCHEMA)
