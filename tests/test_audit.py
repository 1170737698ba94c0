"""The audit of pinned dependencies: a known flaw fails, an accepted one does not, silence is not health."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.serving import ROOT


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAW = {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["2.0"]}
WELL: dict[str, Any] = {"name": "numpy", "version": "1.0", "vulns": []}
FLAWED: dict[str, Any] = {"name": "jinja2", "version": "1.0", "vulns": [FLAW]}
SKIPPED = {"name": "orjson", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "accepted", "said", "failed"),
    [
        ([WELL, FLAWED], {}, "jinja2 1.0 has PYSEC-2099-1; fixed in 2.0: pin it, or accept it", True),
        ([WELL, FLAWED], {"CVE-2099-1": "not called"}, "PYSEC-2099-1; accepted: not called", False),
        ([WELL, SKIPPED], {}, "1 of 2 pinned dependencies audited, 0 known flaws.", False),
        ([SKIPPED], {}, "Not audited: the database of known flaws cannot be reached", False),
        ([], {}, "Not audited", False),
    ],
)
def test_what_is_said_of_flaws(
    audit: ModuleType, dependencies: list[Any], accepted: dict[str, str], said: str, failed: bool
) -> None:
    lines, found = audit.judge(dependencies, accepted)
    assert (said in "\n".join(lines), found) == (True, failed)


def test_nothing_is_accepted_without_a_reason(audit: ModuleType) -> None:
    assert audit.read_accepted("# why\nCVE-1 not called\n\n") == {"CVE-1": "not called"}
    with pytest.raises(ValueError, match="an id without a reason"):
        audit.read_accepted("CVE-1\n")
    audit.read_accepted((ROOT / ".ci" / "audit-accepted.txt").read_text(encoding="utf-8"))


def test_a_program_that_says_nothing_is_no_failure(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(sys.executable, [ROOT / ".ci" / "constraints.txt"]) == 0  # it knows no such options
    assert "Not audited" in capsys.readouterr().out
