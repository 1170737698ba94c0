"""classifier/catalogue.py: what is written comes back, versions are whole, and what is damaged is refused."""

from __future__ import annotations

import fcntl
import hashlib
import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import catalogue as module
from classifier.bundle import default_bundle_dir, identify
from classifier.catalogue import INDEX, Catalogue, Entry, Origin, add_entries, open_catalogue
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
        rng.normal(size=(vectors, width)).astype(np.float32),
    )
    return Entry(signature, Origin("2026-05-01T12:00:00+00:00", "Ada: asked for by the desk", 30, 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_entries(tmp_path / "local", [entry("forge", seed=1)], ENCODER)
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
    written = add_entries(folder, [entry("grade", seed=2), entry("clerk", seed=3, vectors=0)], ENCODER)
    read = open_catalogue(folder)
    assert (read.id, read.encoder, read.path) == (written.id, ENCODER, folder) and read.id != first.id
    expected = [entry("forge", seed=1), entry("grade", seed=2), entry("clerk", seed=3, vectors=0)]
    for one, other in zip(read.entries, expected, strict=True):
        assert_same(one, other)


def test_there_are_two_files_and_the_index_says_what_they_are(folder: Path) -> None:
    add_entries(folder, [entry("grade", seed=2)], ENCODER)
    assert set(files(folder)) == {INDEX, tensors(folder).name}
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
    }


def test_equal_content_has_an_equal_id(folder: Path, tmp_path: Path) -> None:
    again = add_entries(tmp_path / "again", [entry("forge", seed=1)], ENCODER)
    other = add_entries(tmp_path / "other", [entry("forge", seed=2)], ENCODER)
    assert again.id == open_catalogue(folder).id != other.id


def test_another_encoder_s_vectors_are_left_out(folder: Path) -> None:
    known = open_catalogue(folder)
    assert known.made_with(ENCODER) and known.fitted(ENCODER) == known.entries
    assert not known.made_with("f" * 16)
    (bare,) = known.fitted("f" * 16)
    assert_same(bare, replace(entry("forge", seed=1), signature=replace(bare.signature, vectors=np.empty((0, 8)))))
    added = add_entries(folder, [entry("grade", seed=2, width=16)], "f" * 16)
    read = open_catalogue(folder)
    assert (read.id, read.encoder) == (added.id, "f" * 16)
    assert [one.signature.vectors.shape[0] for one in read.entries] == [0, 2]
    np.testing.assert_array_equal(read.entries[0].signature.shingles, entry("forge", seed=1).signature.shingles)


# --- versions are whole -----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from classifier import catalogue
from tests.test_catalogue import ENCODER, entry
replace = Path.replace
def killed(self, target):
    if Path(target).name.startswith({at!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killed
catalogue.add_entries(Path({folder!r}), [entry("grade", seed=2)], ENCODER)
"""


@pytest.mark.parametrize("at", ["signatures-", INDEX])
def test_a_writer_that_is_killed_leaves_the_old_catalogue_whole(folder: Path, at: str) -> None:
    before = files(folder)
    code = KILLED.format(root=str(ROOT), at=at, folder=str(folder))
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    left = files(folder)
    assert {name: left[name] for name in before} == before and len(left) > len(before)
    assert_same(*open_catalogue(folder).entries, entry("forge", seed=1))
    add_entries(folder, [entry("clerk", seed=3)], ENCODER)
    assert [one.signature.facts.family for one in open_catalogue(folder).entries] == ["forge", "clerk"]
    assert set(files(folder)) == {INDEX, tensors(folder).name}


def test_a_reader_that_is_overtaken_reads_the_newer_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, written = module._parsed, list[Catalogue]()

    def overtaken(where: Path, document: Any) -> Catalogue:
        if not written:
            written.append(add_entries_unpatched(where))
        return parse(where, document)

    def add_entries_unpatched(where: Path) -> Catalogue:
        monkeypatch.setattr(module, "_parsed", parse)
        added = add_entries(where, [entry("grade", seed=2)], ENCODER)
        monkeypatch.setattr(module, "_parsed", overtaken)
        return added

    monkeypatch.setattr(module, "_parsed", overtaken)
    assert open_catalogue(folder).id == written[0].id


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
        written = add_entries(folder, [entry(f"family-{i}", seed=i + 10)], ENCODER)
        sizes[written.id] = i + 2
    done.set()
    reader.join()
    assert seen and all(sizes[name] == n for name, n in seen)


def test_one_writer_at_a_time(folder: Path) -> None:
    before = files(folder)
    with (folder / ".lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(OutputError, match="another probewatch is adding to it"):
            add_entries(folder, [entry("grade")], ENCODER)
        assert files(folder) == before and len(open_catalogue(folder).entries) == 1


def test_what_cannot_be_added_to_is_left_alone(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    with pytest.raises(UsageError, match="holds a signature forge/0 already"):
        add_entries(folder, [entry("grade", seed=2), entry("forge", seed=5)], ENCODER)
    assert files(folder) == before
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds files and is no catalogue"):
        add_entries(tmp_path / "elsewhere", [entry("grade")], ENCODER)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        add_entries(tmp_path / "file", [entry("grade")], ENCODER)


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
    forge(folder, signatures=[row | {"min_hits": 0}])
    assert "no positive thresholds" in refusal(folder)
    forge(folder, signatures=[row], files={"../else.safetensors": {"sha256": "0" * 64, "size": 1}})
    assert "it lists the file '../else.safetensors'" in refusal(folder)


# --- over a bundle ----------------------------------------------------------------------------------------------------


def test_a_pipeline_without_a_catalogue_names_none() -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    assert pipeline.catalogue is None and pipeline.catalogue_id == EMPTY_CATALOGUE == "none"


def test_a_pipeline_has_the_signatures_of_both(tmp_path: Path) -> None:
    alone = Pipeline.load(default_bundle_dir())
    written = add_entries(tmp_path / "local", [entry("forge", width=256)], alone.encoder_digest)
    both = Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")
    assert (both.catalogue_id, both.bundle_id) == (written.id, alone.bundle_id)
    known, layered = alone.labeler.templates.signatures, both.labeler.templates.signatures
    assert [one.facts for one in layered] == [*(one.facts for one in known), entry("forge").signature.facts]
    assert both.labeler.templates.vectors.flat.ntotal == alone.labeler.templates.vectors.flat.ntotal + 2
    assert both.n_families == alone.n_families + 1


def test_a_signature_that_the_bundle_has_is_refused(tmp_path: Path) -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    family = pipeline.labeler.templates.signatures[0].facts.family
    add_entries(tmp_path / "local", [entry(family, width=256)], pipeline.encoder_digest)
    with pytest.raises(BundleError, match=f"has a signature {family}/0, and so has the bundle"):
        Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")


def test_vectors_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    digest = Pipeline.load(default_bundle_dir()).encoder_digest
    add_entries(tmp_path / "local", [entry("forge", width=8)], digest)
    with pytest.raises(BundleError, match="vectors have other dimensions"):
        Pipeline.load(default_bundle_dir(), catalogue=tmp_path / "local")
