"""service/accounts.py and reasons.py: every column of accounts.parquet against a run small enough to count by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from classifier.campaigns import Campaigns
from classifier.evidence import Baselines, replay
from classifier.types import ACCOUNT_SCHEMA, CAMPAIGN_SCHEMA, LABEL_SCHEMA, TARGETS, UNIT_SCHEMA, Channel, Decision
from classifier.units import merge_units
from classifier.verdicts import decide
from service.accounts import Judged, build_accounts, particulars, summarise_labels
from service.reasons import Case, FamilyUse, IntentUse, reasons_of

START = datetime(2026, 9, 1, 12, tzinfo=UTC)
BASELINES = Baselines(0.001, (0.02, 0.02, 0.02, 0.02))
POPULATION = 10


def event(
    account: str, n: int, capability: str, family: str | None = None, benign: str | None = None
) -> dict[str, Any]:
    """Prompt number n of an account, half a day after the one before."""
    return dict.fromkeys(LABEL_SCHEMA.names) | {
        "event_id": f"{account}-{n:02d}",
        "account_id": account,
        "timestamp": START + timedelta(hours=12 * n),
        "capability": capability,
        **{f"p_{c}": 0.5 for c in TARGETS[:3]},
        "p_extraction": 0.5,
        "template_id": family,
        "template_family": family,
        "technique": f"{family}_technique" if family is not None else None,
        "benign_app": benign,
        "unit": n,
        "scaffolds": [],
    }


def unit(label: dict[str, Any], channel: int, **values: Any) -> dict[str, Any]:
    base = {name: label[name] for name in ("event_id", "account_id", "timestamp")}
    zero = {name: 0 for name in UNIT_SCHEMA.names if name.startswith(("y", "matched", "level_"))}
    return {**zero, **base, "channel": channel, "key": label["unit"], "family": None, **values}


@pytest.fixture(scope="module")
def accounts() -> dict[str, dict[str, Any]]:
    """ann extracts code with two families; bob runs a public judge; cat is a support application; dan spoke once."""
    labels, units = [], []
    for n in range(8):
        family = ("seeds", "seeds", "seeds", "bugs")[n] if n < 4 else None
        labels.append(event("ann", n, "coding" if n < 6 else "other", family))
        y = {"y": 1, "matched": 1, "family": family} if family is not None else {}
        units.append(unit(labels[-1], Channel.SIGNATURE, **y))
        if family is None:
            units.append(unit(labels[-1], Channel.INTENT, level_coding=7 if n == 7 else 0))
    for n in range(5):
        labels.append(event("bob", n, "other", "judge"))
        units.append(unit(labels[-1], Channel.SIGNATURE, y_public=8, matched=1, family="judge"))
    labels += [event("cat", n, "other", benign="support") for n in range(3)]
    labels.append(event("dan", 0, "agentic_reasoning"))
    units.append(unit(labels[-1], Channel.SIGNATURE))
    merged = merge_units([pa.Table.from_pylist(units, UNIT_SCHEMA)])
    replayed = replay(merged, BASELINES)
    campaign = {"campaign_id": "campaign-a", "n_accounts": 3, "n_prompts": 9, "log10_e": 4.0, "first_seen": START}
    lists = {name: [] for name in ("capabilities", "techniques", "template_families", "scaffolds")}
    table = pa.Table.from_pylist([campaign | lists | {"last_seen": START}], CAMPAIGN_SCHEMA)
    campaigns = Campaigns(table, {"ann": "campaign-a"})
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("labels", pa.Table.from_pylist(labels, LABEL_SCHEMA))
        summarise_labels(db)
        known = particulars(db, merged, pa.array(["ann", "bob"]))
        verdicts = decide(replayed, POPULATION, BASELINES)
        found = build_accounts(db, range(4), Judged(verdicts, replayed, campaigns, BASELINES, known))
    assert found.schema.equals(ACCOUNT_SCHEMA)
    return {row["account_id"]: row for row in found.to_pylist()}


def test_accounts_are_sorted_and_complete(accounts: dict[str, dict[str, Any]]) -> None:
    assert list(accounts) == ["ann", "bob", "cat", "dan"]
    assert {name: row["decision"] for name, row in accounts.items()} == {
        "ann": "flag",
        "bob": "review",
        "cat": "insufficient_evidence",
        "dan": "insufficient_evidence",
    }


def test_a_flagged_account(accounts: dict[str, dict[str, Any]]) -> None:
    row = accounts["ann"]
    assert (row["n_prompts"], row["n_units"]) == (8, 8)
    assert (row["first_seen"], row["last_seen"]) == (START, START + timedelta(days=3, hours=12))
    assert [row[f"share_{c}"] for c in TARGETS] == [0.75, 0.0, 0.0, 0.25]
    assert row["template_rate"] == 0.5
    assert (row["top_template_family"], row["techniques"]) == ("seeds", ["seeds_technique", "bugs_technique"])
    assert (row["basis"], row["capabilities"], row["campaign_id"]) == ("signature", ["coding"], "campaign-a")
    assert row["reasons"] == [
        "4 of 8 distinct prompts, on 3 days, match known templates (seeds 3, bugs 1); within the baseline at most 1 in "
        "1,000 do",
        "4 distinct prompts without a known template look made to harvest answers (coding): intent is 25\u00a0% on "
        "average, within the baseline at most 2\u00a0%",
        "one of 3 accounts in campaign-a",
    ]
    assert row["evidence_event_ids"] == ["ann-00", "ann-01", "ann-02", "ann-03", "ann-07"]
    assert row["review_state"] is None


def test_evidence_is_that_of_the_verdict(accounts: dict[str, dict[str, Any]]) -> None:
    row = accounts["ann"]
    harmonic = sum(1 / i for i in range(1, POPULATION + 1))
    assert row["log10_threshold"] == pytest.approx(math.log10(POPULATION * harmonic / 0.01))  # R = 1
    assert row["log10_max_e"] >= max(row["log10_e"], row["log10_threshold"])
    assert row["log10_e"] == pytest.approx(math.log10(sum(10 ** row[f"log10_e_{c}"] for c in TARGETS) / 4))
    assert START < row["flagged_at"] <= START + timedelta(days=1, hours=12)
    assert all(accounts[name]["flagged_at"] is None for name in ("bob", "cat", "dan"))


def test_public_families_are_named_as_such(accounts: dict[str, dict[str, Any]]) -> None:
    row = accounts["bob"]
    assert (row["basis"], row["capabilities"], row["template_rate"]) == ("public", ["other"], 1.0)
    assert row["reasons"] == [
        "5 of 5 distinct prompts, on 3 days, match public templates (judge 5), which honest people send too"
    ]
    assert row["evidence_event_ids"] == [f"bob-{n:02d}" for n in range(5)]


def test_an_account_without_evidence_has_none(accounts: dict[str, dict[str, Any]]) -> None:
    row = accounts["cat"]
    assert (row["n_prompts"], row["n_units"], row["log10_e"], row["log10_max_e"]) == (3, 0, 0.0, 0.0)
    assert (row["basis"], row["capabilities"], row["techniques"], row["evidence_event_ids"]) == (None, [], [], [])
    assert row["reasons"] == ["known benign applications explain all that it sent"]
    assert accounts["dan"]["reasons"][0].startswith("1 distinct prompt: it takes ")


def test_reasons_name_few_families() -> None:
    many = FamilyUse(12, 1, [(f"family-{n}", 6 - n) for n in range(5)])
    (reason,) = reasons_of(Case(Decision.FLAG, ["coding"], 1_200, exclusive=many), BASELINES, 7)
    assert reason == (
        "12 of 1,200 distinct prompts, on 1 day, match known templates (family-0 6, family-1 5, family-2 4, 2 more); "
        "within the baseline at most 1 in 1,000 do"
    )


def test_intent_within_the_baseline_is_no_reason() -> None:
    quiet = IntentUse(9, (0.02, 0.9, 0.0, 0.0))
    assert reasons_of(Case(Decision.REVIEW, ["coding"], 9, intent=quiet), BASELINES, 7) == []
    (reason,) = reasons_of(Case(Decision.REVIEW, ["coding", "agentic_reasoning"], 9, intent=quiet), BASELINES, 7)
    assert "(agentic reasoning): intent is 90\u00a0%" in reason


def test_clear_accounts_need_no_reason() -> None:
    case = Case(Decision.CLEAR, [], 9, exclusive=FamilyUse(1, 1, [("seeds", 1)]))
    assert reasons_of(case, BASELINES, 7) == []
