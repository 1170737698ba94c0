"""data/taxonomy.toml and data/templates/families.toml: closed lists agree, and every family has its facts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from classifier.types import TARGETS, Tier

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def taxonomy() -> dict[str, Any]:
    return tomllib.loads((DATA / "taxonomy.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    return tomllib.loads((DATA / "templates" / "families.toml").read_text(encoding="utf-8"))


def test_the_capabilities_are_the_targets_of_evidence(taxonomy: dict[str, Any]) -> None:
    assert tuple(c["id"] for c in taxonomy["capability"]) == TARGETS
    assert all(c["title"] and c["definition"].strip() and c["examples"] for c in taxonomy["capability"])


def test_both_files_have_one_list_of_techniques(taxonomy: dict[str, Any], families: dict[str, Any]) -> None:
    ids = [t["id"] for t in taxonomy["technique"]]
    assert families["techniques"] == ids
    assert len(set(ids)) == len(ids)


def test_every_family_has_its_facts(families: dict[str, Any]) -> None:
    names = [f["family"] for f in families["family"]]
    assert names == sorted(set(names))
    assert len(names) == 60
    for facts in families["family"]:
        assert set(facts) == {
            "family",
            "technique",
            "capability",
            "tier",
            "structure",
            "source",
            "since",
            "has_template",
        }
        assert facts["technique"] in families["techniques"]
        assert facts["capability"] in (*TARGETS, "none")
        assert Tier(facts["tier"]) in (Tier.EXCLUSIVE, Tier.PUBLIC)
        assert facts["has_template"] or facts["tier"] == Tier.PUBLIC  # a bare instruction is no signature
