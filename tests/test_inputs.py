"""Which files are found, what their digest is, and what is delivered of a damaged stream."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from classifier.errors import InputError
from service.inputs import Compression, DamagedStreamError, Kind, expand_inputs, read_chunks

LINE = b'{"account_id": "a", "prompt": "hello"}\n'


def write(path: Path, content: bytes = LINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def names(paths: list[str], root: Path) -> list[str]:
    return [str(file.path.relative_to(root)) for file in expand_inputs(paths)]


def test_folder_is_read_recursively_sorted_and_only_known_suffixes(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a/z.csv",
        "a/y.ndjson.gz",
        "c.JSONL.zst",
        "d.parquet",
        "notes.txt",
        ".hidden.jsonl",
        ".git/x.csv",
    ):
        write(tmp_path / name, name.encode())
    assert names([str(tmp_path)], tmp_path) == ["a/y.ndjson.gz", "a/z.csv", "b.jsonl", "c.JSONL.zst", "d.parquet"]


def test_glob_and_repeated_paths_collapse_in_the_order_given(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.jsonl", b"1"), write(tmp_path / "2.jsonl", b"2")
    write(tmp_path / "readme.md")
    assert names([two, str(tmp_path / "*"), one, f"{tmp_path}/./2.jsonl"], tmp_path) == ["2.jsonl", "1.jsonl"]


def test_kind_compression_digest_and_size(tmp_path: Path) -> None:
    write(tmp_path / "x.csv.gz", b"abc")
    (file,) = expand_inputs([str(tmp_path)])
    assert (file.kind, file.compression, file.size) == (Kind.CSV, Compression.GZIP, 3)
    assert file.digest == hashlib.blake2b(b"abc", digest_size=16).hexdigest()


def test_the_same_bytes_twice_are_one_input_that_names_its_copies(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl")
    (file,) = expand_inputs([str(tmp_path)])
    assert (str(file.path), file.copies) == (first, (Path(second),))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone.jsonl", "does not exist"),
        ("gone-*.jsonl", "matches no file of traffic"),
        ("folder", "holds no file of traffic"),
        ("notes.txt", "has an unknown suffix"),
        ("x.parquet.gz", "has an unknown suffix"),
        ("empty.jsonl", "is empty"),
    ],
)
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    for present in ("notes.txt", "x.parquet.gz"):
        write(tmp_path / present)
    write(tmp_path / "empty.jsonl", b"")
    with pytest.raises(InputError, match=sentence) as caught:
        expand_inputs([str(tmp_path / name)])
    assert caught.value.exit_code == 3
    assert name in str(caught.value)


def test_empty_file_in_a_folder_is_kept_with_size_zero_unless_alone(tmp_path: Path) -> None:
    write(tmp_path / "in" / "empty.csv", b"")
    with pytest.raises(InputError, match="is empty"):
        expand_inputs([str(tmp_path / "in")])
    write(tmp_path / "in" / "full.jsonl")
    assert [file.size for file in expand_inputs([str(tmp_path / "in")])] == [0, len(LINE)]


def pack(content: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(content)
    return pa.compress(content, codec="zstd", asbytes=True) if suffix == ".zst" else content


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_chunks_are_the_content_also_of_concatenated_members(tmp_path: Path, suffix: str) -> None:
    content = b"".join(b"%d\n" % number for number in range(300_000))
    path = write(tmp_path / f"x.jsonl{suffix}", pack(content, suffix) + pack(LINE, suffix))
    (file,) = expand_inputs([path])
    assert b"".join(read_chunks(file)) == content + LINE


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_all_that_precedes_damage_is_delivered(tmp_path: Path, suffix: str) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).hexdigest().encode() + b"\n" for number in range(50_000))
    whole = pack(content, suffix)
    (file,) = expand_inputs([write(tmp_path / f"x.jsonl{suffix}", whole[: len(whole) // 2])])
    delivered: list[bytes] = []
    with pytest.raises(DamagedStreamError):
        delivered.extend(read_chunks(file))
    found = b"".join(delivered)
    assert content.startswith(found)
    assert len(found) > 0.4 * len(content)
