"""The folder of a catalogue: one writer at a time, files whole or not at all, and nothing touched that is not ours.

Between bundle and catalogue, which knows what the files hold. A link that somebody left in the folder is never written
through.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import BusyError, OutputError

INDEX = "catalogue.json"
VERSION = "catalogue-{}.json"
TENSORS = "signatures-{}.safetensors"
DIGITS = 16  # of ids, and of a file's sha256 that its name carries
_LOCK = ".lock"
_HEX = f"[0-9a-f]{{{DIGITS}}}"
_KEPT = rf"catalogue-{_HEX}\.json|signatures-{_HEX}\.safetensors"
_OURS = re.compile(_KEPT)
_TEMPORARY = re.compile(rf"\.(catalogue\.json|{_KEPT})\.{_HEX}\.tmp")
_ID = re.compile(_HEX)
_ANEW = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def is_id(text: object) -> bool:
    """Whether a version may have this id: what is no id is never part of a path."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def check_room(folder: Path) -> None:
    """See that a catalogue can be written there; makes nothing.

    Raises:
        OutputError: it cannot be written, or holds something else.
    """
    with _output_errors(folder):
        nearest = _nearest(folder)
        if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if nearest == folder:
            _refuse_strangers(folder)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made if it is not there, for one writer at a time; what a killed one left is gone.

    Raises:
        OutputError: it cannot be written, or holds something else.
        BusyError: it is being written to.
    """
    with _output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(folder)
        lock = os.open(folder / _LOCK, os.O_RDWR | _ANEW, 0o666)
        try:
            _take(lock, folder)
            _sweep(folder)
            yield
        finally:
            os.close(lock)


def put(path: Path, raw: bytes) -> None:
    """A file in place, whole or not at all, also if the machine stops."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(DIGITS // 2)}.tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_EXCL | _ANEW, 0o666), "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)


def _sweep(folder: Path) -> None:
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def _refuse_strangers(folder: Path) -> None:
    """A folder with an index may hold other things; without one it must be empty but for what a killed writer left."""
    names = os.listdir(folder)
    strange = [n for n in names if n != _LOCK and not _OURS.fullmatch(n) and not _TEMPORARY.fullmatch(n)]
    if strange and INDEX not in strange:
        raise OutputError(f"{folder}: holds files and is no catalogue; choose a new or empty folder.")


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    for place in (folder, *folder.absolute().parents):
        try:
            mode = place.stat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return place
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(f"{folder}: another probewatch is changing it; repeat the command.") from error


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror if error.strerror is not None else "it is no writable folder"
        raise OutputError(f"{folder}: cannot be written ({reason}); check permissions and space.") from error
