"""The rule of conftest: with REQUIRE_SERVICES=1 a skipped test or module is a failure; an expected failure is not."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
SKIPS = """
import pytest

@pytest.mark.skip(reason="no server")
def test_marked(): ...

def test_called():
    pytest.skip("no browser")

@pytest.mark.xfail
def test_expected_failure():
    assert False
"""
MODULE_SKIP = "import pytest; pytest.importorskip('a_module_that_is_nowhere')"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    return pytester


@pytest.mark.parametrize("value", [None, "0", ""])
def test_skips_skip_by_default(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("REQUIRE_SERVICES", value)
    suite.makepyfile(test_skips=SKIPS, test_module=MODULE_SKIP)
    suite.runpytest().assert_outcomes(skipped=3, xfailed=1)


def test_a_skip_fails_where_services_are_required(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    suite.makepyfile(test_skips=SKIPS)
    ran = suite.runpytest()
    assert ran.parseoutcomes() == {"failed": 1, "errors": 1, "xfailed": 1}
    ran.stdout.fnmatch_lines(
        ["*test_skips.py:*REQUIRE_SERVICES=1*no server", "*test_skips.py:*REQUIRE_SERVICES=1*no browser"]
    )


def test_a_skipped_module_fails_where_services_are_required(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    suite.makepyfile(test_module=MODULE_SKIP)
    ran = suite.runpytest()
    assert ran.ret != 0
    ran.stdout.fnmatch_lines(["*REQUIRE_SERVICES=1*a_module_that_is_nowhere*"])
