"""The sample is what its generator writes, its truth fits its traffic, and its templates are fit to be signatures."""

from __future__ import annotations

import json
import random
import tomllib
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from training.sample import DATA, write_sample
from training.sample_texts import FAMILY_WEIGHTS, SLOT, Pool, fill, read_banks, read_families

SAMPLE = DATA / "sample"
EXPECTED_EVENTS = 1914
EXPECTED_RETRIES = 8


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    lines = (SAMPLE / "traffic.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((SAMPLE / "truth.json").read_text("utf-8"))
    return parsed


def newest_turn(record: dict[str, Any]) -> str:
    text: str = record["prompt"] if "prompt" in record else record["messages"][-1]["content"]
    return text


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_sample(tmp_path)
    for name in ("traffic.jsonl", "truth.json"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), f"run python -m training.sample: {name}"


def test_another_seed_gives_other_traffic(tmp_path: Path) -> None:
    write_sample(tmp_path, seed=1)
    assert (tmp_path / "traffic.jsonl").read_bytes() != (SAMPLE / "traffic.jsonl").read_bytes()


def test_size(records: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    assert len(records) == EXPECTED_EVENTS + EXPECTED_RETRIES
    assert truth["n_events"] == EXPECTED_EVENTS
    assert len(truth["accounts"]) == 47
    assert (SAMPLE / "traffic.jsonl").stat().st_size < 3_000_000


def test_event_ids_repeat_only_as_exact_retries(records: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    counts = Counter(record["event_id"] for record in records)
    assert sorted(event_id for event_id, count in counts.items() if count > 1) == truth["retries"]
    assert len(truth["retries"]) == EXPECTED_RETRIES
    for event_id in truth["retries"]:
        first, second = (record for record in records if record["event_id"] == event_id)
        assert first == second


def test_truth_counts_every_account_and_event(records: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    account_of = {record["event_id"]: record["account_id"] for record in records}
    events = Counter(account_of.values())
    extraction = Counter(account_of[event_id] for event_id in truth["extraction"])
    assert set(events) == set(truth["accounts"])
    for account_id, facts in truth["accounts"].items():
        assert facts["n_events"] == events[account_id]
        assert facts["n_extraction"] == extraction[account_id]
        assert facts["extraction_share"] == round(extraction[account_id] / events[account_id], 4)
        assert (facts["campaign"] is None) == (facts["capabilities"] == []) == (extraction[account_id] == 0)


def test_campaigns_hold_six_accounts_at_sixty_and_twenty_per_cent(truth: dict[str, Any]) -> None:
    for campaign, capabilities in (("A", ["coding"]), ("B", ["agentic_reasoning", "long_horizon_planning"])):
        members = [facts for facts in truth["accounts"].values() if facts["campaign"] == campaign]
        shares = sorted(facts["extraction_share"] for facts in members)
        assert shares == pytest.approx([0.2] * 3 + [0.6] * 3, abs=0.01)
        assert all(facts["capabilities"] == capabilities and facts["n_events"] >= 50 for facts in members)


def test_campaigns_use_their_own_families_only(records: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    for record in records:
        family = truth["extraction"].get(record["event_id"])
        if family is not None:
            assert family in FAMILY_WEIGHTS[truth["accounts"][record["account_id"]]["campaign"]]
    assert set(truth["extraction"].values()) == {family for weights in FAMILY_WEIGHTS.values() for family in weights}


def test_kinds_of_accounts(truth: dict[str, Any]) -> None:
    kinds = Counter(facts["kind"] for facts in truth["accounts"].values())
    events = Counter[str]()
    for facts in truth["accounts"].values():
        events[facts["kind"]] += facts["n_events"]
    assert sum(kind.startswith("interest_") for kind in kinds) == 10
    assert events["heavy_coder"] >= 150 and events["app_support"] >= 150 and events["app_invoices"] >= 150
    assert kinds["low_volume"] == 6 and kinds["student"] == 3 and kinds["chinese"] == 2
    assert {"novelist", "translator", "own_judge", "agent_user", "spanish", "german", "japanese", "hindi"} <= set(kinds)


def test_records_are_plain_and_timed(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert ("prompt" in record) != ("messages" in record)
        assert newest_turn(record).strip()
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() is not None
    assert sum(len(record.get("messages", ())) >= 3 for record in records) >= 28


def test_no_prompt_is_sent_by_two_accounts(records: list[dict[str, Any]]) -> None:
    senders: dict[str, set[str]] = {}
    for record in records:
        senders.setdefault(newest_turn(record), set()).add(record["account_id"])
    assert [text for text, accounts in senders.items() if len(accounts) > 1] == []


def test_only_extraction_prompts_carry_a_template(records: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    longest = {family: max(SLOT.split(text)[::2], key=len) for family, text in read_families(DATA).items()}
    for record in records:
        found = [family for family, fixed in longest.items() if fixed in newest_turn(record)]
        assert found == [family for family in [truth["extraction"].get(record["event_id"])] if family is not None]


def test_no_slot_is_left_open(records: list[dict[str, Any]]) -> None:
    names = {name for text in read_families(DATA).values() for name in SLOT.findall(text)}
    for bank in read_banks(DATA).values():
        names |= set(bank.get("slots", {}))
    for record in records:
        assert names.isdisjoint(SLOT.findall(newest_turn(record)))


def test_families_are_complete_and_unique() -> None:
    families = tomllib.loads((DATA / "templates" / "own.toml").read_text("utf-8"))["family"]
    assert len({family["family"] for family in families}) == len(families) == 10
    for family in families:
        assert set(family) == {"family", "technique", "capability", "tier", "structure", "source", "since", "text"}
        assert family["family"].startswith("pw_") and family["tier"] == "exclusive"
        assert family["capability"] in {"coding", "agentic_reasoning", "long_horizon_planning", "none"}
        assert 400 <= len(SLOT.sub("", family["text"])) <= 1500
        assert len(set(SLOT.findall(family["text"]))) >= 2


def test_banks_hold_distinct_prompts() -> None:
    banks = read_banks(DATA)
    texts = [text for bank in banks.values() for text in bank.get("prompts", ())]
    assert len(texts) == len(set(texts)) == 829
    assert len(banks["coding"]["prompts"]) + sum(len(entry["asks"]) for entry in banks["coding"]["file"]) == 167
    assert len(banks["chinese"]["prompts"]) == 54 and len(banks["novelist"]["prompts"]) == 44


def test_fill_leaves_other_braces_and_fills_nested_slots() -> None:
    slots = {"outer": ["a {inner} c"], "inner": ["b"]}
    assert fill('{outer} {unknown} {"json": 1} {}', slots, random.Random(0)) == 'a b c {unknown} {"json": 1} {}'


def test_a_pool_never_repeats_and_says_when_it_is_short() -> None:
    pool = Pool(["x", "y", "z"])
    taken = [item.prompt for session in pool.take(2, random.Random(0)) for item in session]
    assert (taken, pool.texts) == (["x", "y"], ["z"])
    with pytest.raises(ValueError, match="can give 1 prompts, 2 wanted"):
        pool.take(2, random.Random(0))
