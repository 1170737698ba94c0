"""Worker processes: the same outputs as one process gives, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.pipeline import Pipeline
from classifier.types import EVENT_SCHEMA
from service.workers import CHUNK, FEW, Workers


def events(n: int) -> pa.RecordBatch:
    lines = (data_dir() / "sample" / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [record["prompt"] for record in map(json.loads, lines) if "prompt" in record]
    rows = [
        {"event_id": f"e{i}", "account_id": f"a{i % 9}", "timestamp": i, "prompt": f"{prompts[i % len(prompts)]} {i}"}
        for i in range(n)
    ]
    return pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)


def test_processes_label_as_one_process_does() -> None:
    pipeline = Pipeline.load(default_bundle_dir())
    batch = events(FEW + 100)
    workers = Workers(pipeline, 2)
    workers.start_for(batch.num_rows)
    apart = list(workers.label(batch))
    workers.shutdown()
    assert len(apart) == -(-batch.num_rows // CHUNK)
    (together,) = Workers(pipeline, 1).label(batch)
    assert pa.concat_tables([one.labels for one in apart]).equals(together.labels)
    # the rows of a block stand signature channel first, so only their order depends on where blocks are cut
    keys = [(name, "ascending") for name in ("event_id", "channel")]
    assert pa.concat_tables([one.units for one in apart]).sort_by(keys).equals(together.units.sort_by(keys))


def test_few_events_start_no_process() -> None:
    workers = Workers(Pipeline.load(default_bundle_dir()), 2)
    workers.start_for(10)
    assert workers._pool is None
    assert [one.labels.num_rows for one in workers.label(events(10))] == [10]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_workers_do_not_outlive_a_killed_run(tmp_path: Path) -> None:
    with (tmp_path / "many.jsonl").open("w") as stream:
        for i in range(400_000):
            stream.write(json.dumps({"account_id": "a", "prompt": f"write a parser for log format {i}"}) + "\n")
    program = "import sys; from service.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "label", str(tmp_path), "--out", str(tmp_path / "run"), "--workers", "2"]
    run = subprocess.Popen([*command, "--quiet"], start_new_session=True)
    try:
        assert _within(60, lambda: len(_session(run.pid)) >= 3)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert _within(20, lambda: not _session(run.pid))
    finally:
        for process in _session(run.pid):
            os.kill(process, signal.SIGKILL)


def _within(seconds: float, condition) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _session(session: int) -> list[int]:
    """Live processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
