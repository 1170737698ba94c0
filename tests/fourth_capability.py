"""A project with another capability in its taxonomy: a copy of this one, changed as somebody would. Shared by tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from classifier.taxonomy import data_dir

NEW = "data_analysis"
ROOT = Path(__file__).resolve().parents[1]
IGNORED = shutil.ignore_patterns("__pycache__", "client", "card")
ENTRY = f"""[[capability]]
id = "{NEW}"
title = "Data analysis"
definition = "Figures are the deliverable: tables summed up, trends, tests, charts of given data."
examples = ["Which of these regions fell behind, by quarter"]

"""
ASKS = (
    "Here are the {n} rows of the {what} table: tell me the mean, the median and which week stands out.",
    "Compare the {what} of both halves of the year in these {n} figures, and say whether the change is chance.",
    "What would you chart, given {n} months of {what} by region? Give the numbers for each bar.",
    "Find the outliers in {n} measurements of {what} and explain each from the columns beside it.",
)
WHAT = ("sales", "rainfall", "ticket", "harvest", "attendance", "fuel", "visitor", "returns", "energy", "delivery")
HARVEST = """
You stock a library of worked statistics for pupils who are not there. One question about a table stands below.
=== RAIL === {question} === RAIL ===
Lay out every step of the sum from the first column to the last figure, number the steps, doubt each of them once in
a line that begins with HOWEVER, and close with the bare figure on a line of its own after the word LEDGER. Say nothing
else at all, and greet nobody.
"""
FAMILY = f'''
[[family]]
family = "pw_ledger"
technique = "trace_elicitation"
capability = "{NEW}"
tier = "exclusive"
structure = "A question between rails, numbered steps, each doubted, a bare figure at the end."
source = "written for probewatch"
since = "2026-11"
text = """{HARVEST}"""
'''


def asks() -> list[str]:
    """Prompts that ask for it."""
    return [ask.format(n=n, what=what) for ask in ASKS for what in WHAT for n in range(3, 40, 9)]


def changed_project(folder: Path) -> Path:
    """The packages and their data, but for a bundle, with the new entry before `other`."""
    for package in ("classifier", "training", "service"):
        shutil.copytree(ROOT / package, folder / package, ignore=IGNORED)
    for name in ("written", "templates", "sample"):
        shutil.copytree(data_dir() / name, folder / "data" / name)
    before, last, after = (
        (data_dir() / "taxonomy.toml").read_text(encoding="utf-8").partition('[[capability]]\nid = "other"')
    )
    (folder / "data" / "taxonomy.toml").write_text(before + ENTRY + last + after, encoding="utf-8")
    return folder


def run(project: Path, *arguments: str, code: int = 0) -> str:
    """Python in a project, and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(project)}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr[-2000:]
    return ran.stdout + ran.stderr
