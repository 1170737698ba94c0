"""A fourth capability: what follows from an entry in the taxonomy, in one process that is given such a taxonomy.

With models trained, and through the console: `python -m tests.benchmarks.fourth_capability`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from classifier import taxonomy
from tests.fourth_capability import NEW, ROOT, changed_project, run

TARGETS = ["coding", "agentic_reasoning", "long_horizon_planning", NEW, "other"]
FOLLOWS = """
import json
from pathlib import Path
import numpy as np
from classifier.bundle import open_bundle
from classifier.errors import BundleError
from classifier.evidence import Baselines, count_days, replay
from classifier.rows import rows_of
from classifier.units import merge_units
from classifier.types import ACCOUNT_SCHEMA, LABEL_SCHEMA, TARGETS
from classifier.verdicts import decide
from service.report_words import title_of
from service.store.codec import levels_of, unit_table, units_of
from service.store.facts import check_facts
from service.store.opening import StoreError, open_store
from service.store.schema import COUNTED
from service.store.upgrade import check_version, upgrade
from service.target_colours import target_css
from tests.unit_rows import unit_rows

told = {"targets": TARGETS, "labels": LABEL_SCHEMA.names, "accounts": ACCOUNT_SCHEMA.names, "css": target_css()}
told["title"] = title_of("data_analysis")

baselines = Baselines(0.001, (0.3,) * len(TARGETS))
units = merge_units([unit_rows(["harvester"] * 30, 3, y=1 << TARGETS.index("data_analysis"), families=["f"] * 30),
                     unit_rows(["harvester"] * 30, 3, channel=1, levels=np.arange(30) % 8, events=np.arange(30) + 100)])
found = decide(replay(units, baselines), 1000, baselines)
told["verdict"] = [str(found.decision[0]), *found.capabilities[0]]
told["counts"] = [len(count_days(units)["hits"][0]), len(count_days(units)["hist"][0])]
rows = units_of(rows_of(LABEL_SCHEMA.empty_table(), units).units, [1] * len(units))
told["levels"] = levels_of(rows[-1])
told["kept"] = unit_table(rows, units["account_id"].to_pylist()).equals(units)

store = open_store("sqlite:///store.db")
told["upgrades"] = [upgrade(store), upgrade(store)]
check_version(store)
with store.writing() as connection:
    check_facts(connection, b"key", baselines)
    told["columns"] = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(day_totals)")][2:]
    connection.exec_driver_sql("UPDATE facts SET value = 'coding,other' WHERE name = 'capabilities'")
try:
    with store.writing() as connection:
        check_facts(connection, b"key", baselines)
except StoreError as error:
    told["refused store"] = str(error)
try:
    open_bundle(Path("data/bundle"))
except BundleError as error:
    told["refused bundle"] = str(error)
print(json.dumps(told))
"""
LEARNS = """
import json
from training.calibrate import load_findings
from training.lessons import CAPABILITY_SHARES
from training.card_words import SHORT_NAMES
found = load_findings().static
print(json.dumps([found.baselines.m2, dict(found.decisions.thresholds), found.decisions.static.scale, SHORT_NAMES,
                  CAPABILITY_SHARES]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = changed_project(tmp_path_factory.mktemp("fourth") / "project")
    (folder / "tests").mkdir()
    for name in ("__init__.py", "unit_rows.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests" / name)
    (folder / "data" / "bundle").mkdir()
    shutil.copy(ROOT / "data" / "bundle" / "manifest.json", folder / "data" / "bundle")
    return folder


@pytest.fixture(scope="module")
def told(project: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(project, "-c", FOLLOWS))
    return document


def test_columns_words_and_colours_follow(told: dict[str, Any]) -> None:
    assert told["targets"] == TARGETS and told["title"] == "data analysis"
    assert f"p_{NEW}" in told["labels"] and {f"log10_e_{NEW}", f"share_{NEW}"} <= set(told["accounts"])
    assert told["css"].count(f"--{NEW}: #") == 2 and f".{NEW} {{ --mark: var(--{NEW}); }}" in told["css"]


def test_evidence_and_verdicts_follow(told: dict[str, Any]) -> None:
    assert told["verdict"] == ["flag", NEW]
    assert told["counts"] == [5, 40]


def test_the_store_follows(told: dict[str, Any]) -> None:
    assert told["levels"] == [5] * 5 and told["kept"]
    assert told["upgrades"] == [True, False]
    assert sorted(told["columns"]) == sorted([*(f"n_{name}" for name in TARGETS), "n_matched"])


def test_what_was_made_for_others_is_refused(told: dict[str, Any]) -> None:
    assert told["refused store"].startswith("The evidence in the store was counted for coding, other, the taxonomy ")
    assert told["refused bundle"].startswith("bundle data/bundle: it tells agentic_reasoning, coding, long_horizon_")
    assert told["refused bundle"].endswith("take the taxonomy it was made with or rebuild it with `probewatch train`.")


@pytest.mark.training
def test_learning_follows(project: Path) -> None:
    """What no evaluation has measured is named as the others are, and intent is not bet on for it."""
    m2, thresholds, scale, short, shares = json.loads(run(project, "-c", LEARNS))
    assert m2[3] == 0.9 and max(m2[0], m2[4]) < 0.9
    assert list(thresholds) == TARGETS[:-1] and len(set(thresholds.values())) == 1
    assert len(scale) == 6 and len(set(scale[:-1])) == 1
    assert list(short) == list(shares) == TARGETS and short[NEW] == "data analysis"


@pytest.mark.parametrize(
    "ids", [["other"], ["coding"], ["other", "coding"], ["a", "a", "other"], ["a", "b", "c", "d", "e", "other"]]
)
def test_a_taxonomy_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[str]) -> None:
    monkeypatch.setattr(taxonomy, "data_dir", lambda: tmp_path)
    (tmp_path / "taxonomy.toml").write_text("".join(f'[[capability]]\nid = "{i}"\ntitle = "T"\n' for i in ids))
    with pytest.raises(ValueError, match="expected 1 to 4 capabilities, then other, each once"):
        taxonomy.read_taxonomy.__wrapped__()
