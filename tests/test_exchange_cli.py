"""`probewatch templates export` and `import`: the real commands, from one laboratory's catalogue to another's."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.bundle import default_bundle_dir
from classifier.catalogue import Entry, Origin, add_entries, open_catalogue
from classifier.catalogue_folder import INDEX
from classifier.exchange import SharedSignature, open_exchange, pack
from classifier.pipeline import Pipeline
from classifier.signatures import Signature
from classifier.text import normalise_text
from classifier.types import Tier
from service import cli, exits
from tests.command import Ran
from tests.forgeries import ASKS, BELLOWS, QUILL, fill, rows
from tests.runs import write
from tests.test_template_cli import NOTE, adding


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A laboratory's catalogue of two families."""
    folder = tmp_path_factory.mktemp("lab")
    quill = write(folder / "quill.jsonl", rows(fill(QUILL, 30, seed=1)))
    bellows = write(folder / "bellows.jsonl", rows(fill(BELLOWS, 30, seed=2)))
    shed = ("templates", "add", "--from", bellows, "--family", "shed", "--catalogue", folder / "local", "--yes")
    for arguments in (adding(quill, folder / "local"), shed):
        assert exits.run_app(cli.app, [str(part) for part in arguments]) == 0
    return folder / "local"


@pytest.fixture(scope="module")
def file(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sent") / "two.safetensors"
    assert exits.run_app(cli.app, ["templates", "export", "--catalogue", str(lab), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def forge(lab: Path) -> Signature:
    return open_catalogue(lab).entries[0].signature


def packed(path: Path, encoder: str, *signatures: Signature) -> Path:
    path.write_bytes(pack([SharedSignature(one, 30, 4) for one in signatures], encoder))
    return path


def importing(file: Path, folder: Path, *more: object) -> tuple[object, ...]:
    return ("templates", "import", file, "--catalogue", folder, "--yes", *more)


def of_facts(signature: Signature, **changes: Any) -> Signature:
    return replace(signature, facts=replace(signature.facts, **changes))


# --- there and back ---------------------------------------------------------------------------------------------------


def test_what_is_exported_is_imported_elsewhere_and_matches_later_uses(
    capsys: pytest.CaptureFixture[str], lab: Path, file: Path, tmp_path: Path
) -> None:
    ran = Ran(capsys, *importing(file, tmp_path / "ours", "--note", "from the desk next door"))
    assert (ran.code, ran.err) == (0, "")
    lines = " ".join(ran.out.replace("\u00a0", " ").split())
    for said in (
        "signature night_mill/0 tier public technique task synthesis aims at coding constant 43 runs of three words "
        "matches at 6 of them, and 3 % in order vectors 1 made from 30 samples of 4 accounts ordinary traffic 0 % of "
        "1,276 prompts of 35 accounts match it worst account 0 % of its prompts match it",
        "signature shed/0 tier public technique none",
    ):
        assert said in lines
    ours, theirs = open_catalogue(tmp_path / "ours"), open_catalogue(lab)
    for one, other in zip(ours.entries, theirs.entries, strict=True):
        assert one.signature.facts == other.signature.facts
        np.testing.assert_array_equal(one.signature.shingles, other.signature.shingles)
        np.testing.assert_array_equal(one.signature.vectors, other.signature.vectors)
        assert one.origin.note == f"exchange {open_exchange(file).id}: from the desk next door"
        assert (one.origin.n_samples, one.origin.n_accounts) == (other.origin.n_samples, other.origin.n_accounts)
    labeler = Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "ours").labeler
    later = [normalise_text(text) for text in (*fill(QUILL, 50, seed=9), *fill(BELLOWS, 50, seed=9), *ASKS)]
    found = labeler.templates.match(labeler.encoder.encode(later)).index - len(labeler.templates.signatures)
    assert (
        found.tolist()[:100] == [-2] * 50 + [-1] * 50
        and (labeler.templates.match(labeler.encoder.encode(later[100:])).index == -1).all()
    )


def test_notes_stay_at_home(file: Path) -> None:
    raw = file.read_bytes()
    assert NOTE.encode() not in raw and b"Ada" not in raw and b"night_mill" in raw


def test_ids_choose_what_is_sent_and_what_is_taken(
    capsys: pytest.CaptureFixture[str], lab: Path, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "one.safetensors"
    ran = Ran(capsys, "templates", "export", "shed/0", "--catalogue", lab, "--out", out)
    assert (ran.code, ran.out) == (0, f"{out}: 1 signature of catalogue {open_catalogue(lab).id}, no text.\n")
    assert [one.signature.facts.id for one in open_exchange(out).shared] == ["shed/0"]
    assert Ran(capsys, "templates", "import", file, "night_mill/0", "--catalogue", tmp_path / "b", "--yes").code == 0
    assert [entry.signature.facts.id for entry in open_catalogue(tmp_path / "b").entries] == ["night_mill/0"]


def test_a_dry_run_writes_nothing_and_without_a_terminal_nothing_is_asked(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = Ran(capsys, "templates", "import", file, "--catalogue", tmp_path / "ours", "--dry-run")
    assert ran.code == 0 and ran.out.endswith("\nNothing was added (--dry-run).\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    ran = Ran(capsys, "templates", "import", file, "--catalogue", tmp_path / "ours")
    assert ran.code == 2 and ran.sentence.startswith("There is no terminal to confirm on")
    assert not (tmp_path / "ours").exists()


def test_another_encoder_s_vectors_are_left_out(
    capsys: pytest.CaptureFixture[str], forge: Signature, tmp_path: Path
) -> None:
    file = packed(tmp_path / "file", "f" * 16, forge)
    ran = Ran(capsys, *importing(file, tmp_path / "ours"))
    assert ran.code == 0 and "Vectors are left out: another encoder than this bundle's made them." in ran.out
    (entry,) = open_catalogue(tmp_path / "ours").entries
    assert len(entry.signature.vectors) == 0 and len(entry.signature.shingles) == 43


def test_thresholds_are_raised_above_ordinary_traffic(
    capsys: pytest.CaptureFixture[str], pipeline: Pipeline, forge: Signature, tmp_path: Path
) -> None:
    quoted = (
        "They asked me to invent one repair task that only somebody who studied the scrap could solve, and that is odd."
    )
    ordinary = write(tmp_path / "ordinary.jsonl", rows([quoted], accounts=1))
    file = packed(tmp_path / "file", pipeline.encoder_digest, of_facts(forge, min_hits=30))
    assert Ran(capsys, *importing(file, tmp_path / "a", "--against", ordinary)).code == 0
    assert open_catalogue(tmp_path / "a").entries[0].signature.facts.min_hits == 30
    file = packed(tmp_path / "file", pipeline.encoder_digest, of_facts(forge, min_hits=4))
    assert Ran(capsys, *importing(file, tmp_path / "b", "--against", ordinary)).code == 0
    assert open_catalogue(tmp_path / "b").entries[0].signature.facts.min_hits == 13  # the sentence holds 11 runs


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["shed/7"], 2, "shed/7: is no signature of catalogue"),
        (["--catalogue", "nowhere"], 4, "catalogue.json cannot be read"),
        (["--out", "taken"], 5, "taken: is there already and is left alone; name another file with --out"),
        (["--out", "none/file"], 5, "none/file: cannot be written (No such file or directory)"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    capsys: pytest.CaptureFixture[str],
    lab: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("dear")
    ran = Ran(capsys, "templates", "export", "--catalogue", lab, "--out", "file", *arguments)
    assert ran.code == code and said in ran.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["taken"] and (tmp_path / "taken").read_text() == "dear"


def test_an_empty_catalogue_has_nothing_to_export(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    add_entries(tmp_path / "local", [], "e" * 16, None)
    ran = Ran(capsys, "templates", "export", "--catalogue", tmp_path / "local", "--out", tmp_path / "file")
    assert ran.code == 2 and "holds no signatures to export" in ran.sentence


def refused(capsys: pytest.CaptureFixture[str], file: Path, folder: Path, *more: object, code: int = 3) -> str:
    before = (folder / INDEX).read_bytes() if folder.exists() else b""
    ran = Ran(capsys, *importing(file, folder, *more))
    assert ran.code == code and ((folder / INDEX).read_bytes() if folder.exists() else b"") == before
    return ran.sentence


def test_a_signature_that_matches_ordinary_traffic_is_refused_with_the_figure(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    uses = write(tmp_path / "uses.jsonl", rows(fill(QUILL, 60, seed=3), accounts=1))
    said = refused(capsys, file, tmp_path / "ours", "--against", uses)
    assert "night_mill/0 would match 4.5\u00a0% of 1,336 ordinary prompts: expected less than 1\u00a0%" in said


def test_what_is_known_already_is_refused(capsys: pytest.CaptureFixture[str], file: Path, lab: Path) -> None:
    assert "night_mill/0 is of a family whose name is known already" in refused(capsys, file, lab)
    assert "shed/0 is of a family whose name" in refused(capsys, file, lab, "shed/0")
    assert "night/0: is no signature of" in refused(capsys, file, lab, "night/0", code=2)


def test_what_collides_with_a_known_one_is_refused(
    capsys: pytest.CaptureFixture[str], pipeline: Pipeline, lab: Path, forge: Signature, tmp_path: Path
) -> None:
    half = replace(of_facts(forge, id="dusk/0", family="dusk"), shingles=forge.shingles[10:])
    said = refused(capsys, packed(tmp_path / "file", pipeline.encoder_digest, half), lab)
    assert "dusk/0 shares 100\u00a0% of its runs of three words with night_mill/0" in said


def test_what_this_program_would_never_make_is_refused(
    capsys: pytest.CaptureFixture[str], pipeline: Pipeline, forge: Signature, tmp_path: Path
) -> None:
    encoder, ours = pipeline.encoder_digest, tmp_path / "ours"
    wide = replace(forge, vectors=np.eye(1, 8, dtype=np.float32))
    for odd, said in (
        (of_facts(forge, min_hits=1), "matches at 1 of 43 runs of three words: expected at least 4"),
        (of_facts(forge, min_hits=44), "matches at 44 of 43 runs of three words"),
        (replace(forge, shingles=forge.shingles[:3]), "matches at 6 of 3 runs of three words"),
        (wide, "has vectors of 8 dimensions: expected 128"),
    ):
        assert said in refused(capsys, packed(tmp_path / "file", encoder, odd), ours)


def test_a_damaged_file_is_refused(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(file.read_bytes()[:-100])
    assert "ask for it again" in refused(capsys, tmp_path / "half", tmp_path / "ours")
    assert "cannot be read" in refused(capsys, tmp_path / "nowhere", tmp_path / "ours")


def test_a_catalogue_of_another_encoder_is_not_added_to(
    capsys: pytest.CaptureFixture[str], file: Path, forge: Signature, tmp_path: Path
) -> None:
    origin = Origin("2026-05-01T12:00:00+00:00", "", 30, 4)
    add_entries(tmp_path / "old", [Entry(of_facts(forge, id="old/0", family="old"), origin)], "f" * 16, None)
    assert "made with another encoder than this bundle's" in refused(capsys, file, tmp_path / "old", code=4)


def test_applications_need_no_certificate(
    capsys: pytest.CaptureFixture[str], pipeline: Pipeline, forge: Signature, tmp_path: Path
) -> None:
    """With --tier exclusive what is to flag is certified, and here nothing is."""
    benign = of_facts(forge, tier=Tier.BENIGN, technique=None, target=None)
    file = packed(tmp_path / "file", pipeline.encoder_digest, benign)
    against = write(tmp_path / "few.jsonl", rows([*ASKS]))
    ran = Ran(capsys, *importing(file, tmp_path / "ours", "--tier", "exclusive", "--against", against))
    assert ran.code == 0 and "Certified" not in ran.out
    (entry,) = open_catalogue(tmp_path / "ours").entries
    assert (entry.signature.facts.tier, entry.origin.n_certified) == (Tier.BENIGN, 0)
