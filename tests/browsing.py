"""A real browser for tests and screenshots: Chromium as the system has it, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def chromium() -> str:
    """The browser's program; skips where there is none, or nothing to drive it."""
    for module in ("playwright", "axe_playwright_python"):
        if find_spec(module) is None:
            pytest.skip(f"needs the dev extra ({module} is missing): pip install 'probewatch[dev]'")
    found = next((path for path in map(shutil.which, PROGRAMS) if path is not None), None)
    if found is None:
        pytest.skip("needs Chromium: apt install chromium")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    program = chromium()
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium does not allow root
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=options)
        yield opened
        opened.close()


def drawn(page: Page) -> None:
    """Wait until all plots of a page are drawn."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-figure]')].every(one => one.querySelector('svg.main-svg'))"
    )


def findings(page: Page, *rules: str) -> list[str]:
    """What axe-core holds against a page, as `rule: element`, the serious and critical; by all rules, or some."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": list(RULES)}
    # Rows beyond the eighth are as those before, and plots are images with a text: both would take most of the time.
    options = {"runOnly": only, "resultTypes": ["violations"]}
    found: dict[str, Any] = page.evaluate(
        "options => axe.run({exclude: [['tr:nth-child(n+9)'], ['.plot > *']]}, options)", options
    )
    grave = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:160]}" for one in grave for node in one["nodes"]]
