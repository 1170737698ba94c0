"""A backup of an SQLite store, taken while it serves, and putting one back. Stands after `upgrade`.

PostgreSQL has pg_dump and pg_restore, which know better.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from classifier.errors import InputError, OutputError, UsageError
from service.store.opening import Store, StoreError
from service.store.upgrade import check_version, known_versions

_BESIDE = ("-wal", "-shm", "-journal")


def back_up(store: Store, target: Path) -> int:
    """Copy a store into a new file, as it is at one moment, while others read and write; its size in bytes.

    Raises:
        UsageError: the store is no file.
        OutputError: the target is there, or cannot be written.
        StoreError: there is no store, of this version.
    """
    source = _file_of(store, "pg_dump --format=custom --file FILE URL")
    if not store.is_there():
        raise StoreError(f"There is no store {source}: see that --store names it.")
    check_version(store)
    with _new_file(target) as part:
        _copy(source, part)
        _check(part)
    return target.stat().st_size


def put_back(backup: Path, store: Store) -> None:
    """Make a store of a backup, where there is none.

    Raises:
        UsageError: the store is no file, or is there.
        InputError: the backup is no whole store, or is of a newer version.
        OutputError: the store cannot be written.
    """
    target = _file_of(store, "pg_restore --clean --if-exists --dbname URL FILE")
    there = [name for name in (target, *(Path(f"{target}{end}") for end in _BESIDE)) if name.exists()]
    if there:
        raise UsageError(
            f"{there[0]} is there: stop the service and move {target.name} aside, with "
            f"{' and '.join(target.name + end for end in _BESIDE[:2])} beside it, or name another store."
        )
    if not backup.is_file():
        raise InputError(f"{backup}: is no file; name a backup.")
    _check(backup)
    with _new_file(target) as part:
        _copy(backup, part)


def _copy(source: Path, target: Path) -> None:
    """In one step: writers go on beside it, and none makes it begin anew. One file, whole by itself, comes of it."""
    with closing(_read_only(source)) as there, closing(sqlite3.connect(target)) as copy:
        there.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _file_of(store: Store, instead: str) -> Path:
    if not store.is_sqlite or store.url.database is None:
        raise UsageError(f"This is for stores in a file of SQLite: for PostgreSQL use {instead}.")
    return Path(store.url.database)


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A file that only its owner reads, under another name until it is whole and on the disk."""
    if target.exists():
        raise OutputError(f"{target}: is there already; name a new file.")
    part = target.with_name(f".{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise OutputError(
            f"{target}: cannot be written ({type(error).__name__}); see its folder and its room."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _check(path: Path) -> None:
    """Raises InputError unless a file is a whole store of a version that this code knows."""
    try:
        with closing(_read_only(path)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise InputError(f"{path}: is no store of probewatch ({type(error).__name__}).") from error
    if found != "ok":
        raise InputError(f"{path}: is damaged; take another backup.")
    if version not in known_versions():
        raise InputError(f"{path}: is of version {version}, which is newer than this probewatch: use the newer one.")
