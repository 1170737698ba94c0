"""Object stores, on a real S3 server: what is found, that it reads as local files do, and what errors say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.errors import InputError
from service import places
from service.inputs import InputFile, expand_inputs
from service.places import Place, RemotePath, StoreError, place_of
from service.records import Part, read_parts
from tests.command import Ran
from tests.object_stores import Store, running_store
from tests.reading import GOOD, parts_of
from tests.runs import counts_of, records

moto_server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'probewatch[dev]'")
LINES = b"".join(json.dumps({**GOOD, "prompt": f"p{number}"}).encode() + b"\n" for number in range(2_000))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    places._filesystem.cache_clear()
    with running_store(moto_server) as running:
        yield running


def keys(uris: list[str]) -> list[str]:
    return [file.path.key for file in expand_inputs(uris) if isinstance(file.path, RemotePath)]


def test_prefixes_and_globs_find_what_folders_and_globs_do(store: Store) -> None:
    names = ("a/1.jsonl", "a/b/2.csv", "a/b/3.jsonl.gz", "a/notes.txt", "a/.tmp/4.jsonl", "c/5.jsonl", "c/[6].jsonl")
    for name in names:
        store.put(name, name.encode())

    def found(pattern: str) -> list[str]:
        return [key.removeprefix("gateway-logs/") for key in keys([store.uri(pattern)])]

    assert found("a/") == found("a") == ["a/1.jsonl", "a/b/2.csv", "a/b/3.jsonl.gz"]
    assert found("") == ["a/1.jsonl", "a/b/2.csv", "a/b/3.jsonl.gz", "c/5.jsonl", "c/[6].jsonl"]
    assert found("a/*.jsonl") == ["a/1.jsonl"]
    assert found("*/*.jsonl") == ["a/1.jsonl", "c/5.jsonl", "c/[6].jsonl"]
    assert found("a/**/*.jsonl*") == ["a/1.jsonl", "a/b/3.jsonl.gz"]
    assert found("c/[!0-4].jsonl") == ["c/5.jsonl"]
    assert found("c/5.jsonl") == ["c/5.jsonl"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_an_object_reads_as_the_same_file_here(store: Store, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in LINES.splitlines()]), path)
    else:
        path.write_bytes(gzip.compress(LINES) if name.endswith("gz") else LINES)
    (remote,) = expand_inputs([store.put(f"traffic/{name}", path.read_bytes())])
    (local,) = expand_inputs([str(path)])
    assert (remote.digest, remote.size, remote.kind) == (local.digest, local.size, local.kind)
    (part,), (expected,) = list(read_parts(remote)), parts_of(path)
    assert part.part_id == expected.part_id and part.events.equals(expected.events) and len(part.events) == 2_000


def test_a_damaged_stream_in_a_store_gives_what_precedes(store: Store, tmp_path: Path) -> None:
    packed = gzip.compress(LINES)
    (tmp_path / "x.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (file,) = expand_inputs([store.put("x.jsonl.gz", packed[: len(packed) // 2])])
    ((part,), (expected,)) = list(read_parts(file)), parts_of(tmp_path / "x.jsonl.gz")
    assert part.events.equals(expected.events) and 0 < len(part.events) < 2_000
    assert [rejection.reason for rejection in part.rejected] == [rejection.reason for rejection in expected.rejected]


def test_label_reads_a_store_and_goes_on_with_it(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for day in (1, 2):
        rows = records(20, start=20 * day)
        store.put(f"2026/{day}.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    out = tmp_path / "run"
    for uri in ("s3://gateway-logs/2026/1.jsonl", "s3://gateway-logs/2026/"):
        assert Ran(capsys, "label", uri, "--out", out, "--quiet", "--workers", 1).code == 0
    assert counts_of(out) == {"read": 40, "labelled": 40, "rejected": 0, "duplicates": 0}
    inputs = json.loads((out / "run.json").read_text())["inputs"]
    assert [item["path"] for item in inputs] == ["s3://gateway-logs/2026/1.jsonl", "s3://gateway-logs/2026/2.jsonl"]
    store.put("2026/1.jsonl", b'{"account_id": "a", "prompt": "another"}\n')
    again = Ran(capsys, "label", "s3://gateway-logs/2026/", "--out", out, "--quiet")
    assert again.code == 5 and "s3://gateway-logs/2026/1.jsonl has changed since it was labelled" in again.sentence


def test_what_a_store_refuses_is_an_input_error_that_says_why(store: Store) -> None:
    store.put("a/x.jsonl", LINES)
    store.put("a/notes.txt", b"x")
    for uri, sentence in [
        (store.uri("a/", bucket="no-such-bucket"), "has no such bucket: check its name"),
        (store.uri("b/"), "names no object of traffic"),
        (store.uri("a/*.csv"), "names no object of traffic"),
        (store.uri("a/notes.txt"), "has an unknown suffix"),
        ("s3://gateway-logs/a?endpoint_override=127.0.0.1:1&scheme=http&region=x", "cannot be reached"),
        ("s3://gateway-logs/a?endpoint=here", "has unreadable options"),
        ("s3://key:secret@gateway-logs/a", "a URI with credentials"),
        ("s3:///a", "names no bucket"),
        ("https://gateway-logs/a", "https:// is not read: expected a path, or a URI with s3:// or gs://"),
        ("gs://anonymous@logs/a?endpoint_override=127.0.0.1:1&scheme=http&retry_limit_seconds=1", "cannot be reached"),
    ]:
        with pytest.raises(InputError, match=sentence) as caught:
            expand_inputs([uri])
        assert caught.value.exit_code == 3 and "secret" not in str(caught.value)


def test_without_the_right_to_read_it_says_what_to_give(store: Store) -> None:
    uri = store.put("a/x.jsonl", LINES)
    store.require_credentials()
    with pytest.raises(StoreError, match=r"was refused: give credentials .*AWS_ACCESS_KEY_ID"):
        expand_inputs([uri])


def test_a_store_that_goes_away_stops_the_run_and_loses_nothing(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [store.put(f"{name}.jsonl.gz", gzip.compress(LINES + name.encode())) for name in "ab"]
    opened: list[Place] = []

    def refused_at_the_second(file: InputFile, *arguments: Any) -> Iterator[Part]:
        opened.append(file.path)
        if len(opened) == 2:
            store.require_credentials()
        return read_parts(file, *arguments)

    monkeypatch.setattr("service.batch.read_parts", refused_at_the_second)
    ran = Ran(capsys, "label", *uris, "--out", tmp_path / "run", "--quiet", "--workers", 1)
    assert ran.code == 3 and "b.jsonl.gz" in ran.sentence and "was refused" in ran.sentence
    assert not (tmp_path / "run" / "run.json").exists()


def test_paths_stay_paths() -> None:
    assert place_of("logs/a:b.jsonl") == Path("logs/a:b.jsonl")
