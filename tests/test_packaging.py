"""What is installed is what is here: the wheel holds the three packages, all of data/, the licence and the command."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_WHEEL_BYTES = 25_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("probewatch-*.whl"))


def test_the_wheel_carries_data_byte_for_byte(wheel: Path) -> None:
    here = {p.relative_to(ROOT / "data").as_posix(): p.read_bytes() for p in (ROOT / "data").rglob("*") if p.is_file()}
    with ZipFile(wheel) as archive:
        prefix = "classifier/_data/"
        there = {n.removeprefix(prefix): archive.read(n) for n in archive.namelist() if n.startswith(prefix)}
    assert there == here
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES


def test_the_wheel_installs_three_packages_and_one_command(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith(".dist-info/entry_points.txt"))
        commands = ConfigParser()
        commands.read_string(archive.read(info).decode())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"classifier", "training", "service"}
    assert [name for name in names if name.startswith("service/client/")] == []  # a distribution of its own
    assert dict(commands["console_scripts"]) == {"probewatch": "service.cli:main"}
    assert info.replace("entry_points.txt", "licenses/LICENSE") in names
