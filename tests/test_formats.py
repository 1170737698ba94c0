"""Formats in: golden files of every format and its traps, one conversation in all of them, and which field is the
account."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.errors import UsageError
from service.formats import FORMATS, reading, recognised
from service.records import Part, expand_inputs, read_parts
from tests.command import Ran
from tests.reading import jsonl, prompts, reasons
from tests.runs import counts_of, records, write

GOLDEN = Path(__file__).parent / "golden" / "formats"
FILES = sorted(path for path in GOLDEN.rglob("*") if path.suffix in (".jsonl", ".csv"))


def read(path: Path, format: str = "auto", account_field: str = "auto") -> Part:
    (file,) = expand_inputs([str(path)])
    (part,) = read_parts(file, format, account_field=account_field)
    assert part.n_read == len(part.events) + len(part.rejected)
    return part


def events_of(path: Path, part: Part) -> list[dict[str, Any]]:
    (file,) = expand_inputs([str(path)])
    names = ("event_id", "account_id", "timestamp", "system", "prompt")
    rows = [{name: row[name] for name in names} for row in part.events.to_pylist()]
    for row in rows:
        row["event_id"] = row["event_id"].replace(file.digest[:16], "DIGEST")
        row["timestamp"] = row["timestamp"].isoformat()
    return rows


def test_every_format_has_golden_files() -> None:
    found = {path.relative_to(GOLDEN).as_posix() for path in FILES}
    assert found >= {f"{name}/conversation.jsonl" for name in FORMATS}
    assert found >= {f"{name}/traps.jsonl" for name in FORMATS if name != "plain"}


@pytest.mark.parametrize("how", ["auto", "named"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GOLDEN).as_posix())
def test_golden(path: Path, how: str) -> None:
    expected = json.loads(path.with_name(f"{path.name}.expected.json").read_text(encoding="utf-8"))
    part = read(path, "auto" if how == "auto" else path.parent.name)
    assert events_of(path, part) == expected["events"]
    assert [list(reason) for reason in reasons(part)] == expected["rejected"]


def test_one_conversation_is_the_same_event_in_every_format() -> None:
    events = [(path.parent.name, event) for path in FILES if path.stem == "conversation"
              for event in events_of(path, read(path))]  # fmt: skip
    assert {name for name, _ in events} == set(FORMATS) and len(events) == 30
    texts = {(event["account_id"], event["timestamp"], event["system"], event["prompt"]) for _, event in events}
    tool = (
        '[{"name":"look_up","description":"Look up what stands on a shelf.","parameters":{"type":"object",'
        '"properties":{"shelf":{"type":"integer"}},"required":["shelf"]}}]'
    )
    system = f"Answer as a patient librarian.\n{tool}"
    assert texts == {("reader-7", "2026-05-01T10:00:00+00:00", system, "And the sea charts of the north?\nList two.")}


def test_formats_mix_in_one_file(tmp_path: Path) -> None:
    lines = [path.read_text(encoding="utf-8") for path in FILES if path.stem == "conversation"]
    (tmp_path / "x.jsonl").write_text("".join(lines), encoding="utf-8")
    part = read(tmp_path / "x.jsonl")
    assert (len(part.events), part.rejected) == (30, [])


def test_the_spans_of_a_line_are_counted_one_by_one_and_a_part_keeps_a_line_whole(tmp_path: Path) -> None:
    line = json.loads((GOLDEN / "anthropic" / "conversation.jsonl").read_text(encoding="utf-8").splitlines()[3])
    (file,) = expand_inputs([str(jsonl(tmp_path / "x.jsonl", [line, line, line]))])
    parts = list(read_parts(file, rows_per_part=3))
    assert [(part.part_id[-2:], part.n_read) for part in parts] == [("00", 4), ("01", 2)]
    ids = [name for part in parts for name in part.events["event_id"].to_pylist()]
    assert ids == [f"{file.digest[:16]}:{row}:{nth}" for row in (1, 2, 3) for nth in (1, 2)]


# --- which field is the account ---------------------------------------------------------------------------------------

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Good morning."}]}


@pytest.mark.parametrize(
    ("record", "paths", "account"),
    [
        ({**REQUEST, "metadata": {"team": "t1"}}, "metadata.team", "t1"),
        ({**REQUEST, "metadata": '{"team": "t1"}'}, "metadata.team", "t1"),
        ({**REQUEST, "user": "u", "metadata": {"team": ""}}, "metadata.team, user", "u"),
        ({**REQUEST, "user": "u", "metadata": {"team": 7}}, "metadata.team,user", "7"),
        ({"key": "wrapper", "request": {**REQUEST, "key": "inner"}}, "key", "wrapper"),
        ({"request": {**REQUEST, "key": "inner"}}, "key", "inner"),
        ({"headers": {"x.customer.id": "c"}, "request": REQUEST}, "headers.x.customer.id", "c"),
        ({"account_id": "a", "org_id": "o", "prompt": "Good morning."}, "org_id", "o"),
    ],
)
def test_the_account_is_where_the_option_says(tmp_path: Path, record: dict[str, Any], paths: str, account: str) -> None:
    part = read(jsonl(tmp_path / "x.jsonl", [record]), account_field=paths)
    assert part.events["account_id"].to_pylist() == [account]


def test_attributes_of_spans_and_of_their_resource_can_be_the_account(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text((GOLDEN / "otel" / "conversation.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n")
    for field in ("service.name", "gen_ai.request.model"):
        assert len(set(read(path, account_field=field).events["account_id"].to_pylist())) == 1


@pytest.mark.parametrize("fields", ["customer", "customer, account_id"])
def test_the_account_of_a_table(tmp_path: Path, fields: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("customer,prompt,account_id\nc1,one,a\nc2,two,a\n,three,\n")
    part = read(path, account_field=fields)
    assert part.events["account_id"].to_pylist() == ["c1", "c2"] and prompts(part) == ["one", "two"]
    assert [row for row, _ in reasons(part)] == [4]


def test_a_record_without_account_names_the_fields_and_the_option(tmp_path: Path) -> None:
    part = read(jsonl(tmp_path / "x.jsonl", [REQUEST]), account_field="metadata.team,user")
    assert reasons(part) == [
        (1, "metadata.team and user are missing or empty, expected an account: name its field with --account-field")
    ]
    with pytest.raises(UsageError, match="--account-field got 'user,'"):
        reading("auto", "user,")


def test_the_account_field_is_a_setting_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"user": f"u{i % 3}", "prompt_id": i, **REQUEST, "metadata": {"team": "t"}} for i in range(30)]
    path, out = write(tmp_path / "x.jsonl", rows), tmp_path / "run"
    options = ("--account-field", "metadata.team", "--account-field", "user")
    assert Ran(capsys, "label", path, "--out", out, "--quiet", "--workers", 1, *options).code == 0
    assert json.loads((out / "run.json").read_text())["settings"]["account_field"] == "metadata.team,user"
    assert json.loads((out / "run.json").read_text())["counts"]["accounts"] == 1
    again = Ran(capsys, "label", path, "--out", out, "--quiet")
    assert again.code == 5 and "was labelled with account field metadata.team,user, this run has auto" in again.sentence


# --- bad rows ---------------------------------------------------------------------------------------------------------

Bad = Callable[[dict[str, Any]], object]


def without(name: str) -> Bad:
    return lambda row: {key: value for key, value in row.items() if key != name}


def having(**changes: object) -> Bad:
    return lambda row: {**row, **changes}


ANY_BAD: list[Bad] = [
    lambda row: json.dumps(row).encode()[:-9],
    lambda row: b"\xff\xfe" + json.dumps(row).encode(),
    lambda row: b"not JSON at all",
    lambda row: [row],
    lambda row: "text",
    lambda row: None,
    lambda row: 5,
    lambda row: json.dumps(row).replace("}", ',"x": NaN}', 1).encode(),
]
PLAIN_BAD: list[Bad] = [
    *ANY_BAD,
    *(
        without("account_id"),
        without("prompt"),
        having(account_id=""),
        having(account_id=[1]),
        having(account_id="a\0"),
    ),
    *(having(prompt=""), having(prompt=" \n"), having(prompt=["x"]), having(timestamp="soon"), having(timestamp=12)),
    *(having(event_id={}), having(system=5), having(attributes=[1]), having(event_id="e" * 1025)),
]
OPENAI_BAD: list[Bad] = [
    *ANY_BAD,
    *(without("user"), without("messages"), having(user=""), having(user={"id": 1}), having(user="\ud800")),
    *(having(messages=[]), having(messages={}), having(messages="hello"), having(messages=["hello"])),
    having(messages=[{"content": "no role"}]),
    having(messages=[{"role": "user", "content": 5}]),
    having(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    having(messages=[{"role": "assistant", "content": "only the answer"}]),
    *(having(created="soon"), having(tools=5)),
    lambda row: {"custom_id": "r", "response": {"body": {}}, "error": None},
    lambda row: {"object": "chat.completion.chunk", "choices": []},
    lambda row: {"custom_id": "r", "url": "/v1/embeddings", "body": {"input": "x", "user": "u"}},
]


def openai_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "m",
        "user": row["account_id"],
        "created": row["timestamp"],
        "messages": [{"role": "user", "content": row["prompt"]}],
    }


@pytest.mark.parametrize(("shape", "ways"), [(dict, PLAIN_BAD), (openai_row, OPENAI_BAD)], ids=["plain", "openai"])
def test_bad_rows_are_refused_with_a_reason_and_all_others_are_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: Callable[[Any], dict[str, Any]], ways: list[Bad]
) -> None:
    """1 % of the rows, broken in 20 ways and more."""
    assert len(ways) >= 20
    rows = [shape(row) for row in records(100 * len(ways))]
    broken = dict(zip(sorted(random.Random(5).sample(range(len(rows)), len(ways))), ways, strict=True))
    lines = [broken[i](row) if i in broken else row for i, row in enumerate(rows)]
    path, out = tmp_path / "x.jsonl", tmp_path / "run"
    path.write_bytes(b"".join((b if isinstance(b, bytes) else json.dumps(b).encode()) + b"\n" for b in lines))
    assert Ran(capsys, "label", path, "--out", out, "--quiet", "--workers", 1).code == 0
    n = len(broken)
    assert counts_of(out) == {"read": 100 * n, "labelled": 99 * n, "rejected": n, "duplicates": 0}
    refused = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [one["line"] for one in refused] == [i + 1 for i in broken]
    assert all(set(one) == {"source", "line", "reason"} and len(one["reason"]) > 10 for one in refused)


def test_recognition_does_not_depend_on_what_columns_hold() -> None:
    for path in FILES:
        if path.suffix == ".csv":
            names = path.read_text(encoding="utf-8").splitlines()[0].split(",")
            found = recognised(dict.fromkeys(names))
            assert found is not None and found.name == path.parent.name


ODD: list[Any] = [None, True, 5, -1.5, 10**30, "", " ", "x", "[", "{}", "[{}]", [], [None], [[]], [5], {}, {"a": 1}]


def with_odd_value(record: Any, random_: random.Random) -> Any:
    """The record with one of its values, however deep, or one of its keys' names replaced."""
    if not isinstance(record, dict | list) or not record or random_.random() < 0.15:
        return random_.choice([*ODD, [ODD[-1]], {"stringValue": 5}])
    key = random_.choice(list(record) if isinstance(record, dict) else range(len(record)))
    changed = record.copy()
    changed[key] = with_odd_value(record[key], random_)
    return changed


@pytest.mark.parametrize("name", FORMATS)
def test_no_value_in_any_place_is_more_than_a_bad_record(tmp_path: Path, name: str) -> None:
    random_, lines = random.Random(name), []
    for path in (GOLDEN / name).glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            lines += [with_odd_value(with_odd_value(record, random_), random_) for _ in range(40)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    for format in ("auto", name):
        part = read(path, format)
        assert part.n_read >= len(lines) and {line for line, _ in reasons(part)} <= set(range(1, len(lines) + 1))


ROWS = [
    (path.parent.name, json.loads(line))
    for path in FILES
    if path.name == "conversation.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines()
    if not line.startswith(('{"resource', '{"requests"'))
]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ROWS)])
def test_a_record_is_the_same_event_as_a_row_of_a_table(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    """With structure as JSON text."""
    flat = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items() if value is not None
    }
    pq.write_table(pa.Table.from_pylist([flat]), tmp_path / "flat.parquet")
    with (tmp_path / "flat.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(flat))
        writer.writeheader()
        writer.writerow(flat)
    path = jsonl(tmp_path / "x.jsonl", [row])
    expected = [{**event, "event_id": ""} for event in events_of(path, read(path))]
    for table in ("flat.parquet", "flat.csv"):
        part = read(tmp_path / table)
        assert reasons(part) == [], table
        assert [{**event, "event_id": ""} for event in events_of(tmp_path / table, part)] == expected, (table, name)


def test_nested_columns_of_parquet_are_read_as_records(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Good morning."}]
    body = {"model": "m", "messages": turns, "user": "u", "metadata": {"team": "t"}, "tools": [{"name": "look_up"}]}
    for name, row in {
        "bare": body,
        "pair": {"request": body, "response": {"id": "r", "created": 1777629600}},
        "langfuse": {"id": "r", "traceId": "t", "userId": "u", "type": "GENERATION", "input": body},
        "litellm": {"id": "r", "call_type": "completion", "messages": turns, "end_user": "u", "model_parameters": body},
        "otel": {"span_id": "s", "trace_id": "t", "attributes": {"user.id": "u", "gen_ai.prompt": turns}},
    }.items():
        pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / f"{name}.parquet")
        part = read(tmp_path / f"{name}.parquet")
        assert (prompts(part), part.rejected) == (["Good morning."] * 2, []), name
        assert part.events["account_id"].to_pylist() == ["u", "u"]
        tools = "" if name == "otel" else '\n[{"name":"look_up"}]'
        assert part.events["system"].to_pylist() == [f"Be brief.{tools}"] * 2
