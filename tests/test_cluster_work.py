"""service/cluster_work.py and held.py without a cluster: what a node refuses; a part that is held until its turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.bundle import default_bundle_dir
from classifier.errors import BundleError, OutputError, UsageError
from classifier.pipeline import Pipeline
from service.batch import label
from service.cluster_work import TOKEN, Job, LabelPart, Source, read_input, settle_part
from service.held import MOST_ATTEMPTS
from service.inputs import expand_inputs
from service.run import RunFolder, Settings, open_run
from service.versions import version_of
from tests.runs import records, write


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@pytest.fixture
def folder(pipeline: Pipeline, tmp_path: Path) -> Iterator[RunFolder]:
    settings = Settings(pipeline.bundle_id, pipeline.catalogue_id, "auto", 10)
    with open_run(tmp_path / "run", settings) as held:
        (held.held / TOKEN).write_text("ours")
        yield held


def job(folder: RunFolder, *paths: Path) -> Job:
    sources = tuple(Source(f"{file.path.name}", file, ()) for file in expand_inputs([str(path) for path in paths]))
    version = version_of("probewatch")
    return Job(folder.path, "ours", folder.settings, sources, None, b"probewatch", None, version)


def read(job: Job, index: int = 0) -> list[pa.Table]:
    return list(read_input(pa.table({"input": [index]}), job))


def test_a_node_that_sees_another_folder_or_has_another_version_says_so(folder: RunFolder, tmp_path: Path) -> None:
    there = job(folder, write(tmp_path / "a.jsonl", records(3)))
    with pytest.raises(OutputError, match=r"run: node \S+ does not see the folder of the run there; choose an --out"):
        replace(there, token="theirs").open_folder()
    with pytest.raises(OutputError, match="does not see the folder"):
        replace(there, folder=tmp_path / "nowhere").open_folder()
    with pytest.raises(UsageError, match=r"has probewatch .*: expected 9\.9\.9 as where the command runs"):
        replace(there, version="9.9.9").open_folder()


def test_a_node_with_another_bundle_or_none_says_so(folder: RunFolder, tmp_path: Path) -> None:
    there = job(folder, write(tmp_path / "a.jsonl", records(3)))
    with pytest.raises(BundleError, match=r"On node \S+: bundle .*nowhere"):
        replace(there, bundle=tmp_path / "nowhere").load_pipeline()
    with pytest.raises(BundleError, match="and catalogue none: expected ffff and none as where the command runs"):
        replace(there, settings=replace(there.settings, bundle_id="ffff")).load_pipeline()


def test_an_input_that_is_not_seen_or_differs_is_an_error_and_no_rejection(folder: RunFolder, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", records(3))
    there = job(folder, source, write(tmp_path / "b.jsonl", records(2)))
    write(source, records(4))
    (row,) = read(there)[0].to_pylist()
    assert row["failed"][0] == "3" and "a.jsonl: node " in row["failed"][1]
    assert "sees" in row["failed"][1] and row["part_id"] is None
    source.unlink()
    (row,) = read(there)[0].to_pylist()
    assert "does not see it; put inputs on storage that all nodes share" in row["failed"][1]
    assert LabelPart(there)(read(there)[0]).to_pylist()[0]["failed"] == row["failed"]


def test_rejections_name_the_input_as_the_user_wrote_it(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"PAR1 cut short")
    there = job(folder, write(tmp_path / "a.jsonl", [*records(2), "{broken"]), tmp_path / "b.parquet")
    rows = [row for index in (0, 1) for table in read(there, index) for row in table.to_pylist()]
    assert [(row["n_read"], row["n_rejected"], row["last"]) for row in rows] == [(3, 1, True), (1, 1, True)]
    said = "".join(path.read_text() for path in sorted((folder.path / "resume").glob("*.rejected.jsonl")))
    assert '"source": "a.jsonl"' in said and '"source": "b.parquet"' in said and str(tmp_path) not in said


def test_a_held_part_is_settled_without_what_earlier_parts_had(
    folder: RunFolder, pipeline: Pipeline, tmp_path: Path
) -> None:
    """The same prompt under two ids: merged, the unit stood for the event that is dropped."""
    same = [{**row, "prompt": "Please write a sonnet about rain.", "account_id": "a"} for row in records(3)]
    there = job(folder, write(tmp_path / "a.jsonl", [*same, same[1]]))
    (table,) = read(there)
    (row,) = LabelPart(there)(table).to_pylist()
    assert (row["n_read"], row["done"], row["last"], len(row["ids"])) == (4, False, True, 3 * 16)
    (again,) = read(there)
    assert not again["events"][0].is_valid  # held, so that it is not labelled twice
    assert LabelPart(there)(again).to_pylist()[0] | {"n_read": 4} == row
    settle_part(there, row["part_id"], [0])
    folder.place_labels(row["part_id"])
    (part,) = folder.part_ids(there.sources[0].file.digest)  # type: ignore[union-attr]
    facts = folder.facts(part)
    assert (facts.n_read, facts.n_labelled, facts.n_duplicates, facts.last) == (4, 2, 2, True)
    assert folder.event_ids(part) == ["e-1", "e-2"]
    label([str(write(tmp_path / "b.jsonl", same[1:]))], tmp_path / "alone", pipeline=pipeline)
    (expected,) = (tmp_path / "alone" / "evidence").glob("units-*.parquet")
    assert pq.read_table(folder.path / "evidence" / f"units-{part}.parquet").equals(pq.read_table(expected))
    (done,) = read(replace(there, sources=(replace(there.sources[0], done=(part,)),)))
    assert LabelPart(there)(done).to_pylist()[0]["ids"] == row["ids"][16:]


def test_a_part_that_kills_its_workers_ends_the_run(folder: RunFolder, tmp_path: Path) -> None:
    there = job(folder, write(tmp_path / "a.jsonl", records(3)))
    (table,) = read(there)
    (folder.held / f"{table['part_id'][0]}.attempts").write_bytes(b"." * MOST_ATTEMPTS)
    failed = LabelPart(there)(table).to_pylist()[0]["failed"]
    assert failed[0] == "5" and failed[1].startswith("4 workers died over the same part, most likely for")


def test_an_input_without_a_record_is_one_row(folder: RunFolder, tmp_path: Path) -> None:
    there = job(folder, write(tmp_path / "a.jsonl", ["", ""]), write(tmp_path / "b.jsonl", records(1)))
    (row,) = read(there)[0].to_pylist()
    assert (row["part_id"], row["last"], row["failed"]) == (None, True, None)
