"""service/weighing.py: shards change nothing, and a part that is damaged is said to be."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.errors import OutputError
from classifier.pipeline import Pipeline
from service import findings, weighing
from service.batch import label

SAMPLE = data_dir() / "sample" / "traffic.jsonl"
TABLES = ("accounts", "campaigns", "discovered", "evidence/counts")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@pytest.fixture
def run(pipeline: Pipeline, tmp_path: Path) -> Path:
    label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, population=1000)
    return tmp_path / "run"


def test_many_shards_say_what_one_does(run: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: pq.read_table(run / f"{name}.parquet") for name in TABLES}
    assert whole["accounts"].num_rows == 47
    monkeypatch.setattr(weighing, "SHARD_PROMPTS", 100)
    monkeypatch.setattr(findings, "USES_AT_ONCE", 10)
    n_shards = []
    split = weighing.split_units

    def counted(*arguments: object) -> list[Path]:
        paths = split(*arguments)  # type: ignore[arg-type]
        n_shards.append(len(paths))
        return paths

    monkeypatch.setattr(findings, "split_units", counted)
    label([str(SAMPLE)], run, pipeline=pipeline, population=1000)
    assert n_shards[0] > 10
    assert {name: pq.read_table(run / f"{name}.parquet") for name in TABLES} == whole


def test_more_shards_than_files_may_be_open_are_made_larger(
    run: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pq.read_table(run / "accounts.parquet")
    monkeypatch.setattr(weighing, "SHARD_PROMPTS", 1)
    monkeypatch.setattr(weighing, "MOST_SHARDS", 3)
    label([str(SAMPLE)], run, pipeline=pipeline, population=1000)
    assert pq.read_table(run / "accounts.parquet") == whole


def test_a_damaged_part_is_one_sentence(run: Path, pipeline: Pipeline) -> None:
    (part,) = (run / "evidence").glob("units-*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(OutputError, match="a part cannot be read"):
        label([str(SAMPLE)], run, pipeline=pipeline, population=1000)
