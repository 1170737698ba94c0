"""service/batch.py with the shipped bundle: every output, duplicates, resuming after kill -9, and folders that are refused."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.errors import InputError, OutputError, UsageError
from classifier.evidence import merge_units
from classifier.pipeline import Pipeline
from classifier.types import (
    ACCOUNT_SCHEMA,
    CAMPAIGN_SCHEMA,
    COUNT_SCHEMA,
    DISCOVERED_SCHEMA,
    LABEL_SCHEMA,
    UNIT_SCHEMA,
)
from service import run as run_module
from service.batch import Progress, label
from service.run import Settings, open_run

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = data_dir() / "sample" / "traffic.jsonl"
SUBJECTS = ("a sonnet about rain", "a regular expression for dates", "three uses of a brick", "a plan for one week")
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
from service.exits import run_app
from service.cli import app
sys.exit(run_app(app, sys.argv[3:]))
"""
"""Runs a command line, and sends itself a signal at the n-th time that it renames a file into place."""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


def records(n: int, start: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Events start to start + n - 1 of four accounts, one an hour from the first of May 2026."""
    return [
        {
            "event_id": f"e-{i}",
            "account_id": f"account-{i % 4}",
            "timestamp": 1_777_593_600 + 3_600 * i,
            "prompt": f"Please write {SUBJECTS[i % 4]}, number {i}.",
        }
        | changes
        for i in range(start, start + n)
    ]


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file of a finished run, byte for byte, run.json without its timings."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    document = json.loads(files["run.json"])
    assert set(document["seconds"]) == {"label", "findings", "total"}
    del document["seconds"]
    files.pop("report.html", None)  # it shows the timings
    return files | {"run.json": json.dumps(document).encode()}


def labels_of(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((folder / "labels").iterdir())])


def counts_of(folder: Path) -> dict[str, int]:
    counts = json.loads((folder / "run.json").read_text())["counts"]
    assert counts["read"] == counts["labelled"] + counts["rejected"] + counts["duplicates"]
    assert counts["labelled"] == labels_of(folder).num_rows
    assert counts["rejected"] == len((folder / "rejected.jsonl").read_text().splitlines())
    return {name: counts[name] for name in ("read", "labelled", "rejected", "duplicates")}


# --- what a run leaves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample [1] 'x'") / "run"
    label([str(SAMPLE)], folder, pipeline=pipeline)
    return folder


def test_every_output_is_there_and_says_what_made_it(sample: Path, pipeline: Pipeline) -> None:
    (part,) = [path.stem for path in (sample / "labels").iterdir()]
    schemas = {
        f"labels/{part}.parquet": LABEL_SCHEMA,
        f"evidence/units-{part}.parquet": UNIT_SCHEMA,
        "evidence/counts.parquet": COUNT_SCHEMA,
        "accounts.parquet": ACCOUNT_SCHEMA,
        "campaigns.parquet": CAMPAIGN_SCHEMA,
        "discovered.parquet": DISCOVERED_SCHEMA,
    }
    for name, schema in schemas.items():
        found = pq.read_schema(sample / name)
        assert found.equals(schema), name
        metadata = {key: found.metadata[key] for key in (b"schema_version", b"bundle_id", b"catalogue_id")}
        assert metadata == {b"schema_version": b"1", b"bundle_id": pipeline.bundle_id.encode(), b"catalogue_id": b""}
    assert set(outputs(sample)) == {*schemas, "rejected.jsonl", "run.json", "resume/ledger.json", "resume/lock"}


def test_the_sample_is_labelled_whole(sample: Path) -> None:
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())
    sent = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    assert counts_of(sample) == {
        "read": len(sent),
        "labelled": truth["n_events"],
        "rejected": 0,
        "duplicates": len(truth["retries"]),
    }
    found = labels_of(sample)
    assert found["event_id"].to_pylist() == list(dict.fromkeys(event["event_id"] for event in sent))
    accounts = {row["account_id"]: row["n_prompts"] for row in pq.read_table(sample / "accounts.parquet").to_pylist()}
    assert accounts == {name: account["n_events"] for name, account in truth["accounts"].items()}


def test_the_sample_s_campaigns_are_found_and_nobody_else(sample: Path) -> None:
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())["accounts"]
    rows = pq.read_table(sample / "accounts.parquet").to_pylist()
    flagged = {row["account_id"]: row for row in rows if row["decision"] == "flag"}
    assert set(flagged) == {name for name, account in truth.items() if account["campaign"] is not None}
    together = {frozenset(n for n in flagged if truth[n]["campaign"] == c) for c in ("A", "B")}
    campaigns = pq.read_table(sample / "campaigns.parquet").to_pylist()
    members = {
        c["campaign_id"]: frozenset(n for n, r in flagged.items() if r["campaign_id"] == c["campaign_id"])
        for c in campaigns
    }
    assert set(members.values()) == together
    assert all(row["first_seen"] <= row["flagged_at"] <= row["last_seen"] for row in flagged.values())


def test_evidence_of_the_parts_is_that_of_the_labels(sample: Path) -> None:
    (part,) = (sample / "evidence").glob("units-*.parquet")
    units = pq.read_table(part)
    assert merge_units([units]).equals(units.replace_schema_metadata())
    counted = pq.read_table(sample / "evidence" / "counts.parquet")
    assert sum(counted["n1"].to_pylist()) == sum(1 for channel in units["channel"].to_pylist() if channel == 0)
    ids = set(labels_of(sample)["event_id"].to_pylist())
    named = [i for row in pq.read_table(sample / "accounts.parquet").to_pylist() for i in row["evidence_event_ids"]]
    assert set(named) <= ids and len(named) > 0


def test_run_json_says_what_was_done(sample: Path, pipeline: Pipeline) -> None:
    document = json.loads((sample / "run.json").read_text())
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())
    decisions = Counter(pq.read_table(sample / "accounts.parquet")["decision"].to_pylist())
    assert (document["bundle_id"], document["catalogue_id"]) == (pipeline.bundle_id, pipeline.catalogue_id)
    assert {name: n for name, n in document["decisions"].items() if n} == dict(decisions)
    assert (document["population"], document["population_is"]) == (len(truth["accounts"]), "the accounts of this run")
    epsilon = max((s.epsilon for s in pipeline.certification), default=1.0)
    assert document["fdr_bound"] == min(1.0, 0.01 + epsilon * document["population"] / decisions["flag"])
    assert document["fdr_strata"] == [
        {"stratum": s.stratum, "n": s.n, "k": s.k, "epsilon": s.epsilon} for s in pipeline.certification
    ]
    (source,) = document["inputs"]
    assert source | {"digest": ""} == {
        "path": str(SAMPLE),
        "copies": [],
        "digest": "",
        "bytes": SAMPLE.stat().st_size,
        "records": truth["n_events"] + len(truth["retries"]),
    }


def test_a_second_run_gives_the_same_bytes(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    before = outputs(sample)
    label([str(SAMPLE)], sample, pipeline=pipeline)
    assert outputs(sample) == before
    label([str(SAMPLE)], tmp_path / "again", pipeline=pipeline)
    assert outputs(tmp_path / "again") == before


def test_order_and_split_do_not_matter(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    random.Random(7).shuffle(lines)
    for name, part in (("a", lines[:700]), ("b", lines[700:701]), ("c", lines[701:])):
        write(tmp_path / f"{name}.jsonl", part)
    label([str(tmp_path)], tmp_path / "run", pipeline=pipeline, workers=1)
    for name in ("accounts", "campaigns", "discovered"):
        found, expected = (pq.read_table(folder / f"{name}.parquet") for folder in (tmp_path / "run", sample))
        assert found.equals(expected), name


def test_the_population_raises_the_bar(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, population=250_000)
    few, many = (
        pq.read_table(folder / "accounts.parquet")["log10_threshold"][0] for folder in (sample, tmp_path / "run")
    )
    assert many.as_py() > few.as_py() + 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["population_is"] == "as given"
    with pytest.raises(UsageError, match="--population got 3: expected at least the 47 accounts"):
        label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, population=3)


def test_it_needs_no_network(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    label([str(write(tmp_path / "a.jsonl", records(20)))], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 20


# --- records ----------------------------------------------------------------------------------------------------------


def test_bad_records_are_rejected_and_the_rest_is_labelled(pipeline: Pipeline, tmp_path: Path) -> None:
    first, second = records(3), records(3, start=3)
    a = write(tmp_path / "a.jsonl", [first[0], "{broken", first[1], "[]", first[2]])
    b = write(tmp_path / "b.jsonl", [*second, {"account_id": "account-0"}])
    label([str(b), str(a)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 6, "rejected": 3, "duplicates": 0}
    rejected = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"]) for row in rejected] == [(str(b), 4), (str(a), 2), (str(a), 4)]
    assert all(set(row) == {"source", "line", "reason"} and row["reason"] for row in rejected)


def test_nothing_that_could_be_labelled_is_an_input_error(pipeline: Pipeline, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", ["{", "{}"])
    with pytest.raises(
        InputError, match=r"None of the 2 records could be labelled; .*rejected\.jsonl says why for each\."
    ):
        label([str(bad)], tmp_path / "run", pipeline=pipeline)
    assert len((tmp_path / "run" / "rejected.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "run" / "run.json").exists()
    label([str(write(tmp_path / "good.jsonl", records(2)))], tmp_path / "run", pipeline=pipeline)  # adding what can be
    assert counts_of(tmp_path / "run") == {"read": 4, "labelled": 2, "rejected": 2, "duplicates": 0}


def test_the_first_of_equal_ids_wins_within_and_across_files_and_runs(pipeline: Pipeline, tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [*records(2), *records(1, account_id="late"), *records(1, start=2)])
    b = write(tmp_path / "b.jsonl", [*records(4, account_id="later"), *records(1, start=5)])
    label([str(a), str(b)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 5, "rejected": 0, "duplicates": 4}
    c = write(tmp_path / "c.jsonl", [*records(1, start=5, account_id="latest"), *records(1, start=6)])
    label([str(c)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 11, "labelled": 6, "rejected": 0, "duplicates": 5}
    owners = {row["event_id"]: row["account_id"] for row in labels_of(tmp_path / "run").to_pylist()}
    assert owners == {
        **{"e-0": "account-0", "e-1": "account-1", "e-2": "account-2", "e-3": "later"},
        **{"e-5": "account-1", "e-6": "account-2"},
    }


def test_without_an_id_nothing_is_a_duplicate(pipeline: Pipeline, tmp_path: Path) -> None:
    same = records(1, event_id=None) * 5
    a, b = write(tmp_path / "a.jsonl", same), write(tmp_path / "b.jsonl", same[:4])
    label([str(a)], tmp_path / "run", pipeline=pipeline)
    label([str(b)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 9, "rejected": 0, "duplicates": 0}
    (account,) = pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()
    assert account["n_prompts"] == 9 and account["n_units"] <= 1  # one observation, however often it is sent
    assert account["first_seen"] == account["last_seen"] == datetime(2026, 5, 1, tzinfo=UTC)


def test_copies_of_a_file_are_read_once(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", records(3, event_id=None))
    label([str(tmp_path)], tmp_path / "run", pipeline=pipeline)
    label([str(tmp_path / "b.jsonl")], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 3
    (source,) = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    assert (source["path"], source["copies"]) == (str(tmp_path / "a.jsonl"), [str(tmp_path / "b.jsonl")])


class Fixed:
    """A pipeline that takes no time: every prompt is harmless and an observation of its own."""

    bundle_id, catalogue_id, certification, n_families = "0" * 16, None, (), 1

    def __init__(self, pipeline: Pipeline) -> None:
        self.baselines = pipeline.baselines

    def label(self, events: pa.RecordBatch) -> Any:
        n = len(events)
        given = {name: events[name] for name in ("event_id", "account_id", "timestamp")}
        key = pa.array(np.fromiter((hash(i) for i in events["event_id"].to_pylist()), np.int64, n).view(np.uint64))
        values = {
            "capability": "other",
            "unit": key,
            "scaffolds": [],
            **{f: 0.0 for f in LABEL_SCHEMA.names if f[:2] == "p_"},
        }
        labels = columns(n, LABEL_SCHEMA, {**values, **given})
        zeros = {f: 0 for f in UNIT_SCHEMA.names if f not in ("family", *given)}
        return SimpleNamespace(labels=labels, units=columns(n, UNIT_SCHEMA, {**zeros, **given, "key": key}))


def columns(n: int, schema: pa.Schema, values: Mapping[str, Any]) -> pa.Table:
    arrays = [
        value if isinstance(value := values.get(field.name), pa.Array) else pa.repeat(pa.scalar(value, field.type), n)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def test_a_million_lines_in_many_parts(pipeline: Pipeline, tmp_path: Path) -> None:
    with (tmp_path / "many.jsonl").open("w") as stream:
        for i in range(1_000_000):
            stream.write(f'{{"event_id":"{i % 999_000}","account_id":"a{i % 1_000}","prompt":"hi"}}\n')
    seen: list[Progress] = []
    fixed: Any = Fixed(pipeline)
    summary = label([str(tmp_path / "many.jsonl")], tmp_path / "run", pipeline=fixed, progress=seen.append)
    assert (summary.counts.read, summary.counts.labelled, summary.counts.duplicates) == (1_000_000, 999_000, 1_000)
    assert [at.n_read for at in seen] == [65_536 * k for k in range(1, 16)] + [1_000_000]
    assert sum(pq.read_table(tmp_path / "run" / "accounts.parquet")["n_prompts"].to_pylist()) == 999_000


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
    """Each run is killed one rename later than the run before, and goes on from what that left."""
    out = tmp_path / "run"
    codes = []
    for point in range(1, 30):
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
    assert stopped.stderr == "probewatch: Interrupted: what was done is kept; repeat the command to go on.\n"
    assert len(list((tmp_path / "run" / "labels").iterdir())) >= 1
    assert [path for path in (tmp_path / "run").rglob("*.tmp")] == []
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
        names = ("bundle_id", "catalogue_id", "baselines", "certification", "n_families", "label")
        return SimpleNamespace(**{name: getattr(pipeline, name) for name in names} | ids)

    source = tmp_path / "a.jsonl"
    said = refused(labelled, other(bundle_id="f" * 16), source)
    assert f"was labelled with bundle id {pipeline.bundle_id}, this run has {'f' * 16}" in said
    assert "catalogue id None, this run has local" in refused(labelled, other(catalogue_id="local"), source)
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

        def fail(table: pa.Table, path: Path, **_: object) -> None:
            Path(path).write_bytes(b"PAR1 and no more")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(run_module.pq, "write_table", fail)
        with pytest.raises(
            OutputError, match=r"cannot be written \(No space left on device\); check permissions and space"
        ):
            label([str(source)], tmp_path / "run", pipeline=pipeline)
    assert list((tmp_path / "run" / "labels").iterdir()) == []
    label([str(source)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 4


def test_two_runs_do_not_share_a_folder(pipeline: Pipeline, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", records(4))
    with open_run(tmp_path / "run", Settings("b", None, "auto", 1)):
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
