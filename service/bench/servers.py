"""Servers under measurement: processes of their own, what they take and what they count. Needs Linux's /proc."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from classifier.errors import ProbewatchError, UsageError

_PATIENCE = 60.0
_PROC = Path("/proc/self/statm")


class Server:
    """A server that is up."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, seconds_to_ready: float) -> None:
        self._process, self.port, self.seconds_to_ready = process, port, seconds_to_ready

    @property
    def processor_seconds(self) -> float:
        """Used so far, by the server and the processes it began."""
        found = (self._stat(pid, "stat").rpartition(")")[2].split() for pid in self._pids)
        return sum(int(fields[11]) + int(fields[12]) for fields in found) / os.sysconf("SC_CLK_TCK")

    @property
    def mib(self) -> float:
        """Resident now, in each of its processes: what these share counts in each."""
        pages = sum(int(self._stat(pid, "statm").split()[1]) for pid in self._pids)
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    @property
    def _pids(self) -> list[int]:
        """The server, and the processes it began."""
        own = self._process.pid
        tasks = (one.name for one in Path(f"/proc/{own}/task").iterdir())  # each thread has its own
        return [own, *(int(pid) for task in tasks for pid in self._stat(own, f"task/{task}/children").split())]

    def samples(self) -> Mapping[tuple[str, str], float]:
        """What /metrics says: value by name and `le`, which is empty but for buckets."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=_PATIENCE) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return {(one.name, one.labels.get("le", "")): one.value for family in families for one in family.samples}

    def _stat(self, pid: int, name: str) -> str:
        try:
            return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")
        except OSError:
            raise ProbewatchError("The server that was measured ended under load, which is our fault.") from None


@contextmanager
def probewatch_server(store: str, log: Path) -> Iterator[Server]:
    """`probewatch serve`, one worker, with what else the environment sets; ends with the context.

    Raises:
        ProbewatchError: it did not come up; with what it said.
    """
    program = "import sys; from service.cli import main; sys.exit(main())"
    options = ("--host", "127.0.0.1", "--workers", "1", "--store", store)
    with _server([sys.executable, "-c", program, "serve", *options, "--port"], log) as server:
        yield server


@contextmanager
def empty_server(log: Path) -> Iterator[Server]:
    """The endpoint of `empty`."""
    with _server([sys.executable, "-m", "service.bench.empty"], log) as server:
        yield server


@contextmanager
def _server(command: Sequence[str], log: Path) -> Iterator[Server]:
    if not _PROC.exists():
        raise UsageError("bench serve reads memory and processor time from /proc, which is not here: run it on Linux.")
    port, began = _free_port(), time.perf_counter()
    with log.open("wb") as said, subprocess.Popen([*command, str(port)], stdout=said, stderr=said) as process:
        try:
            _wait_until_ready(process, port, log)
            yield Server(process, port, time.perf_counter() - began)
        finally:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.perf_counter() + _PATIENCE
    while process.poll() is None and time.perf_counter() < until:
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_PATIENCE) as answer:
            if answer.status == 200:
                return
        time.sleep(0.01)
    raise ProbewatchError(f"The server that was to be measured did not get ready: {_last_words(log)}")


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not lines:
        return "it said nothing."
    try:
        return str(json.loads(lines[-1])["message"])
    except (ValueError, TypeError, KeyError):
        return lines[-1]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
