"""A command line run as its user would, in processes of its own, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = "import sys; from service.cli import main; sys.exit(main())"
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Took:
    """Of a command and its workers: seconds on the clock and of processors, and the most memory held at once, MiB."""

    seconds: float
    processor_seconds: float
    peak_mib: float


def run_probewatch(arguments: Sequence[str]) -> Took:
    """Run to the end.

    Raises:
        subprocess.CalledProcessError: it did not end well.
    """
    started, before = time.monotonic(), os.times()
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, *arguments], start_new_session=True)
    peak = _watch(process)
    after = os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, ["probewatch", *arguments])
    of_processors = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(time.monotonic() - started, of_processors, peak)


def _watch(process: subprocess.Popen[bytes]) -> float:
    most = 0.0
    while process.poll() is None:
        most = max(most, _session_mib(process.pid))
        time.sleep(_LOOK_SECONDS)
    return most


def _session_mib(session: int) -> float:
    """Resident memory of all processes of a session; shared pages count once a process."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # a process may end while it is looked at
            fields = stat.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
