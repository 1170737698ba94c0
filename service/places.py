"""Where bytes come from: files of this machine, and objects in stores behind pyarrow's filesystems.

    **places** -> inputs -> lines, records

An object is named by a URI, `s3://bucket/key` or `gs://bucket/key`, with pyarrow's options after a question mark
(`?endpoint_override=localhost:9000&scheme=http`). Credentials come from the environment, never from the URI.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from classifier.errors import InputError

_SCHEMES = ("s3", "gs")
_STREAM_BYTES = 8 << 20  # asked of a store at once: enough to outweigh the time that an answer takes
_MAGIC = re.compile(r"[*\[]")
_GLOB = re.compile(r"\*\*/|\*\*|\*|\[[^]]+]|[^*\[]+|\[")
_NO_BUCKET = "has no such bucket: check its name"
_CAUSES = {
    "cannot be reached: check the network, and the endpoint if you gave one": re.compile(
        "NETWORK_CONNECTION|curlCode|[Cc]ould not (connect|resolve)|[Cc]onnect(ion)? |UNAVAILABLE|timed? ?out|Timeout"
    ),
    _NO_BUCKET: re.compile("NO_SUCH_BUCKET|[Bb]ucket .*not exist|[Ii]nvalid ?[Bb]ucket"),
    "was refused: give credentials that may list and read it, by the environment (AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or GOOGLE_APPLICATION_CREDENTIALS)": re.compile(
        "ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|EXPIRED|UNRECOGNIZED_CLIENT|PERMISSION_DENIED|"
        "UNAUTHENTICATED|[Cc]redentials|HTTP status 40[13]"
    ),
}


class StoreError(InputError):
    """A store cannot be reached, or refuses: nothing is wrong with the object, and the command may be repeated."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """An object in a store; `uri` is its whole name, options included."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Its last name, suffix included."""
        return urlsplit(self.uri).path.rsplit("/", 1)[-1]

    @property
    def key(self) -> str:
        """Bucket and key, as pyarrow names it."""
        parts = urlsplit(self.uri)
        return (parts.netloc + parts.path).rstrip("/")

    def resolve(self) -> RemotePath:
        """Itself: a URI is absolute."""
        return self

    def beside(self, key: str) -> RemotePath:
        """Another object of the same store."""
        parts = urlsplit(self.uri)
        return RemotePath(f"{parts.scheme}://{key}" + (f"?{parts.query}" if parts.query else ""))


Place = Path | RemotePath


def place_of(given: str) -> Place:
    """What a path or URI names.

    Raises:
        InputError: a URI of another scheme, without bucket, or with credentials in it.
    """
    if "://" not in given:
        return Path(given)
    parts = urlsplit(given)
    if parts.scheme not in _SCHEMES:
        raise InputError(f"{parts.scheme}:// is not read: expected a path, or a URI with s3:// or gs://")
    if "@" in parts.netloc and not parts.netloc.startswith("anonymous@"):
        raise InputError("a URI with credentials would put them into run.json: give them by the environment")
    if not parts.netloc:
        raise InputError(f"{given} names no bucket: expected {parts.scheme}://bucket/key")
    return RemotePath(given)


def find_objects(given: RemotePath) -> list[RemotePath]:
    """The object of that name, else those below it or, if it is a glob, those it matches; sorted, perhaps none.

    In a glob `*` stands for any part of a name, `**` for names with slashes too; hidden objects are passed over.

    Raises:
        StoreError: no such bucket, no right to list it, or no network.
    """
    key = given.key
    magic = _MAGIC.search(key)
    base = key[: magic.start()].rpartition("/")[0] if magic is not None else key
    with store_errors(given):
        store = _store(given)
        found = store.get_file_info([base])[0]
        if found.type is fs.FileType.File:
            return [given]
        everything = store.get_file_info(fs.FileSelector(base, allow_not_found=True, recursive=True))
        bucket = base.split("/")[0]
        if not everything and store.get_file_info([bucket])[0].type is fs.FileType.NotFound:
            raise StoreError(f"{given} {_NO_BUCKET}")
    matches = re.compile(_pattern(key) if magic is not None else ".*", re.DOTALL).fullmatch
    files = [info.path for info in everything if info.type is fs.FileType.File and matches(info.path)]
    return [given.beside(path) for path in sorted(files) if "/." not in path[len(base) :]]


def open_stream(place: Place) -> Any:
    """Bytes in order: an object with `read(n)` for a `with` block. Raises OSError or StoreError."""
    if isinstance(place, Path):
        return place.open("rb", buffering=0)
    return _ObjectStream(place)


def open_arrow(place: Place) -> pa.NativeFile:
    """Bytes in order for Arrow. Raises OSError or StoreError."""
    return pa.OSFile(str(place)) if isinstance(place, Path) else pa.PythonFile(_ObjectStream(place), "r")


def open_parquet(place: Place) -> Any:
    """What Arrow reads Parquet from: it asks for pieces. Raises OSError."""
    return place if isinstance(place, Path) else _store(place).open_input_file(place.key)


@contextmanager
def store_errors(place: Place) -> Iterator[None]:
    """What a store says of an object, in a sentence; what it does not say of itself goes through.

    Raises:
        StoreError: it cannot be reached, or refuses.
    """
    try:
        yield
    except OSError as error:
        cause = next((cause for cause, known in _CAUSES.items() if known.search(str(error))), None)
        if cause is None or isinstance(place, Path):
            raise
        raise StoreError(f"{place} {cause}") from error


class _ObjectStream(io.RawIOBase):
    """An object read from its beginning to its end; whatever goes wrong is the store's fault, not the data's."""

    def __init__(self, place: RemotePath) -> None:
        self._place = place
        with self._errors():
            self._stream = _store(place).open_input_stream(place.key, buffer_size=_STREAM_BYTES)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with self._errors():
            return bytes(self._stream.read(size if size >= 0 else None))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with store_errors(self._place):
                yield
        except FileNotFoundError as error:
            raise InputError(f"{self._place} is not there any more: check the URI") from error
        except OSError as error:
            raise StoreError(f"{self._place} cannot be read: repeat the command") from error


@lru_cache(maxsize=8)
def _filesystem(scheme: str, bucket: str, options: str) -> fs.FileSystem:
    if scheme == "gs" and "retry_limit_seconds" not in options:  # it would go on trying for a quarter of an hour
        options = "&".join(filter(None, (options, "retry_limit_seconds=20")))
    return fs.FileSystem.from_uri(f"{scheme}://{bucket}" + (f"?{options}" if options else ""))[0]


def _store(place: RemotePath) -> fs.FileSystem:
    parts = urlsplit(place.uri)
    try:
        return _filesystem(parts.scheme, parts.netloc, parts.query)
    except pa.ArrowInvalid as error:
        raise InputError(f"{place} has unreadable options: expected pyarrow's, as endpoint_override=HOST") from error


def _pattern(key: str) -> str:
    """A glob as a regular expression."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}

    def translated(piece: str) -> str:
        if piece in known:
            return known[piece]
        if len(piece) > 1 and piece.startswith("["):
            return piece.replace("[!", "[^")
        return re.escape(piece)

    return "".join(map(translated, _GLOB.findall(key)))
