"""service/run.py with the shipped bundle: resuming after kill -9 changes nothing, and folders that are refused."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from classifier.bundle import default_bundle_dir
from classifier.errors import InputError, OutputError, UsageError
from classifier.pipeline import Pipeline
from service import run as run_module
from service.batch import label
from service.run import Settings, open_run
from tests.runs import counts_of, outputs, records, write

ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, signal, sys
from pathlib import Path
point, number, original = int(sys.argv[1]), 0, Path.replace

def replace(self, target):
    global number
    number += 1
    if number == point:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    return original(self, target)

Path.replace = replace
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with interrupts ignored
from service.exits import run_app
from service.cli import app
sys.exit(run_app(app, sys.argv[3:]))
"""
"""Runs a command line, and sends itself a signal at the n-th time that it renames a file into place."""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


# --- resuming ---------------------------------------------------------------------------------------------------------


def command(point: int, kind: str, paths: Sequence[Path], out: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["label", *map(str, paths), "--out", str(out), "--quiet", "--workers", "2"]
    line = [sys.executable, "-c", KILLED, str(point), kind, *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    rows = [records(30), ["{broken", *records(20, start=20)], [*records(5, start=60), "[]", *records(9)]]
    return [write(folder / f"{n}.jsonl", part) for n, part in enumerate(rows)]


@pytest.fixture(scope="module")
def undisturbed(inputs: list[Path], pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    label([str(path) for path in inputs], folder, pipeline=pipeline, workers=2)
    assert counts_of(folder) == {"read": 66, "labelled": 45, "rejected": 2, "duplicates": 19}
    return outputs(folder)


def test_kill_9_again_and_again_changes_nothing(
    inputs: list[Path], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Each run is killed two renames later than the run before, and goes on from what that left."""
    out = tmp_path / "run"
    codes = []
    for point in range(1, 60, 2):
        codes.append(command(point, "SIGKILL", inputs, out).returncode)
        if codes[-1] == 0:
            break
        assert not (out / "run.json").exists() and not (out / "accounts.parquet").is_dir()
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0] and len(codes) > 5
    assert outputs(out) == undisturbed


@pytest.mark.parametrize("point", [2, 5, 9, 13, 15])
def test_kill_9_once_changes_nothing(
    inputs: list[Path], undisturbed: dict[str, bytes], pipeline: Pipeline, tmp_path: Path, point: int
) -> None:
    assert command(point, "SIGKILL", inputs, tmp_path / "run").returncode == -signal.SIGKILL
    label([str(path) for path in inputs], tmp_path / "run", pipeline=pipeline, workers=2)
    assert outputs(tmp_path / "run") == undisturbed


def test_an_interrupt_keeps_what_was_done(
    inputs: list[Path], undisturbed: dict[str, bytes], pipeline: Pipeline, tmp_path: Path
) -> None:
    stopped = command(6, "SIGINT", inputs, tmp_path / "run")
    assert stopped.returncode == 130 and stopped.stdout == ""
    assert stopped.stderr == "probewatch: Interrupted: repeat the command to go on or to start over.\n"
    assert len(list((tmp_path / "run" / "labels").iterdir())) >= 1
    assert list((tmp_path / "run").rglob("*.tmp")) == []
    label([str(path) for path in inputs], tmp_path / "run", pipeline=pipeline, workers=2)
    assert outputs(tmp_path / "run") == undisturbed


def test_inputs_are_added_to_a_finished_run(
    inputs: list[Path], undisturbed: dict[str, bytes], pipeline: Pipeline, tmp_path: Path
) -> None:
    for path in inputs:
        label([str(path)], tmp_path / "run", pipeline=pipeline, workers=2)
    assert outputs(tmp_path / "run") == undisturbed


def test_a_half_labelled_file_resumes_within(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.batch.ROWS_PER_PART", 10)
    source = str(write(tmp_path / "a.jsonl", [*records(25), "{broken", *records(20, start=15)]))
    label([source], tmp_path / "whole", pipeline=pipeline)
    label([source], tmp_path / "half", pipeline=pipeline)
    parts = sorted((tmp_path / "half" / "labels").iterdir())
    assert len(parts) == 5
    for part in (parts[1], parts[3], parts[4]):
        part.unlink()
    label([source], tmp_path / "half", pipeline=pipeline)
    assert outputs(tmp_path / "half") == outputs(tmp_path / "whole")


# --- folders that are refused -----------------------------------------------------------------------------------------


@pytest.fixture
def labelled(pipeline: Pipeline, tmp_path: Path) -> Path:
    label([str(write(tmp_path / "a.jsonl", records(8)))], tmp_path / "run", pipeline=pipeline)
    return tmp_path / "run"


def refused(out: Path, pipeline: Any, source: Path, **settings: Any) -> str:
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} if out.is_dir() else {}
    with pytest.raises(OutputError) as caught:
        label([str(source)], out, pipeline=pipeline, **settings)
    assert before == ({p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()} if out.is_dir() else {})
    assert re.fullmatch(r"[^\n]+\.", str(caught.value))
    return str(caught.value)


def test_a_changed_input_is_refused_and_fresh_starts_over(labelled: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", records(9))
    assert f"{source} has changed since it was labelled there" in refused(labelled, pipeline, source)
    label([str(source)], labelled, pipeline=pipeline, fresh=True)
    assert counts_of(labelled)["labelled"] == 9
    label([str(source)], tmp_path / "new", pipeline=pipeline)
    assert outputs(labelled) == outputs(tmp_path / "new")


def test_another_bundle_catalogue_or_format_is_refused(labelled: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    def other(**ids: str) -> Any:
        names = ("bundle_id", "catalogue_id", "baselines", "certification", "n_families", "approvals", "label")
        return SimpleNamespace(**{name: getattr(pipeline, name) for name in names} | ids)

    source = tmp_path / "a.jsonl"
    said = refused(labelled, other(bundle_id="f" * 16), source)
    assert f"was labelled with bundle id {pipeline.bundle_id}, this run has {'f' * 16}" in said
    assert f"catalogue id {pipeline.catalogue_id}, this run has local" in refused(
        labelled, other(catalogue_id="local"), source
    )
    assert "format auto, this run has plain" in refused(labelled, pipeline, source, format="plain")


def test_a_damaged_run_is_refused(labelled: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    (part,) = (labelled / "labels").iterdir()
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    assert "is not a part of a labelled run" in refused(labelled, pipeline, tmp_path / "a.jsonl")
    part.write_bytes(whole)
    (labelled / "resume" / "ledger.json").write_text("[]")
    assert "ledger.json: cannot be read" in refused(labelled, pipeline, tmp_path / "a.jsonl")


def test_an_unfinished_input_must_be_given_again(labelled: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    source, another = tmp_path / "a.jsonl", write(tmp_path / "b.jsonl", records(4, start=50))
    (part,) = (labelled / "labels").iterdir()
    table = pq.read_table(part)
    unfinished = table.schema.metadata | {b"part": table.schema.metadata[b"part"].replace(b"true", b"false")}
    pq.write_table(table.replace_schema_metadata(unfinished), part)
    assert f"{source} was labelled there in part only" in refused(labelled, pipeline, another)
    label([str(another), str(source)], labelled, pipeline=pipeline)
    assert counts_of(labelled)["labelled"] == 12


def test_a_folder_of_something_else_is_left_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", records(4))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("do not delete")
    for fresh in (False, True):
        assert "holds files and is not a labelled run" in refused(tmp_path / "thesis", pipeline, source, fresh=fresh)


def test_fresh_deletes_what_runs_write_and_nothing_else(labelled: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    (labelled / "notes.txt").write_text("mine")
    source = write(tmp_path / "b.jsonl", records(3))
    label([str(source)], labelled, pipeline=pipeline, fresh=True)
    assert (labelled / "notes.txt").read_text() == "mine"
    assert counts_of(labelled) == {"read": 3, "labelled": 3, "rejected": 0, "duplicates": 0}


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_one_sentence(pipeline: Pipeline, tmp_path: Path, place: str) -> None:
    source = write(tmp_path / "file", records(1)).rename(tmp_path / "a.jsonl")
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written (" in refused(tmp_path / place, pipeline, source)


def test_a_full_disk_is_one_sentence_and_resumes(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", records(4))
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(run_module.pq.ParquetWriter, "write_table", fail)
        with pytest.raises(
            OutputError, match=r"cannot be written \(No space left on device\); check permissions and space"
        ):
            label([str(source)], tmp_path / "run", pipeline=pipeline)
    assert list((tmp_path / "run" / "labels").iterdir()) == []
    label([str(source)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 4


def test_two_runs_do_not_share_a_folder(pipeline: Pipeline, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", records(4))
    with open_run(tmp_path / "run", Settings("b", "none", "auto", 1)):
        assert "another probewatch is writing there" in refused(tmp_path / "run", pipeline, source)
    label([str(source)], tmp_path / "run", pipeline=pipeline)


@pytest.mark.parametrize(
    ("settings", "said"), [({"workers": 0}, "--workers got 0"), ({"format": "x"}, "--format got 'x'")]
)
def test_settings_are_checked_before_anything_is_made(
    pipeline: Pipeline, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        label([str(tmp_path / "nowhere.jsonl")], tmp_path / "run", pipeline=pipeline, **settings)
    assert not (tmp_path / "run").exists()


def test_an_input_of_which_nothing_came_may_be_mended(pipeline: Pipeline, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ["{broken"])
    with pytest.raises(InputError, match="Not one of 1 records"):
        label([str(source)], tmp_path / "run", pipeline=pipeline)
    write(source, records(3))
    label([str(source)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 3, "labelled": 3, "rejected": 0, "duplicates": 0}


def test_a_changed_copy_is_noticed(pipeline: Pipeline, tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, records(3)) for name in ("a.jsonl", "b.jsonl"))
    label([str(one), str(two)], tmp_path / "run", pipeline=pipeline)
    write(two, records(4))
    with pytest.raises(OutputError, match="has changed since"):
        label([str(two)], tmp_path / "run", pipeline=pipeline)
