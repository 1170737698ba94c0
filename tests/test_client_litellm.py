"""service/client: the guardrail in LiteLLM itself, its Router and its proxy, before the real service.

LiteLLM needs other versions of what the rest needs (huggingface-hub, importlib-metadata, dateutil), so it has an
environment of its own, which `.ci/run` installs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probewatch_client.watch import account_of_key
from tests.hosting import BAD, GOOD, knowing, n_prompts
from tests.serving import Running

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(os.environ.get("PROBEWATCH_LITELLM_PYTHON", ROOT / ".venv" / "litellm" / "bin" / "python"))
MASTER = "sk-master-1234"
SECRET = "What is sent to a model"
REFUSED = "This account may not use the model now."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with knowing(f"sqlite:///{tmp_path_factory.mktemp('litellm') / 'store.db'}") as up:
        yield up


@pytest.fixture(scope="module")
def said(server: Running) -> dict[str, Any]:
    """What tests/litellm_host.py saw."""
    if not PYTHON.exists():
        pytest.skip("needs LiteLLM in an environment of its own: make .venv/.litellm")
    command = [str(PYTHON), str(ROOT / "tests" / "litellm_host.py"), str(server.client.base_url), BAD, GOOD]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "service" / "client"), "PROBEWATCH_KEY": "pw_unused"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert ran.returncode == 0, ran.stderr
    ours = [line for line in ran.stderr.splitlines() if "some requests" in line or "events wait" in line]
    assert [line for line in ours if SECRET in line] == []
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("SAID "))
    return dict(json.loads(line.removeprefix("SAID ")))


def test_a_router_refuses_the_flagged_alone(said: dict[str, Any]) -> None:
    router = said["router"]
    assert router["bad"].startswith(f"403 {REFUSED}")
    assert router["good"] == "Fine."
    assert (router["counts"]["observed"], router["counts"]["scored"]) == (2, 2)


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ("watching bad", 200, "Fine."),
        ("before bad", 403, REFUSED),
        ("before good", 200, "Fine."),
        ("beside bad", 403, REFUSED),
        ("open good", 200, "Fine."),
        ("closed good", 503, "could not be checked in time"),
        ("no prompt", 200, "embedding"),
    ],
)
def test_the_proxy_does_as_it_is_set(said: dict[str, Any], asked: str, status: int, says: str) -> None:
    got, text = said["proxy"][asked]
    assert (got, says in text) == (status, True), text


def test_each_guardrail_accounts_for_what_it_saw(said: dict[str, Any], server: Running) -> None:
    counts = said["proxy"]["counts"]
    assert {
        name: (one["observed"], one["scored"], one["dropped"] + one["waiting"]) for name, one in counts.items()
    } == {
        "watching": (6, 6, 0),
        "before": (2, 2, 0),
        "beside": (1, 1, 0),
        "open": (1, 0, 1),
        "closed": (1, 0, 1),
    }
    assert n_prompts(server, account_of_key(MASTER)) == 6  # by the digest that LiteLLM keeps of its key
