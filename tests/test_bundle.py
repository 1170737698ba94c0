"""classifier/bundle.py: what is written is opened again, anything else is refused with one sentence."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from classifier import bundle as module
from classifier import taxonomy
from classifier.bundle import (
    BundleFacts,
    Decisions,
    FileEntry,
    Stratum,
    data_dir,
    default_bundle_dir,
    open_bundle,
    write_manifest,
)
from classifier.errors import BundleError
from classifier.evidence import Baselines
from classifier.heads import LOGITS, UNCALIBRATED, Calibration

FACTS = BundleFacts(
    decisions=Decisions(
        static=Calibration((0.5,) * LOGITS, (0.0, 0.1, 0.2, 0.0, -1.0)),
        transformer=UNCALIBRATED,
        thresholds={"coding": 0.5, "agentic_reasoning": 0.4, "long_horizon_planning": 0.3},
        cascade_margin=0.9,
    ),
    baselines=Baselines(0.001, (0.02, 0.03, 0.04, 0.05)),
    certification=(Stratum("people", 30_000, 0, 0.0001), Stratum("applications", 236, 0, 0.0127)),
    provenance={"sources": 47, "seed": 0},
    quality={"capability macro-F1": 0.68},
    versions={"numpy": "2.4.6"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    (path / "sub").mkdir(parents=True)
    (path / "tokenizer.json").write_bytes(b"{}")
    (path / "sub" / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (path / ".DS_Store").write_bytes(b"not ours")
    write_manifest(path, FACTS)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    sentence = str(caught.value)
    assert re.fullmatch(r"[^\n]+\.", sentence) and str(path) in sentence
    return sentence


def edit(folder: Path, **changes: Any) -> None:
    """Change the manifest and give it the id that its new content has, as someone with another program would."""
    document = json.loads((folder / "manifest.json").read_text())
    content = {name: value for name, value in document.items() if name != "bundle_id"} | changes
    content = {name: value for name, value in content.items() if value is not None}
    document = {"bundle_id": module.identify(content), **content}
    (folder / "manifest.json").write_text(json.dumps(document))


def test_what_was_written_is_opened(folder: Path) -> None:
    opened = open_bundle(folder)
    assert opened.path == folder
    assert opened.manifest.facts == FACTS
    assert opened.manifest.files == {
        "sub/weights.bin": FileEntry(hashlib.sha256(bytes(range(256)) * 40).hexdigest(), 10_240),
        "tokenizer.json": FileEntry("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", 2),
    }
    assert opened.file("sub/weights.bin") == folder / "sub" / "weights.bin"


def test_the_id_is_the_digest_of_the_manifest_without_it(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    bundle_id = document.pop("bundle_id")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert bundle_id == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert document["format_version"] == 3


def test_the_id_depends_on_files_and_facts_only(folder: Path, tmp_path: Path) -> None:
    first = open_bundle(folder).manifest.bundle_id
    folder.rename(tmp_path / "elsewhere")
    assert write_manifest(tmp_path / "elsewhere", FACTS).bundle_id == first
    assert write_manifest(tmp_path / "elsewhere", replace(FACTS, provenance={"seed": 1})).bundle_id != first
    (tmp_path / "elsewhere" / "tokenizer.json").write_bytes(b"[]")
    assert write_manifest(tmp_path / "elsewhere", FACTS).bundle_id != first


def test_a_manifest_is_whole_or_not_there(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_manifest(folder, replace(FACTS, quality={"recall": float("nan")}))
    assert (folder / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [".DS_Store", "manifest.json", "sub", "tokenizer.json"]


def test_every_flipped_byte_is_seen(folder: Path) -> None:
    path = folder / "sub" / "weights.bin"
    whole = bytearray(path.read_bytes())
    for place in (0, 5_000, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert "sub/weights.bin was altered" in refusal(folder)
    path.write_bytes(whole)
    open_bundle(folder)


def test_missing_and_resized_files_are_told_apart(folder: Path) -> None:
    path = folder / "sub" / "weights.bin"
    path.write_bytes(b"short")
    assert "sub/weights.bin has 5 bytes, expected 10,240" in refusal(folder)
    path.unlink()
    assert "sub/weights.bin, which its manifest lists, cannot be read (No such file or directory)" in refusal(folder)


def test_no_folder_no_manifest_no_json(folder: Path, tmp_path: Path) -> None:
    assert "manifest.json cannot be read (No such file or directory)" in refusal(tmp_path / "nowhere")
    (folder / "manifest.json").write_text("{")
    assert "manifest.json is not valid JSON" in refusal(folder)
    (folder / "manifest.json").write_bytes(b"\xff\xfe{}")
    assert "manifest.json is not valid JSON" in refusal(folder)
    (folder / "manifest.json").write_text("[" * 100_000)
    assert "manifest.json is not valid JSON" in refusal(folder)


@pytest.mark.parametrize("version", [2, 4, "3", None])
def test_another_format_is_refused_before_anything_else_of_it_is_looked_at(folder: Path, version: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format_version": version, "made by": "a later probewatch"}))
    assert f"its format version is {version!r}, expected 3" in refusal(folder)


def test_an_altered_manifest_is_refused(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("0.001", "0.01"))
    assert "bundle_id is" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": None},
        {"files": {"tokenizer.json": {"size": 2}}},
        {"files": {"../outside": {"sha256": "0", "size": 1}}},
        {"files": {"/etc/passwd": {"sha256": "0", "size": 1}}},
        {"decisions": None},
        {"decisions": ["coding"]},
        {"decisions": asdict(FACTS.decisions) | {"thresholds": {"coding": "high"}}},
        {"decisions": asdict(FACTS.decisions) | {"static": {"scale": [1], "shift": [0]}}},
        {"baselines": {"m1": 0.001, "m2": [0.1, 0.1]}},
        {"baselines": {"m1": 0.0, "m2": [0.1, 0.1, 0.1, 0.1]}},
        {"certification": [{"stratum": "people"}]},
        {"versions": 3},
    ],
)
def test_a_manifest_of_the_wrong_shape_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    edit(folder, **changes)
    with pytest.raises(BundleError, match=r"\A[^\n]+\.\Z"):
        open_bundle(folder)


def test_what_the_manifest_does_not_list_is_not_read(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")
    opened = open_bundle(folder)
    with pytest.raises(BundleError, match=r"lists no extra\.json, which is needed"):
        opened.file("extra.json")


def test_the_shipped_bundle_lies_beside_the_code_or_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_bundle_dir() == data_dir() / "bundle"
    monkeypatch.setattr(taxonomy, "__file__", str(tmp_path / "classifier" / "taxonomy.py"))
    assert data_dir() == tmp_path / "data"
    (tmp_path / "classifier" / "_data").mkdir(parents=True)
    assert data_dir() == tmp_path / "classifier" / "_data"
