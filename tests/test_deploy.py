"""What is shipped to run it: the systemd unit and the container file name commands and settings that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings
from tests.command import Ran
from tests.serving import ROOT, Running, running

DEPLOY = ROOT / "data" / "deploy"
UNIT, CONTAINER = DEPLOY / "probewatch.service", DEPLOY / "Containerfile"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('deploy') / 'store.db'}") as up:
        yield up


class _Unit(ConfigParser):
    """Values of a key that is given several times are joined."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit() -> ConfigParser:
    parsed = _Unit(strict=False, interpolation=None)
    parsed.read_string(UNIT.read_text())
    return parsed


def steps(keyword: str) -> list[str]:
    """Arguments of a keyword in the container file, its lines joined."""
    joined = CONTAINER.read_text().replace("\\\n", " ")
    return re.findall(rf"(?m)^{keyword} (.+)$", joined)


@pytest.mark.parametrize("file", [UNIT, CONTAINER], ids=lambda file: file.name)
def test_every_setting_exists_and_the_host_needs_keys(file: Path) -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)=(\S+)", file.read_text())) - {("NAME", "value)")}
    assert named
    values = {name.lower(): value for name, value in named}
    assert set(values) <= set(Settings.model_fields)
    settings = Settings(**values)  # type: ignore[arg-type]
    assert settings.store.startswith("sqlite:////")


def test_every_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(
        r"(?m)(?:/bin/probewatch|probewatch:/data probewatch) ([a-z].*)$", UNIT.read_text() + CONTAINER.read_text()
    )
    assert sorted(lines) == ["keys add --role admin --name me", "serve", "store upgrade"]
    for line in [*lines, " ".join(json.loads(steps("CMD")[0]))]:
        words = line.split()
        command = [word for i, word in enumerate(words) if word[0] != "-" and not words[i - 1].startswith("--")]
        said = Ran(capsys, *command, "--help")
        assert said.code == 0
        assert [word for word in words if word.startswith("--") and f"  {word}" not in said.out] == []


def test_the_unit_is_verified_by_systemd(tmp_path: Path) -> None:
    service = unit()["Service"]
    assert (service["User"], service["ProtectSystem"], service["NoNewPrivileges"]) == ("probewatch", "strict", "yes")
    assert service["StateDirectory"] == "probewatch" and "/var/lib/probewatch/" in service["Environment"]
    assert int(service["TimeoutStopSec"]) > Settings().drain_seconds
    assert (service["SystemCallErrorNumber"], service["OOMPolicy"]) == ("EPERM", "continue")
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return  # what can be said without it stands above
    program = tmp_path / "probewatch"
    program.symlink_to(sys.executable)
    copy = tmp_path / "probewatch.service"
    copy.write_text(UNIT.read_text().replace("/opt/probewatch/bin/probewatch", str(program)))
    ran = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_container_runs_as_nobody_in_particular_and_writes_to_data_alone() -> None:
    assert steps("USER") == ["10001"] and steps("VOLUME") == ["/data"]
    (pip,) = (step for step in steps("RUN") if "pip install" in step)
    extras = re.findall(r"/source\[([a-z,]+)\]", pip)[0].split(",")
    declared = set(re.findall(r"(?m)^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text()))
    assert set(extras) <= declared and (ROOT / ".ci" / "constraints.txt").exists()


def test_the_health_check_tells_a_live_server(server: Running) -> None:
    command = json.loads(re.findall(r"CMD (\[.+\])", steps("HEALTHCHECK")[0])[0])
    assert command[0] == "python"

    def code(port: int) -> int:
        told = {**os.environ, "PROBEWATCH_PORT": str(port)}
        ran = subprocess.run([sys.executable, *command[1:]], env=told, capture_output=True, check=False)
        return ran.returncode

    port = server.client.base_url.port
    assert port is not None
    assert (code(port), code(1)) == (0, 1)
