"""Stores for tests: SQLite always, and a PostgreSQL that is really started where its programs are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import pytest

from service.store.opening import Store, open_store
from service.store.upgrade import upgrade

_USER = "postgres"  # who runs the server where the tests run as root, which PostgreSQL refuses


def postgres_programs() -> Path:
    """The folder of initdb and pg_ctl; skips where there is none."""
    if find_spec("psycopg") is None:
        pytest.skip("needs the postgres extra: pip install 'probewatch[postgres]'")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    found = [*([Path(on_path)] if on_path is not None else []), *debian]
    if not found:
        pytest.skip("needs PostgreSQL (initdb is not there): apt install postgresql")
    return found[-1].parent


class PostgresServer:
    """A server of its own, in a new folder, on a Unix socket there."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(mkdtemp(prefix="probewatch-pg-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER, _USER)
        self._run("initdb", "-D", str(self.folder / "data"), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        self._n = 0

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c max_connections=50"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def new_database(self) -> str:
        """URL of a new, empty database."""
        self._n += 1
        self._run("createdb", "-h", str(self.folder), "-U", _USER, f"test{self._n}")
        return f"postgresql://{_USER}@/test{self._n}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        user = _USER if os.geteuid() == 0 else None
        groups = [] if user is not None else None
        command = [str(self._programs / program), *arguments]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.folder, user=user, group=user, extra_groups=groups
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_programs())
    try:
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


@contextmanager
def new_store(url: str) -> Iterator[Store]:
    """A store with up-to-date tables."""
    store = open_store(url)
    upgrade(store)
    try:
        yield store
    finally:
        store.close()
