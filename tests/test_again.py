"""`.ci/again`, by which what is installed is asked for again when the network fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT

FAKE = """
echo . >> "$0.tries"
(($(wc -l < "$0.tries") > $1)) || { echo "$2"; echo 'ERROR: ResolutionImpossible'; exit 3; }
echo installed
"""
"""Fails $1 times, for the reason $2."""
NAMES = "[Errno -3] Temporary failure in name resolution')': /simple/alembic/"


def tried(folder: Path, failures: int, reason: str) -> tuple[int, str, str, int]:
    """Exit code, what is said, what the log ends with, and how many tries there were."""
    fake, log = folder / "fake", folder / "log"
    fake.write_text(FAKE)
    command = [ROOT / ".ci" / "again", log, "bash", fake, str(failures), reason]
    told = {**os.environ, "AGAIN_WAITS": "0 0 0"}
    ran = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert ran.stdout == ""
    n = len((folder / "fake.tries").read_text().splitlines())
    return ran.returncode, ran.stderr, log.read_text().splitlines()[-1], n


def test_what_the_network_failed_is_tried_again(tmp_path: Path) -> None:
    said = f"trying again in 0 s, since the network failed: {NAMES}\n"
    assert tried(tmp_path, 2, NAMES) == (0, said * 2, "installed", 3)


def test_the_last_failure_is_one(tmp_path: Path) -> None:
    code, said, last, n = tried(tmp_path, 9, NAMES)
    assert (code, len(said.splitlines()), last, n) == (3, 3, "ERROR: ResolutionImpossible", 4)


@pytest.mark.parametrize(
    "reason", ["ERROR: No matching distribution found for alembic<2", "Downloading errors-1.0.whl (503 kB)"]
)
def test_what_will_not_mend_fails_at_once(tmp_path: Path, reason: str) -> None:
    assert tried(tmp_path, 9, reason) == (3, "", "ERROR: ResolutionImpossible", 1)


@pytest.mark.parametrize(
    "reason",
    [
        "E: Failed to fetch http://a/b.deb  503  Service Unavailable",
        "W: Temporary failure resolving 'a'",
        "ERROR: HTTP error 502 while getting https://a/b.whl",
        "ReadTimeoutError(\"HTTPSConnectionPool(host='a', port=443): Read timed out.\")",
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
        "ProtocolError: IncompleteRead(5 bytes read, 7 more expected)",
        "ERROR: Exception: requests.exceptions.ConnectionError",
    ],
)
def test_signs_of_the_network(tmp_path: Path, reason: str) -> None:
    assert tried(tmp_path, 1, reason)[0] == 0
