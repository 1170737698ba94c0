"""Traffic in: every kind of bad record refused in its place, good ones kept, file formats and column types agreeing."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifier.errors import InputError, UsageError
from service.formats import FORMATS
from service.records import expand_inputs
from tests.reading import GOOD, NOON, Line, jsonl, parts_of, prompts, read, reasons


def one(tmp_path: Path, record: dict[str, object]) -> dict[str, object]:
    (event,) = read(jsonl(tmp_path / "one.jsonl", [{**GOOD, **record}])).events.to_pylist()
    return event  # type: ignore[no-any-return]


def test_a_plain_record(tmp_path: Path) -> None:
    record = {**GOOD, "event_id": "e-1", "timestamp": "2024-05-01T12:00:00Z", "system": "Be brief.", "model": "m"}
    assert one(tmp_path, record) == {
        "event_id": "e-1", "account_id": "acct-1", "timestamp": NOON, "system": "Be brief.",
        "prompt": "Plan a week of meals.", "supplied_id": True, "model": "m", "org_id": None, "end_user_id": None,
    }  # fmt: skip


def test_missing_id_is_digest_and_line_and_missing_time_is_the_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [GOOD, b"", b"  \r", {**GOOD, "account_id": 7, "event_id": 0}])
    (file,) = expand_inputs([str(path)])
    part = read(path)
    assert part.part_id == f"{file.digest[:16]}-000000"
    assert part.events["event_id"].to_pylist() == [f"{file.digest[:16]}:1", "0"]
    assert part.events["supplied_id"].to_pylist() == [False, True]
    assert part.events["account_id"].to_pylist() == ["acct-1", "7"]
    assert part.events["timestamp"].cast(pa.int64()).to_pylist() == [1, 4]


def test_messages_give_system_texts_tools_and_the_last_user_turn(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "House rules."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "developer", "content": [{"type": "text", "text": "Use metric."}]},
        {"role": "user", "content": ["second", {"type": "image", "url": "x"}, {"type": "text", "text": "third"}]},
        {"role": "tool", "content": {"any": "thing"}},
    ]
    event = one(tmp_path, {"prompt": None, "messages": messages, "system": "Top.", "tools": [{"name": "ls"}]})
    assert event["prompt"] == "second\nthird"
    assert event["system"] == 'Top.\nHouse rules.\nUse metric.\n[{"name":"ls"}]'
    assert one(tmp_path, {"prompt": "", "messages": json.dumps(messages)})["prompt"] == "second\nthird"


REFUSED: list[tuple[Line, str]] = [
    (b'{"account_id": "a", "prompt": "x"', "the line is not valid JSON"),
    (b'{"account_id": "a", "prompt": NaN}', "the line is not valid JSON"),
    (b"[" * 5_000, "the line is not valid JSON"),
    (b'{"account_id": "a", "prompt": "\xff"}', "the line is not valid UTF-8"),
    (b'[{"account_id": "a"}]', "the record is a list, expected an object"),
    (b'"text"', "the record is text, expected an object"),
    (
        b'{"text": "x"}',
        f"the record has the shape of no known format, expected one of {', '.join(FORMATS)}",
    ),
    ({"account_id": "a"}, "prompt and messages are missing, expected one of them"),
    ({"prompt": "x"}, "account_id is missing or empty, expected an account: name its field with --account-field"),
    (
        {**GOOD, "account_id": None},
        "account_id is missing or empty, expected an account: name its field with --account-field",
    ),
    (
        {**GOOD, "account_id": " \u3000"},
        "account_id is missing or empty, expected an account: name its field with --account-field",
    ),
    ({**GOOD, "account_id": True}, "account_id is a boolean, expected text or an integer"),
    ({**GOOD, "account_id": 1.5}, "account_id is a number, expected text or an integer"),
    ({**GOOD, "account_id": "a\0b"}, "account_id holds a NUL byte, expected text without"),
    ({**GOOD, "event_id": "\0"}, "event_id holds a NUL byte, expected text without"),
    ({**GOOD, "account_id": "\ud800"}, "account_id holds a lone surrogate, expected valid Unicode"),
    ({**GOOD, "event_id": "e\udfff"}, "event_id holds a lone surrogate, expected valid Unicode"),
    ({**GOOD, "event_id": "\u00e9" * 513}, "event_id is too long, expected at most 1,024 bytes"),
    ({**GOOD, "event_id": []}, "event_id is a list, expected text or an integer"),
    ({**GOOD, "prompt": 5}, "prompt is a number, expected text"),
    ({**GOOD, "prompt": ["x"]}, "prompt is a list, expected text"),
    ({**GOOD, "prompt": ""}, "prompt is empty, expected text"),
    ({**GOOD, "prompt": "\n\t \u2003"}, "prompt is empty, expected text"),
    ({**GOOD, "system": 5}, "system is a number, expected text or a list of parts"),
    ({**GOOD, "tools": 5}, "tools is a number, expected a list"),
    ({**GOOD, "timestamp": "soon"}, "timestamp is unreadable, expected ISO 8601 or an epoch, within 1990 to 2100"),
    ({**GOOD, "timestamp": 12}, "timestamp is unreadable, expected ISO 8601 or an epoch, within 1990 to 2100"),
    ({**GOOD, "model": 5}, "model is a number, expected text"),
    ({**GOOD, "org_id": {}}, "org_id is an object, expected text or an integer"),
    ({**GOOD, "attributes": [1]}, "attributes is a list, expected an object"),
    ({"account_id": "a", "messages": "hi"}, "messages is text that is not valid JSON, expected a list or an object"),
    ({"account_id": "a", "messages": {}}, "messages is an object, expected a list"),
    ({"account_id": "a", "messages": ["hi"]}, "a message has no role, expected objects with role and content"),
    ({"account_id": "a", "messages": []}, "messages holds no user turn with text, expected one"),
    (
        {"account_id": "a", "messages": [{"role": "user", "content": 5}]},
        "content is a number, expected text or a list of parts",
    ),
    (
        {"account_id": "a", "messages": [{"role": "user", "content": [None]}]},
        "a part of content is null, expected text or an object with text",
    ),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_a_bad_line_is_refused_and_its_neighbours_are_kept(tmp_path: Path, line: bytes, reason: str) -> None:
    part = read(jsonl(tmp_path / "x.jsonl", [GOOD, line, {**GOOD, "prompt": "next"}]))
    assert reasons(part) == [(2, reason)]
    assert part.rejected[0].source == str(tmp_path / "x.jsonl")
    assert prompts(part) == [GOOD["prompt"], "next"]


def test_surrogates_in_prompts_are_replaced_and_nul_is_data(tmp_path: Path) -> None:
    event = one(tmp_path, {"prompt": "a\ud800b\0c \U0001f600", "system": "\udc00", "tools": ["\ud800"]})
    assert event["prompt"] == "a\ufffdb\0c \U0001f600"
    assert event["system"] == '\ufffd\n["\ufffd"]'


def test_long_prompts_and_overlong_lines(tmp_path: Path) -> None:
    long = "x" * (10 << 20)
    lines: list[Line] = [{**GOOD, "prompt": long}, {**GOOD, "prompt": long * 2}, b"y" * ((64 << 20) + 1), GOOD]
    (first, second) = parts_of(jsonl(tmp_path / "x.jsonl", lines), rows_per_part=3)
    assert prompts(first) == [long]
    assert reasons(first) == [
        (2, "prompt is too long, expected at most 16,777,216 bytes"),
        (3, "the line is too long, expected at most 67,108,864 bytes"),
    ]
    assert prompts(second) == [GOOD["prompt"]]


def test_byte_order_marks(tmp_path: Path) -> None:
    line = json.dumps(GOOD).encode()
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + line)
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfaccount_id,prompt\na,b")
    (tmp_path / "y.jsonl").write_bytes(line.decode().encode("utf-16"))
    assert prompts(read(tmp_path / "x.jsonl")) == [GOOD["prompt"]]
    assert prompts(read(tmp_path / "x.csv")) == ["b"]
    with pytest.raises(InputError, match="is UTF-16: expected UTF-8"):
        parts_of(tmp_path / "y.jsonl")


def test_a_truncated_stream_gives_what_precedes_and_one_rejection(tmp_path: Path) -> None:
    lines = b"".join(
        json.dumps({**GOOD, "prompt": f"{number} {number**9:x}"}).encode() + b"\n" for number in range(5_000)
    )
    packed = gzip.compress(lines)
    (tmp_path / "x.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    part = read(tmp_path / "x.jsonl.gz")
    assert prompts(part) == [f"{number} {number**9:x}" for number in range(len(part.events))]
    assert 1_000 < len(part.events) < 4_000
    assert [line for line, _ in reasons(part)] == [len(part.events) + 1]
    assert "ends early" in part.rejected[0].reason


def test_depth_is_refused_or_kept_and_never_the_end_of_the_file(tmp_path: Path) -> None:
    deep = b'{"account_id": "a", "prompt": "deep", "tools": ' + b"[" * 1015 + b"]" * 1015 + b"}"
    part = read(jsonl(tmp_path / "x.jsonl", [deep, GOOD]))
    assert part.n_read == 2
    assert prompts(part)[-1] == GOOD["prompt"]
    assert all(reason == "tools is nested too deeply, expected a list of definitions" for _, reason in reasons(part))


def test_times_in_five_shapes_and_in_none(tmp_path: Path) -> None:
    times: list[object] = ["2024-05-01T12:00:00Z", "2024-05-01T14:00:00+02:00", "2024-05-01 12:00:00", 1714564800, None]
    times += [1714564800000, "1714564800000000", "2024-05-01"]
    events = read(jsonl(tmp_path / "x.jsonl", [{**GOOD, "timestamp": time} for time in times])).events
    in_order = datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    assert events["timestamp"].to_pylist() == [NOON] * 4 + [in_order] + [NOON] * 2 + [NOON.replace(hour=0)]


def test_a_csv_stream_that_ends_inside_quotes_is_one_rejection(tmp_path: Path) -> None:
    rows = "account_id,prompt\n" + "".join(f'a,"turn {number}\n{number**9:x}"\n' for number in range(5_000))
    packed = gzip.compress(rows.encode())
    for cut in range(len(packed) // 2, len(packed) // 2 + 40):
        (tmp_path / "x.csv.gz").write_bytes(packed[:cut])
        part = read(tmp_path / "x.csv.gz")
        assert prompts(part) == [f"turn {number}\n{number**9:x}" for number in range(len(part.events))]
        assert [line for line, _ in reasons(part)] == [2 + 2 * len(part.events)]


def test_csv_quotes_newlines_wrong_widths_and_encodings(tmp_path: Path) -> None:
    rows = [
        b"account_id , prompt,note", b'a,"one\n""two"", three\r\n",', b"a,short", b"a,b,c,d",
        b"", b"a,\xff,", b",no account,",
        b'a,"' + b"w" * 200_000 + b'",', b'a,"never closed,', b'b,"fine, again",', b'a,"x"y,', b"a,last,",
    ]  # fmt: skip
    (tmp_path / "x.csv").write_bytes(b"\r\n".join(rows))
    part = read(tmp_path / "x.csv")
    assert prompts(part) == ['one\n"two", three\r\n', "w" * 200_000, "fine, again", "last"]
    assert part.events["timestamp"].cast(pa.int64()).to_pylist() == [2, 10, 12, 14]
    assert reasons(part) == [
        (5, "the row has 2 cells, expected 3 as in the header"),
        (6, "the row has 4 cells, expected 3 as in the header"),
        (8, "the record is not valid UTF-8"),
        (9, "account_id is missing or empty, expected an account: name its field with --account-field"),
        (11, "the quotes of a CSV record do not match, expected RFC 4180"),
        (13, "the quotes of a CSV record do not match, expected RFC 4180"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "x.csv",
            b"account_id;prompt\na;b\n",
            "has the columns of no known format: expected one of litellm .messages or",
        ),
        ("x.csv", b"account_id,text\na,b\n", "has no column prompt or messages"),
        ("x.csv", b"prompt,account_id,prompt\na,b,c\n", "has 1 column names more than once"),
        ("x.csv", b"account_id,\xff\na,b\n", "has an unreadable header"),
        ("x.parquet", b"PAR1 and no more", "is not a readable Parquet file"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        parts_of(tmp_path / name)


def test_unknown_format_and_headers_without_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"account_id,prompt\n")
    pq.write_table(
        pa.table({"account_id": pa.array([], pa.string()), "prompt": pa.array([], pa.string())}), tmp_path / "x.parquet"
    )
    assert parts_of(tmp_path / "x.csv") == parts_of(tmp_path / "x.parquet") == []
    with pytest.raises(UsageError, match="--format got 'xml': expected one of auto, litellm"):
        parts_of(tmp_path / "x.csv", format="xml")


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_cell = {
    "account_id": st.one_of(_text, st.just("a")),
    "prompt": st.one_of(_text, st.just("hello")),
    "event_id": _text.map(lambda text: f"e{text}"),
    "timestamp": st.sampled_from(
        ["2024-05-01", "1714564800", "2024-05-01T12:00:00+02:00", "2024-05-01 12:00:00.5", "soon"]
    ),
    "system": _text,
    "attributes": st.sampled_from(["", "{}", "[]", "{"]),
}


def write_csv(path: Path, records: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(_cell), quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(records=st.lists(st.fixed_dictionaries(_cell), min_size=1, max_size=12))
def test_the_same_records_in_every_file_format_are_the_same_events(
    tmp_path: Path, records: list[dict[str, str]]
) -> None:
    lines = b"".join(orjson.dumps(record) + b"\n" for record in records)
    (tmp_path / "x.jsonl").write_bytes(lines)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "x.ndjson.zst").write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    write_csv(tmp_path / "x.csv", records)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "x.parquet")
    expected = read(tmp_path / "x.jsonl")
    for name in ("x.jsonl.gz", "x.ndjson.zst", "x.csv", "x.parquet"):
        part = read(tmp_path / name)
        assert part.events.equals(expected.events), name
        assert [rejection.reason for rejection in part.rejected] == [
            rejection.reason for rejection in expected.rejected
        ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    lines=st.lists(st.one_of(st.none(), st.binary(max_size=20).filter(lambda line: b"\n" not in line)), max_size=30),
    rows_per_part=st.integers(1, 7),
)
def test_good_records_among_garbage_come_out_in_order(
    tmp_path: Path, lines: list[bytes | None], rows_per_part: int
) -> None:
    good = {number: {**GOOD, "prompt": f"p{number}"} for number, line in enumerate(lines) if line is None}
    path = jsonl(tmp_path / "x.jsonl", [GOOD, *(good[n] if line is None else line for n, line in enumerate(lines))])
    parts = parts_of(path, rows_per_part)
    n_records = 1 + sum(line is None or not (not line or line.isspace()) for line in lines)
    assert [part.n_read for part in parts[:-1]] == [rows_per_part] * (len(parts) - 1)
    assert sum(part.n_read for part in parts) == sum(len(p.events) + len(p.rejected) for p in parts) == n_records
    assert [prompt for part in parts for prompt in prompts(part)][1:] == [f"p{number}" for number in good]


def test_a_million_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes((json.dumps(GOOD).encode() + b"\n") * 1_000_000)
    assert [part.n_read for part in parts_of(path)] == [65_536] * 15 + [1_000_000 - 15 * 65_536]
