"""service/cluster.py on a cluster of two nodes: outputs equal the local engine's, whoever is killed meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.errors import UsageError
from classifier.pipeline import Pipeline
from service.batch import Progress, label
from tests.runs import counts_of, outputs, records, write

ray = pytest.importorskip("ray", reason="needs the ray extra: pip install 'probewatch[ray]'", exc_type=ImportError)

from service.cluster import _in_turn, _settle, _Turn, on_cluster  # noqa: E402 (needs the extra)

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::ResourceWarning", "ignore::DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
ROWS = 150
STOPPED = f"""
import os, signal, sys
from pathlib import Path
import service.batch
service.batch.ROWS_PER_PART = {ROWS}
point, number, original = int(sys.argv[1]), 0, Path.replace

def replace(self, target):
    global number
    number += target.parent.name == "labels"
    if number == point:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    return original(self, target)

Path.replace = replace
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with interrupts ignored
from service.exits import run_app
from service.cli import app
sys.exit(run_app(app, sys.argv[3:]))
"""
"""Runs a command line, and sends itself a signal when it is about to put the n-th part in place."""
DRIVER = f"""
import json, os, signal, sys
from dataclasses import astuple
from pathlib import Path
import service.batch
service.batch.ROWS_PER_PART = {ROWS}
from classifier.bundle import default_bundle_dir
from classifier.errors import ProbewatchError
from classifier.pipeline import Pipeline
from service.cluster import on_cluster
raylets, address, workers, out, *inputs = json.loads(sys.argv[1])
killed, seen = [], []

def kill(at):
    seen.append(astuple(at))
    if raylets and not killed:
        from tests.test_ray import workers_of
        killed.extend(workers_of(raylets)[:1])
        os.kill(killed[0], signal.SIGKILL)

try:
    engine = on_cluster(address)
    pipeline = Pipeline.load(default_bundle_dir())
    service.batch.label(inputs, Path(out), pipeline=pipeline, workers=workers, engine=engine, progress=kill)
except ProbewatchError as error:
    seen = [type(error).__name__, str(error)]
print(json.dumps([killed, seen]), file=sys.__stdout__, flush=True)
"""
"""Labels in a cluster and says what it killed and its progress, or the error. If it is told raylets, it kills one of
their workers as soon as a part is in place."""
SILENT = (1, "", "")
"""What is left of a process that Ray itself ended while it was shut down."""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = _started(Cluster)
        yield nodes
        nodes.shutdown()


def _started(cluster: Any) -> Any:
    """Two nodes; Ray gives a node 30 seconds to start, which a busy machine may not make at once."""
    for left in (2, 1, 0):
        nodes = cluster()
        try:
            nodes.add_node(num_cpus=1, include_dashboard=False)
            nodes.add_node(num_cpus=1)
        except Exception as error:
            nodes.shutdown()
            if not left or "timed out" not in str(error):
                raise
        else:
            return nodes
    raise AssertionError("unreachable")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """The sample, of many parts; bad rows; ids that come twice within a part, across parts and across files."""
    sample = data_dir() / "sample" / "traffic.jsonl"
    again = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()[100:1900:90]]
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sample, folder / "a.jsonl")
    rows = [*records(200), "{broken", *records(20, start=190), *records(5, event_id=None), "[]", *again, *records(9)]
    write(folder / "b.jsonl", rows)
    write(folder / "c.jsonl", [*records(30, start=195, account_id="late"), *again[:3]])
    write(folder / "d.jsonl", ["", " "])
    (folder / "e.parquet").write_bytes(b"PAR1 cut short")
    return [str(folder)]


@pytest.fixture
def local(inputs: list[str], pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("service.batch.ROWS_PER_PART", ROWS)
    label(inputs, tmp_path / "local", pipeline=pipeline, workers=1)
    counts = counts_of(tmp_path / "local")
    assert counts == {"read": 2_212, "labelled": 2_144, "rejected": 3, "duplicates": 65}
    assert len(list((tmp_path / "local" / "labels").iterdir())) == 17
    return tmp_path / "local"


def driven(
    inputs: list[str], out: Path, address: str, *, workers: int | None = None, raylets: Sequence[int] = ()
) -> tuple[list[int], list[Any]]:
    """Label by a process of its own (DRIVER): Ray may end the one that it runs in."""
    given = json.dumps([list(raylets), address, workers, str(out), *inputs])
    ran = _tried([sys.executable, "-W", "ignore", "-c", DRIVER, given])
    assert ran.returncode == 0, (ran.returncode, ran.stderr)
    killed, seen = json.loads(ran.stdout)
    return killed, seen


def _tried(line: list[str], *, new: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a process came to; it is begun anew, once, if Ray ended it silently, and goes on with what is there. `new`:
    a folder that is to be made by one alone."""
    for again in (True, False):
        ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
        if not again or (ran.returncode, ran.stdout, ran.stderr) != SILENT:
            break
        if new is not None:
            shutil.rmtree(new)
    return ran


def assert_equal(out: Path, local: Path) -> None:
    """Same files, same rows: decisions and counts identical, floats within 1e-5; but for what names the engine."""
    found, expected = outputs(out), outputs(local)
    assert list(found) == list(expected)
    for name in expected:
        if name.endswith(".parquet"):
            _assert_equal_tables(pq.read_table(out / name), pq.read_table(local / name), name)
    one, two = (json.loads(document["run.json"]) for document in (found, expected))
    assert one.pop("settings") | {"engine": "", "workers": 0} == two.pop("settings") | {"engine": "", "workers": 0}
    assert one == two
    assert (found["rejected.jsonl"], found["resume/ledger.json"]) == (
        expected["rejected.jsonl"],
        expected["resume/ledger.json"],
    )


def _assert_equal_tables(found: pa.Table, expected: pa.Table, name: str) -> None:
    assert found.schema.equals(expected.schema, check_metadata=True), name
    for column in expected.schema.names:
        if pa.types.is_floating(expected[column].type):
            one, two = (table[column].to_numpy(zero_copy_only=False) for table in (found, expected))
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-5, err_msg=f"{name}: {column}")
        else:
            assert found[column].to_pylist() == expected[column].to_pylist(), f"{name}: {column}"


def test_inputs_are_added_by_either_engine(
    cluster: Any, inputs: list[str], local: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    """What is in place is remembered, not labelled again."""
    folder = Path(inputs[0])
    label([str(folder / "a.jsonl")], tmp_path / "run", pipeline=pipeline, workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "labels").iterdir()}
    driven(inputs, tmp_path / "run", cluster.address)
    assert_equal(tmp_path / "run", local)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "labels").iterdir()}
    assert len(before) == 13 and after | before == after


def test_a_killed_worker_changes_nothing(cluster: Any, inputs: list[str], local: Path, tmp_path: Path) -> None:
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    killed, seen = driven(inputs, tmp_path / "run", cluster.address, workers=2, raylets=raylets)
    assert len(killed) == 1 and not Path(f"/proc/{killed[0]}").exists()
    assert_equal(tmp_path / "run", local)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (settings["engine"], settings["rows_per_part"], settings["workers"]) == ("ray", ROWS, 2)
    ats = [Progress(*at) for at in seen]
    assert [at.input for at in ats] == sorted(at.input for at in ats) and ats[-1] == Progress(2_212, 5, 5)


def workers_of(raylets: Sequence[int]) -> list[int]:
    """Processes that label for these."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, status = (process / "cmdline").read_text(), (process / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        if "LabelPart" in command and int(status.rpartition(")")[2].split()[1]) in raylets:
            found.append(int(process.name))
    return found


def test_a_stopped_run_goes_on_with_either_engine(
    cluster: Any, inputs: list[str], local: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    """Interrupted in a Ray of its own, then killed in the cluster; what was in place by then stays."""
    run, done = tmp_path / "run", []
    for point, kind, code, address in (
        (3, "SIGINT", 130, []),
        (4, "SIGKILL", -signal.SIGKILL, ["--address", cluster.address]),
    ):
        arguments = ["label", *inputs, "--out", str(run), "--quiet", "--engine", "ray", "--workers", "2", *address]
        line = [sys.executable, "-c", STOPPED, str(point), kind, *arguments]
        stopped = _tried(line, new=run if not done else None)
        assert stopped.returncode == code, stopped.stderr
        expected = "probewatch: Interrupted: repeat the command to go on or to start over.\n" if code == 130 else ""
        assert (stopped.stdout, stopped.stderr) == ("", expected)
        done.append(sorted(path.name for path in (run / "labels").iterdir()))
    assert len(done[0]) == 2 and len(done[1]) == 5 and set(done[0]) < set(done[1])
    shutil.copytree(run, tmp_path / "copy")
    driven(inputs, run, cluster.address, workers=1)
    label(inputs, tmp_path / "copy", pipeline=pipeline, workers=1)
    assert_equal(run, local)
    assert_equal(tmp_path / "copy", local)


def test_an_input_that_cannot_be_read_and_is_alone_is_an_error(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1 cut short")
    _, (kind, said) = driven([str(tmp_path)], tmp_path / "run", cluster.address)
    assert kind == "InputError"
    assert re.search(r"e\.parquet is not a readable Parquet file: .*, export it again$", said)


def test_an_address_without_a_cluster_is_one_sentence(pipeline: Pipeline, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", records(3))
    with pytest.raises(UsageError, match=r"--address got localhost:9: expected a Ray cluster there"):
        label([str(tmp_path)], tmp_path / "run", pipeline=pipeline, engine=on_cluster("localhost:9"))
    with pytest.raises(UsageError, match=r"--address got localhost: expected a Ray cluster"):
        label([str(tmp_path)], tmp_path / "run", pipeline=pipeline, engine=on_cluster("localhost"))
    with pytest.raises(UsageError, match="expected HOST:PORT, or auto on a machine of the cluster"):
        on_cluster("ray://localhost:10001")


def test_parts_that_come_early_wait_for_their_turn() -> None:
    def part(of: int, ordinal: int, last: bool = False) -> _Turn:
        return _Turn(of, ordinal, last, "part", False, 1, np.empty((0, 2), np.uint64))

    come = [part(1, 0), part(0, 1), part(2, 1, True), part(0, 0), part(0, 2, True), part(2, 0), part(1, 1, True)]
    waited = [(one.input, one.ordinal) for one in _in_turn(come)]
    assert waited == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_what_ray_data_still_runs_is_waited_for() -> None:
    """Ray ended the process when such a thread asked for it while it was shut down."""
    ended: list[str] = []

    def run() -> None:
        time.sleep(0.2)
        ended.append("it")

    threading.Thread(target=run, name="StreamingExecutor-1", daemon=True).start()
    _settle()
    assert ended == ["it"]
