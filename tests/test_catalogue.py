"""classifier/catalogue.py: what is written comes back, versions are whole, and what is damaged is refused."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from classifier.bundle import default_bundle_dir, identify
from classifier.catalogue import (
    Catalogue,
    Entry,
    Origin,
    add_entries,
    has_version,
    open_catalogue,
    remove_entry,
)
from classifier.catalogue_folder import INDEX, VERSION, check_room
from classifier.encoder import l2_normalise
from classifier.errors import BundleError, OutputError, UsageError
from classifier.pipeline import EMPTY_CATALOGUE, Pipeline
from classifier.signatures import Facts, Signature
from classifier.types import Tier

ROOT = Path(__file__).resolve().parents[1]
ENCODER = "e" * 16


def entry(name: str, *, seed: int = 0, shingles: int = 9, vectors: int = 2, width: int = 8) -> Entry:
    rng = np.random.default_rng(seed)
    facts = Facts(f"{name}/0", name, "task_synthesis", "coding", Tier.PUBLIC, 5, 0.03)
    signature = Signature(
        facts,
        rng.integers(0, 2**63, shingles).astype(np.uint64),
        l2_normalise(rng.normal(size=(vectors, width)).astype(np.float32)),
    )
    return Entry(signature, Origin("2026-05-01T12:00:00+00:00", "Ada: asked for by the desk", 30, 4))


def of_facts(**changes: Any) -> Entry:
    made = entry("grade", seed=2)
    return replace(made, signature=replace(made.signature, facts=replace(made.signature.facts, **changes)))


def added(folder: Path, *entries: Entry, encoder: str = ENCODER) -> Catalogue:
    """Entries on top of what is there."""
    onto = open_catalogue(folder).id if (folder / INDEX).exists() else None
    return add_entries(folder, entries, encoder, onto)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    added(tmp_path / "local", entry("forge", seed=1))
    return tmp_path / "local"


def assert_same(one: Entry, other: Entry) -> None:
    assert (one.signature.facts, one.origin) == (other.signature.facts, other.origin)
    np.testing.assert_array_equal(one.signature.shingles, other.signature.shingles)
    np.testing.assert_array_equal(one.signature.vectors, other.signature.vectors)


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as refused:
        open_catalogue(folder)
    said = str(refused.value)
    assert said.startswith(f"catalogue {folder}: ") and said.endswith(".") and "\n" not in said
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".lock")}


def tensors(folder: Path) -> Path:
    (path,) = folder.glob("signatures-*.safetensors")
    return path


def forge(folder: Path, **changes: Any) -> None:
    """Change the index and give it the id of what it then holds."""
    document = json.loads((folder / INDEX).read_text())
    del document["catalogue_id"]
    content = document | changes
    (folder / INDEX).write_text(json.dumps({"catalogue_id": identify(content), **content}))


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_what_is_added_comes_back(folder: Path) -> None:
    first = open_catalogue(folder)
    written = added(folder, entry("grade", seed=2), entry("clerk", seed=3, vectors=0))
    read = open_catalogue(folder)
    assert (read.id, read.encoder, read.path) == (written.id, ENCODER, folder) and read.id != first.id
    expected = [entry("forge", seed=1), entry("grade", seed=2), entry("clerk", seed=3, vectors=0)]
    for one, other in zip(read.entries, expected, strict=True):
        assert_same(one, other)


def test_a_version_is_two_files_and_the_index_says_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    written = added(folder, entry("forge", seed=1), entry("grade", seed=2))
    assert set(files(folder)) == {INDEX, VERSION.format(written.id), tensors(folder).name}
    assert files(folder)[INDEX] == files(folder)[VERSION.format(written.id)]
    document = json.loads((folder / INDEX).read_text())
    assert document["files"] == {
        tensors(folder).name: {
            "sha256": hashlib.sha256(tensors(folder).read_bytes()).hexdigest(),
            "size": tensors(folder).stat().st_size,
        }
    }
    assert (document["format_version"], document["encoder"], document["shingle_words"]) == (1, ENCODER, 3)
    assert document["signatures"][1] == {
        "id": "grade/0",
        "family": "grade",
        "technique": "task_synthesis",
        "target": "coding",
        "tier": "public",
        "min_hits": 5,
        "min_coverage": 0.03,
        "since": "2026-05-01T12:00:00+00:00",
        "note": "Ada: asked for by the desk",
        "n_samples": 30,
        "n_accounts": 4,
        "n_certified": 0,
    }


def test_equal_content_has_an_equal_id(folder: Path, tmp_path: Path) -> None:
    again = added(tmp_path / "again", entry("forge", seed=1))
    other = added(tmp_path / "other", entry("forge", seed=2))
    assert again.id == open_catalogue(folder).id != other.id


def test_another_encoder_s_vectors_are_left_out_and_none_are_added(folder: Path) -> None:
    known = open_catalogue(folder)
    assert known.made_with(ENCODER) and known.fitted(ENCODER) is known
    assert not known.made_with("f" * 16)
    (bare,) = known.fitted("f" * 16).entries
    assert_same(bare, replace(entry("forge", seed=1), signature=replace(bare.signature, vectors=np.empty((0, 8)))))
    before = files(folder)
    with pytest.raises(BundleError, match="its vectors were made with another encoder than this bundle's; give the"):
        added(folder, entry("grade", seed=2), encoder="f" * 16)
    assert files(folder) == before


# --- versions are whole -----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_catalogue import added, entry
replace = Path.replace
def killed(self, target):
    if Path(target).name.startswith({at!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killed
added(Path({folder!r}), entry("grade", seed=2))
"""


@pytest.mark.parametrize("at", ["signatures-", "catalogue-", INDEX])
def test_a_writer_that_is_killed_leaves_the_old_catalogue_whole(folder: Path, at: str) -> None:
    before = files(folder)
    code = KILLED.format(root=str(ROOT), at=at, folder=str(folder))
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    left = files(folder)
    assert {name: left[name] for name in before} == before and len(left) > len(before)
    assert_same(*open_catalogue(folder).entries, entry("forge", seed=1))
    added(folder, entry("clerk", seed=3))
    assert [one.signature.facts.family for one in open_catalogue(folder).entries] == ["forge", "clerk"]
    assert not list(folder.glob(".*.tmp"))


def test_every_version_is_kept(folder: Path) -> None:
    first = open_catalogue(folder)
    second = added(folder, entry("grade", seed=2))
    third = remove_entry(folder, "forge/0", second.id)
    assert len({first.id, second.id, third.id}) == 3 and open_catalogue(folder).id == third.id
    for known, names in ((first, ["forge"]), (second, ["forge", "grade"]), (third, ["grade"])):
        found = open_catalogue(folder, known.id)
        assert has_version(folder, known.id) and found.id == known.id
        assert [one.signature.facts.family for one in found.entries] == names
    assert_same(open_catalogue(folder, first.id).entries[0], entry("forge", seed=1))
    for name in ("0" * 16, "../" + first.id, ""):
        assert not has_version(folder, name)
        with pytest.raises(BundleError, match=r"cannot be read|is no id of a version"):
            open_catalogue(folder, name)


def test_a_version_under_another_s_name_is_refused(folder: Path) -> None:
    first = open_catalogue(folder).id
    second = added(folder, entry("grade", seed=2)).id
    (folder / VERSION.format(second)).replace(folder / VERSION.format(first))
    with pytest.raises(BundleError, match=f"holds version {second}"):
        open_catalogue(folder, first)


def test_all_can_be_removed(folder: Path) -> None:
    before = open_catalogue(folder).id
    with pytest.raises(UsageError, match="holds no signature forge/1"):
        remove_entry(folder, "forge/1", before)
    empty = remove_entry(folder, "forge/0", before)
    assert open_catalogue(folder).entries == () and open_catalogue(folder).id == empty.id
    assert added(folder, entry("forge", seed=1)).id == before  # equal content


def test_what_was_checked_beside_another_version_is_not_added(folder: Path) -> None:
    first = open_catalogue(folder).id
    second = added(folder, entry("grade", seed=2)).id
    for onto in (first, None):
        with pytest.raises(OutputError, match=f"was changed meanwhile, from version {onto} to {second}"):
            add_entries(folder, [entry("clerk", seed=3)], ENCODER, onto)
    with pytest.raises(OutputError, match="was changed meanwhile"):
        remove_entry(folder, "forge/0", first)
    assert open_catalogue(folder).id == second


def test_readers_without_a_lock_always_see_a_whole_one(folder: Path) -> None:
    ids, seen, done = {open_catalogue(folder).id}, set[tuple[str, int]](), threading.Event()

    def read() -> None:
        while not done.is_set():
            found = open_catalogue(folder)
            seen.add((found.id, len(found.entries)))

    reader = threading.Thread(target=read)
    reader.start()
    sizes = {next(iter(ids)): 1}
    for i in range(25):
        written = added(folder, entry(f"family-{i}", seed=i + 10))
        sizes[written.id] = i + 2
    done.set()
    reader.join()
    assert seen and all(sizes[name] == n for name, n in seen)


def test_one_writer_at_a_time(folder: Path) -> None:
    before = files(folder)
    with (folder / ".lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(OutputError, match="another probewatch is changing it"):
            added(folder, entry("grade"))
        assert files(folder) == before and len(open_catalogue(folder).entries) == 1


def test_a_first_writer_that_is_killed_leaves_room_for_the_next(tmp_path: Path) -> None:
    code = KILLED.format(root=str(ROOT), at=INDEX, folder=str(tmp_path / "local"))
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    check_room(tmp_path / "local")
    added(tmp_path / "local", entry("clerk", seed=3))
    assert [one.signature.facts.family for one in open_catalogue(tmp_path / "local").entries] == ["clerk"]


def test_nothing_is_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    for name in (".catalogue.json.tmp", f".{tensors(folder).name}.tmp"):
        (folder / name).symlink_to(letter)  # names that could be foreseen
    (folder / INDEX).rename(folder / "kept.json")
    (folder / INDEX).symlink_to("kept.json")
    added(folder, entry("grade", seed=2))
    assert not (folder / INDEX).is_symlink() and len(json.loads((folder / "kept.json").read_text())["signatures"]) == 1
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(letter)
    with pytest.raises(OutputError, match=r"cannot be written \(Too many levels of symbolic links\)"):
        added(folder, entry("clerk", seed=3))
    assert letter.read_text() == "dear"


def test_names_are_on_the_disk_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[bool]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    added(folder, entry("grade", seed=2))
    assert synced == [False, True] * 3  # of three files, each: what it holds, then its name


def test_the_lock_is_not_emptied(folder: Path) -> None:
    (folder / ".lock").write_text("held by hand")
    added(folder, entry("grade", seed=2))
    assert (folder / ".lock").read_text() == "held by hand"


def test_only_what_is_ours_is_swept(folder: Path) -> None:
    ours = f".catalogue.json.{'0' * 16}.tmp"
    theirs = ("signatures-of-ada.safetensors", ".draft.tmp", ".catalogue.json.tmp", "letter.txt")
    for name in (ours, *theirs):
        (folder / name).write_text("dear")
    added(folder, entry("grade", seed=2))
    assert not (folder / ours).exists() and [(folder / name).read_text() for name in theirs] == ["dear"] * 4


@pytest.mark.parametrize("name", ["signatures-of-ada.safetensors", ".profile", ".draft.tmp", "letter.txt"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("dear")
    with pytest.raises(OutputError, match="holds files and is no catalogue"):
        check_room(tmp_path)
    with pytest.raises(OutputError, match="holds files and is no catalogue"):
        added(tmp_path, entry("grade"))
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "dear"


def test_an_exclusive_signature_keeps_what_it_was_certified_on_and_when_it_was_approved(tmp_path: Path) -> None:
    known = of_facts(tier=Tier.EXCLUSIVE)
    certified = replace(known, origin=replace(known.origin, since="2026-05-01T14:00:00.25+02:00", n_certified=20))
    written = added(tmp_path / "local", certified, entry("forge", seed=1))
    found = open_catalogue(tmp_path / "local")
    assert [one.origin for one in found.exclusive] == [one.origin for one in written.exclusive] == [certified.origin]
    assert [one.origin.since_us for one in found.exclusive] == [1_777_636_800_250_000]


def test_a_catalogue_of_before_there_were_exclusive_signatures_is_read(folder: Path) -> None:
    (row,) = json.loads((folder / INDEX).read_text())["signatures"]
    forge(folder, signatures=[{name: value for name, value in row.items() if name != "n_certified"}])
    (found,) = open_catalogue(folder).entries
    assert found.origin.n_certified == 0


def test_what_cannot_be_added_to_is_left_alone(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    with pytest.raises(UsageError, match="holds a signature forge/0 already"):
        added(folder, entry("grade", seed=2), entry("forge", seed=5))
    assert files(folder) == before
    with pytest.raises(UsageError, match="holds a signature grade/0 already"):
        added(folder, entry("grade", seed=2), entry("grade", seed=5))
    with pytest.raises(UsageError, match="grade/0 is exclusive, but was certified on no ordinary account; make it"):
        added(folder, of_facts(tier=Tier.EXCLUSIVE))
    assert files(folder) == before
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be written"):
            added(place, entry("grade"))
        with pytest.raises(OutputError, match=r"cannot be written \(Not a directory\)"):
            check_room(place)
    check_room(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_missing_catalogue_is_refused(folder: Path, tmp_path: Path) -> None:
    assert f"{INDEX} cannot be read (No such file or directory)" in refusal(tmp_path / "nowhere")
    name = tensors(folder).name
    tensors(folder).unlink()
    assert f"{name}, which {INDEX} lists, is missing" in refusal(folder)


def test_a_catalogue_cut_short_is_refused(folder: Path) -> None:
    whole = (folder / INDEX).read_bytes()
    for raw in (b"", whole[: len(whole) // 2], b"[]", b"[" * 100_000):
        (folder / INDEX).write_bytes(raw)
        assert "is not valid JSON" in refusal(folder) or "holds no object" in refusal(folder)
    (folder / INDEX).write_bytes(whole)
    path = tensors(folder)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path.name} was altered" in refusal(folder)


def test_an_altered_catalogue_is_refused(folder: Path) -> None:
    whole = (folder / INDEX).read_text()
    (folder / INDEX).write_text(whole.replace('"public"', '"exclusive"'))
    assert f"{INDEX} was altered: its id is" in refusal(folder)
    (folder / INDEX).write_text(whole)
    path = tensors(folder)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert f"{path.name} was altered" in refusal(folder)


def test_a_newer_version_is_refused(folder: Path) -> None:
    forge(folder, format_version=2)
    assert "its format version is 2, expected 1" in refusal(folder)
    forge(folder, format_version=1, shingle_words=4)
    assert "its shingles are of 4 words, expected 3" in refusal(folder)


def test_an_id_twice_and_files_that_do_not_fit_are_refused(folder: Path) -> None:
    (row,) = json.loads((folder / INDEX).read_text())["signatures"]
    forge(folder, signatures=[row, row])
    assert "it holds the signature forge/0 more than once" in refusal(folder)
    forge(folder, signatures=[row, row | {"id": "forge/1"}])
    assert "do not fit together" in refusal(folder)
    forge(folder, signatures=[{name: value for name, value in row.items() if name != "note"}])
    assert "'note'" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_hits": 0}, "no positive number of hits"),
        ({"min_hits": True}, "no positive number of hits"),
        ({"min_hits": 2**31}, "no positive number of hits"),
        ({"min_hits": 5.0}, "no positive number of hits"),
        ({"min_coverage": 0}, "no coverage above 0"),
        ({"min_coverage": 1.5}, "no coverage above 0"),
        ({"min_coverage": True}, "no coverage above 0"),
        ({"min_coverage": "0.5"}, "no coverage above 0"),
        ({"target": "cooking"}, "aims at what is none of coding"),
        ({"target": ["coding"]}, "aims at what is none of coding"),
        ({"tier": "holy"}, "'holy' is not a valid Tier"),
        ({"tier": "exclusive"}, "forge/0 is exclusive, but was certified on no ordinary account"),
        ({"family": "Forge"}, "a signature's family is no name"),
        ({"family": None}, "a signature's family is no name"),
        ({"technique": "\u001b[2J"}, "a signature's technique is no name"),
        ({"technique": 7}, "a signature's technique is no name"),
        ({"id": "grade/0"}, "grade/0 is not numbered within its family forge"),
        ({"id": "forge/x"}, "forge/x is not numbered within its family forge"),
        ({"id": "forge"}, "forge is not numbered within its family forge"),
        ({"since": "yesterday"}, "yesterday"),
        ({"since": 5}, "must be str"),
        ({"since": "2026-05-01T12:00:00"}, "origin of signature forge/0 has a time without a zone"),
        ({"note": 5}, "origin of signature forge/0 is no note and counts"),
        ({"n_samples": True}, "origin of signature forge/0 is no note and counts"),
        ({"n_certified": -1}, "origin of signature forge/0 is no note and counts"),
        ({"n_certified": "20", "tier": "exclusive"}, "str"),
    ],
)
def test_hostile_facts_are_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    (row,) = json.loads((folder / INDEX).read_text())["signatures"]
    forge(folder, signatures=[row | change])
    assert said in refusal(folder)


def test_a_file_list_that_leads_elsewhere_is_refused(folder: Path) -> None:
    name, sha256 = tensors(folder).name, hashlib.sha256(tensors(folder).read_bytes()).hexdigest()
    size = tensors(folder).stat().st_size
    for files_listed, said in (
        ({"../else.safetensors": {"sha256": "0" * 64, "size": 1}}, "it lists the file '../else.safetensors'"),
        ({"signatures-/../../etc/.safetensors": {"sha256": "/../../etc/", "size": 1}}, "it lists the file"),
        ({name: {"sha256": sha256[:16], "size": size}}, "it lists the file"),
        ({name: {"sha256": sha256, "size": size + 1}}, f"was altered: it has {size:,} bytes, expected {size + 1}"),
        ({name: {"sha256": sha256, "size": "all"}}, "was altered"),
        ({name: {"sha256": sha256[:16] + "0" * 48, "size": size}}, "its sha256 is not the one listed"),
        ({}, "it is not as expected"),
        (["x"], "it is not as expected"),
    ):
        forge(folder, files=files_listed)
        assert said in refusal(folder)
    forge(folder, encoder="../" * 5)
    assert "it is not as expected" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"shingles": np.array([], np.uint64), "offsets": np.array([0, 0])},
        {"shingles": np.array([7, 7, 8], np.uint64), "offsets": np.array([0, 3])},
        {"shingles": np.array([7, 8], np.int64), "offsets": np.array([0, 2])},
        {"shingles": np.array([[7, 8]], np.uint64), "offsets": np.array([0, 1])},
        {"offsets": np.array([0, 90])},
        {"offsets": np.array([-1, 9])},
        {"offsets": np.array([0, 9], np.int32)},
        {"offsets": np.array([[0], [9]])},
        {"owners": np.array([0, 1])},
        {"owners": np.array([-1, 0])},
        {"owners": np.array([0, 0], np.float64)},
        {"owners": np.array([[0, 0]])},
        {"vectors": np.full((2, 8), np.nan, np.float32)},
        {"vectors": np.full((2, 8), np.inf, np.float32)},
        {"vectors": np.zeros((2, 8), np.float32)},
        {"vectors": np.full((2, 8), 2, np.float32)},
        {"vectors": np.eye(8)[:2]},
    ],
)
def test_hostile_tensors_are_refused(folder: Path, change: dict[str, Any]) -> None:
    raw = save(load(tensors(folder).read_bytes()) | change)
    sha256 = hashlib.sha256(raw).hexdigest()
    name = f"signatures-{sha256[:16]}.safetensors"
    (folder / name).write_bytes(raw)
    forge(folder, files={name: {"sha256": sha256, "size": len(raw)}})
    said = refusal(folder)
    assert "do not fit together" in said or "forge/0 has no shingles, or one of them twice" in said


# --- over a bundle ----------------------------------------------------------------------------------------------------


def test_a_pipeline_without_a_catalogue_names_none() -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    assert pipeline.catalogue is None and pipeline.catalogue_id == EMPTY_CATALOGUE == "none"


def test_a_pipeline_has_the_signatures_of_both(tmp_path: Path) -> None:
    alone = Pipeline.load(default_bundle_dir())
    written = added(
        tmp_path / "local", entry("forge", width=alone.labeler.encoder.dimensions), encoder=alone.encoder_digest
    )
    both = Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")
    assert (both.catalogue_id, both.bundle_id) == (written.id, alone.bundle_id)
    known, layered = alone.labeler.templates.signatures, both.labeler.templates.signatures
    assert [one.facts for one in layered] == [*(one.facts for one in known), entry("forge").signature.facts]
    assert both.labeler.templates.vectors.flat.ntotal == alone.labeler.templates.vectors.flat.ntotal + 2
    assert both.n_families == alone.n_families + 1


def test_a_signature_that_the_bundle_has_is_refused(tmp_path: Path) -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    family = pipeline.labeler.templates.signatures[0].facts.family
    added(tmp_path / "local", entry(family, width=pipeline.labeler.encoder.dimensions), encoder=pipeline.encoder_digest)
    with pytest.raises(
        BundleError, match=f"catalogue {tmp_path / 'local'}: has a signature {family}/0, and so has the"
    ):
        Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")


def test_vectors_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    digest = Pipeline.load(default_bundle_dir()).encoder_digest
    added(tmp_path / "local", entry("forge", width=8), encoder=digest)
    with pytest.raises(BundleError, match=f"catalogue {tmp_path / 'local'}: its vectors have other dimensions"):
        Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")
