"""Tables in: the columns of Parquet in every type that holds text or time, and parts that do not follow row groups."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.errors import InputError
from service.columns import read_table
from service.formats import FORMATS, reading
from tests.reading import NOON, parts_of, prompts, read, reasons


def test_parquet_truncated_or_without_a_column(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"account_id": ["a"], "text": ["b"]}), path)
    with pytest.raises(InputError, match="has no column prompt or messages"):
        parts_of(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated or corrupt"):
        parts_of(path)


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary(), pa.large_binary()],
    ids=str,
)
def test_parquet_text_types_agree(tmp_path: Path, kind: pa.DataType) -> None:
    table: dict[str, list[str | None]] = {
        "account_id": ["a", "", "b", None],
        "prompt": ["one", "two", " ", "four"],
        "event_id": ["x", "y", "", None],
    }
    pq.write_table(
        pa.table({name: pa.array(values, pa.string()).cast(kind) for name, values in table.items()}),
        tmp_path / "x.parquet",
    )
    part = read(tmp_path / "x.parquet")
    assert part.events.select(["event_id", "account_id", "prompt"]).to_pylist() == [
        {"event_id": "x", "account_id": "a", "prompt": "one"}
    ]
    assert [line for line, _ in reasons(part)] == [2, 3, 4]


def test_parquet_columns_of_other_types(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "from turns"}], None, None]
    raw = pa.array([b"\xff", b"fine", b"\xff"], pa.binary()).cast(pa.binary()).view(pa.string())
    table = pa.table({
        "account_id": pa.array([1, 2, 3], pa.uint16()), "prompt": pa.array([None, "two", "three"]),
        "messages": messages, "timestamp": pa.array([NOON, None, NOON], pa.timestamp("ns")), "system": raw,
        "attributes": [{"k": 1}] * 3,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet")
    part = read(tmp_path / "x.parquet")
    assert part.events.select(["account_id", "system", "prompt"]).to_pylist() == [
        {"account_id": "2", "system": "fine", "prompt": "two"}
    ]
    assert reasons(part) == [
        (row, "system is text that is not valid UTF-8, expected text or a list of parts") for row in (1, 3)
    ]
    pq.write_table(table.drop_columns(["system"]), tmp_path / "x.parquet")
    events = read(tmp_path / "x.parquet").events
    assert events["prompt"].to_pylist() == ["from turns", "two", "three"]
    assert events["timestamp"].to_pylist() == [NOON, datetime(1970, 1, 1, 0, 0, 0, 2, tzinfo=UTC), NOON]


@pytest.mark.parametrize("group", [1, 7, 100])
def test_part_boundaries_do_not_depend_on_how_the_file_is_laid_out(tmp_path: Path, group: int) -> None:
    table = pa.table({"account_id": ["a"] * 25, "prompt": [f"p{number}" for number in range(25)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=group)
    parts = parts_of(tmp_path / "x.parquet", rows_per_part=10)
    assert [part.n_read for part in parts] == [10, 10, 5]
    assert [part.part_id[-7:] for part in parts] == ["-000000", "-000001", "-000002"]
    assert parts[2].events["timestamp"].cast(pa.int64()).to_pylist() == [21, 22, 23, 24, 25]
    assert [prompt for part in parts for prompt in prompts(part)] == table["prompt"].to_pylist()


def test_blank_means_the_same_in_a_column_as_in_a_record() -> None:
    texts = [f"{chr(code)} " for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    table = {"account_id": pa.array(["a"] * len(texts)), "prompt": pa.array(texts)}
    events, refused = read_table(table, np.arange(len(texts)), FORMATS["plain"], reading())
    assert [texts[row] for row in events.row] == [text for text in texts if not text.isspace()]
    assert {reason for _, reason in refused} == {"prompt is empty, expected text"}
