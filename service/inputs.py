"""Which files are read, and their bytes: the first step of every run, before `lines` and `records`.

A path may be a file, a folder or a glob, here or in a store (see `places`); the kind of a file is its suffix, and what
it holds is its digest.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import pyarrow as pa

from classifier.errors import InputError
from service.places import Place, RemotePath, find_objects, open_arrow, open_stream, place_of

CHUNK_BYTES = 1 << 20
_SALVAGE_BYTES = (4096, 1)  # steps in which what precedes the damage in a stream is read again
_SUFFIX = re.compile(r"\.(?:(jsonl|ndjson|csv)(?:\.(gz|zst))?|(parquet))$", re.IGNORECASE)
_EXPECTED = ".jsonl, .ndjson or .csv (plain, .gz or .zst) or .parquet"


class Kind(StrEnum):
    """How records lie in a file."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Compression(StrEnum):
    """How a text file is packed; the value is the codec's name in Arrow."""

    GZIP = "gzip"
    ZSTD = "zstd"


class DamagedStreamError(Exception):
    """A compressed stream ends early or is corrupt; all that precedes the damage was delivered."""


@dataclass(frozen=True)
class InputFile:
    """One file of traffic. Equal digests are equal inputs, whatever the paths.

    Attributes:
        path: as the user wrote it, or found under the folder that the user wrote.
        digest: blake2b of the bytes as stored (compressed where they are), 32 hex digits.
        size: bytes as stored.
        copies: other paths with the same bytes, which are therefore not read again.
    """

    path: Place
    kind: Kind
    compression: Compression | None
    digest: str
    size: int
    copies: tuple[Place, ...] = ()


def expand_inputs(paths: Sequence[str]) -> list[InputFile]:
    """Files of traffic behind files, folders (recursively) and globs, in the order given and sorted within each.

    In folders and globs, hidden files and unknown suffixes are passed over; a file named outright must be readable.

    Raises:
        InputError: nothing there, a suffix that is not known, or only empty files.
    """
    found: dict[Place, InputFile] = {}
    for given in paths:
        for path in _matches(given):
            if path.resolve() not in found:
                found[path.resolve()] = _input_file(path)
    files = _collapse_copies(found.values())
    if not any(file.size for file in files):
        names = ", ".join(str(file.path) for file in files[:3])
        raise InputError(f"{names or 'the list of inputs'} is empty: expected at least one record, check the export")
    return files


def read_chunks(file: InputFile) -> Iterator[bytes]:
    """The uncompressed bytes of a text file, in order, in pieces of at most 1 MiB.

    Raises:
        InputError: the file cannot be opened or read.
        DamagedStreamError: after the last readable byte of a damaged compressed stream.
    """
    if file.compression is None:
        yield from _read_plain(file.path)
        return
    delivered = 0
    # A failed read loses what was decoded within it, so the stretch before the damage is read again in smaller steps.
    for step in (CHUNK_BYTES, *_SALVAGE_BYTES):
        with _open_compressed(file) as stream:
            _skip(stream, delivered)
            try:
                while chunk := stream.read(step):
                    delivered += len(chunk)
                    yield chunk
                return
            except OSError:
                continue
    raise DamagedStreamError


def _matches(given: str) -> list[Place]:
    path = place_of(given)
    if isinstance(path, RemotePath):
        return _in_store(path)
    if path.is_dir():
        return [*_in_folder(path)]
    if path.exists():
        _check_suffix(path)
        if path.stat().st_size == 0:
            raise InputError(f"{given} is empty: expected at least one record, check the export or leave it out")
        return [path]
    if not glob.has_magic(given):
        raise InputError(f"{given} does not exist: expected a file, folder or glob of traffic, check the path")
    hits = [Path(hit) for hit in sorted(glob.glob(given, recursive=True))]
    files = [file for hit in hits for file in (_in_folder(hit) if hit.is_dir() else [hit]) if _SUFFIX.search(file.name)]
    if not files:
        raise InputError(f"{given} matches no file of traffic: expected names that end in {_EXPECTED}")
    return [*files]


def _in_store(given: RemotePath) -> list[Place]:
    found = find_objects(given)
    if found == [given]:
        _check_suffix(given)
    files: list[Place] = [file for file in found if _SUFFIX.search(file.name)]
    if not files:
        raise InputError(f"{given} names no object of traffic: expected names that end in {_EXPECTED}, check the URI")
    return files


def _check_suffix(path: Place) -> None:
    if _SUFFIX.search(path.name) is None:
        raise InputError(f"{path} has an unknown suffix: expected {_EXPECTED}, rename or convert it")


def _in_folder(folder: Path) -> list[Path]:
    files: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".") and _SUFFIX.search(name)]
    if not files:
        raise InputError(f"{folder} holds no file of traffic: expected names that end in {_EXPECTED}")
    return sorted(files)


def _input_file(path: Place) -> InputFile:
    suffix = _SUFFIX.search(path.name)
    if suffix is None or (isinstance(path, Path) and not path.is_file()):
        raise InputError(f"{path} is not a regular file: expected {_EXPECTED}, save it to disk first")
    text, packed, _ = suffix.groups()
    kind = Kind.PARQUET if text is None else Kind.CSV if text.lower() == "csv" else Kind.JSONL
    compression = None if packed is None else Compression.GZIP if packed.lower() == "gz" else Compression.ZSTD
    digest, size = hashlib.blake2b(digest_size=16), 0
    for chunk in _read_plain(path):
        digest.update(chunk)
        size += len(chunk)
    return InputFile(path, kind, compression, digest.hexdigest(), size)


def _collapse_copies(files: Iterable[InputFile]) -> list[InputFile]:
    # Part and event ids derive from the digest, so the same bytes twice would be the same events under the same ids.
    kept: dict[str, InputFile] = {}
    for file in files:
        first = kept.get(file.digest)
        kept[file.digest] = file if first is None else replace(first, copies=(*first.copies, file.path))
    return list(kept.values())


def _read_plain(path: Place) -> Iterator[bytes]:
    try:
        with open_stream(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): check that it exists and its permissions"
        ) from error


def _open_compressed(file: InputFile) -> pa.NativeFile:
    try:
        return pa.CompressedInputStream(open_arrow(file.path), str(file.compression))
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: check that it exists and its permissions") from error


def _skip(stream: pa.NativeFile, count: int) -> None:
    while count:
        count -= len(stream.read(min(count, CHUNK_BYTES)))
