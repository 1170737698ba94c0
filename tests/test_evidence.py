"""Evidence of accounts: units are a set, counts add, and the product of the channels is an e-process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifier import evidence
from classifier.eprocess import BETS
from classifier.errors import BundleError
from classifier.evidence import MOST_UNITS, Baselines, Replay, count_days, log_e_from_counts, minimum_units, replay
from classifier.types import COUNT_SCHEMA, TARGETS, UNIT_SCHEMA, Channel
from classifier.units import DAY_US, merge_units
from classifier.verdicts import decide, flag_scale
from tests.unit_rows import ALL_TARGETS, unit_rows

BASELINES = Baselines(0.001, (0.1, 0.1, 0.1, 0.1))
TIGHT = Baselines(0.2, (0.3, 0.3, 0.3, 0.3))
"""Baselines whose null is enumerated and simulated: high, so that all paths weigh something."""


def same(a: Replay, b: Replay) -> bool:
    """Bit for bit: equal units give equal floats."""
    values = ((getattr(a, field.name), getattr(b, field.name)) for field in fields(Replay))
    return all(x.equals(y) if isinstance(x, pa.Array) else np.array_equal(x, y) for x, y in values)


# --- units ------------------------------------------------------------------------------------------------------------

_rows = st.tuples(
    st.sampled_from(["a", "b", "ä"]),
    st.sampled_from([Channel.SIGNATURE, Channel.INTENT]),
    st.integers(0, 6),  # key
    st.integers(0, 3 * DAY_US),
    st.sampled_from(["x", "y", "é", "z"]),
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(0, 1),
    *(st.integers(0, 7) for _ in TARGETS),
    st.sampled_from([None, "f", "g"]),
)
_tables = st.lists(_rows, max_size=30)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    names = UNIT_SCHEMA.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], UNIT_SCHEMA)


@given(_tables, st.data())
@settings(max_examples=60)
def test_order_splits_copies_and_lateness_change_nothing(rows: list[tuple[object, ...]], data: st.DataObject) -> None:
    again = data.draw(st.permutations(rows + data.draw(st.lists(st.sampled_from(rows), max_size=5)) if rows else rows))
    cut = data.draw(st.integers(0, len(again)))
    once = merge_units([table(rows)])
    early, late = merge_units([table(again[:cut])]), merge_units([table(again[cut:])])
    merged = merge_units([late, early, once.slice(0, cut)])
    assert merged.equals(once)
    assert count_days(merged).equals(count_days(once))
    shuffled = once.take(data.draw(st.permutations(range(once.num_rows)))) if once.num_rows else once
    assert same(replay(shuffled, BASELINES), replay(once, BASELINES))
    first, second = (decide(replay(units, BASELINES), 5, BASELINES) for units in (merged, shuffled))
    assert first.decision == second.decision
    assert np.array_equal(first.flagged_at, second.flagged_at, equal_nan=True)


@given(_tables, _tables)
def test_counts_of_different_units_add(rows: list[tuple[object, ...]], more: list[tuple[object, ...]]) -> None:
    more = [(*row[:2], 100, *row[3:]) for row in more]  # keys of their own
    parts = [count_days(merge_units([table(part)])) for part in (rows, more)]
    wanted: dict[tuple[str, int], NDArray[np.int64]] = {}
    for row in pa.concat_tables(parts).to_pylist():
        numbers = np.array([row["n1"], row["matched"], *row["hits"], row["n2"], *row["hist"]])
        wanted[row["account_id"], row["day"]] = wanted.get((row["account_id"], row["day"]), 0 * numbers) + numbers
    together = count_days(merge_units([table(rows + more)]))
    found = [
        ((row["account_id"], row["day"]), [row["n1"], row["matched"], *row["hits"], row["n2"], *row["hist"]])
        for row in together.to_pylist()
    ]
    assert found == [(key, wanted[key].tolist()) for key in sorted(wanted)]


@given(_tables)
def test_day_counts_alone_give_the_same_evidence(rows: list[tuple[object, ...]]) -> None:
    units = merge_units([table(rows)])
    assert np.array_equal(log_e_from_counts(count_days(units), BASELINES), replay(units, BASELINES).log_e)


def test_counts_by_hand() -> None:
    units = pa.concat_tables(
        [
            unit_rows(["a"] * 3, [5, 5, 6], y=[0b0101, 0, 0], y_public=[0, 0b1000, 0]),
            unit_rows(["a"] * 2, [5, 5], channel=Channel.INTENT, levels=[7, 2], events=[1, 9]),
        ]
    )
    counts = count_days(units)
    hist = [0, 0, 1, 0, 0, 0, 0, 1]
    assert counts.schema.equals(COUNT_SCHEMA)
    assert counts.to_pylist() == [
        {"account_id": "a", "day": 5, "n1": 2, "matched": 2, "hits": [1, 0, 1, 0], "n2": 2, "hist": hist * 4},
        {"account_id": "a", "day": 6, "n1": 1, "matched": 0, "hits": [0] * 4, "n2": 0, "hist": [0] * 32},
    ]


def test_one_prompt_resent_a_thousand_times_is_one_unit() -> None:
    sent = unit_rows(["a"] * 1000, np.arange(1000) // 100, y=1, keys=np.full(1000, 7))
    once = merge_units([sent])
    assert once.equals(merge_units([sent.slice(0, 1)]))
    assert count_days(once)["n1"].to_pylist() == [1]


def test_a_replay_in_shards_is_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    names = [f"account-{i:02}" for i in rng.integers(0, 20, 400)]
    units = merge_units([unit_rows(names, rng.integers(0, 9, 400), y=rng.integers(0, 16, 400))])
    whole = replay(units, BASELINES)
    monkeypatch.setattr(evidence, "BLOCK_UNITS", 37)
    assert same(replay(units, BASELINES), whole)
    assert whole.account_ids.to_pylist() == sorted(set(names))


def test_nothing_seen_is_an_empty_replay() -> None:
    empty = replay(merge_units([]), BASELINES)
    assert (len(empty.account_ids), empty.log_e.shape, empty.log_max_e_target.shape) == (0, (0,), (0, 4))


@pytest.mark.parametrize("m1", [0.0, 1.0, float("nan")])
def test_baselines_are_refused(m1: float) -> None:
    with pytest.raises(BundleError, match="above 0 and below 1"):
        Baselines(m1, (0.1, 0.1, 0.1, 0.1))


# --- the process ------------------------------------------------------------------------------------------------------


def test_the_maximum_is_kept_and_records_lead_to_it() -> None:
    units = unit_rows(["a"] * 60, np.arange(60) // 20, y=[1] * 3 + [0] * 57)
    found = replay(units, BASELINES)
    assert found.log_max_e[0] > found.log_e[0] + 1
    assert found.record_us.tolist() == [0, 1, 2]
    assert found.record_log_e[-1] == found.log_max_e[0]
    three = replay(units.slice(0, 3), BASELINES)
    assert three.log_e[0] == found.log_max_e[0]


def test_the_channels_and_targets_come_together_as_the_formula_says() -> None:
    """Day 1: a match aimed at the first target, and intent 7/7 for all of three units that nothing matched."""
    matched = unit_rows(["a"] * 4, 1, y=[1, 0, 0, 0])
    intent = unit_rows(["a"] * 3, 1, channel=Channel.INTENT, levels=7, events=[1, 2, 3])
    found = replay(pa.concat_tables([matched, intent]), BASELINES)
    hit, level = ([1 + b / m * (1 - m) for b in BETS] for m in (0.001, 0.1))
    won = 0.5 + 0.5 * np.mean([h * (1 - b) ** 3 for h, b in zip(hit, BETS, strict=True)])
    lost = 0.5 + 0.5 * np.mean([(1 - b) ** 4 for b in BETS])
    meant = 0.5 + 0.5 * (0.5 + 0.5 * np.mean([x**3 for x in level]))
    assert 20 < meant < 100
    wanted = np.array([won, lost, lost, lost]) * meant
    assert np.exp(found.log_e_target[0]) == pytest.approx(wanted, rel=1e-12)
    assert np.exp(found.log_e[0]) == pytest.approx(wanted.mean(), rel=1e-12)
    more = unit_rows(["a"] * 30, 1, channel=Channel.INTENT, levels=7, events=np.arange(4, 34))
    capped = replay(pa.concat_tables([matched, intent, more]), BASELINES)
    assert np.exp(capped.log_e_target[0]) == pytest.approx(np.array([won, lost, lost, lost]) * 100, rel=1e-12)


@given(_tables, st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=25)
def test_reading_a_state_never_changes_it(rows: list[tuple[object, ...]], reads: list[int]) -> None:
    """However often, and after however few of the units, somebody looked on the way."""
    state, seen = merge_units([]), replay(merge_units([table(rows)]), BASELINES)
    for at, row in enumerate(rows):
        state = merge_units([state, table([row])])
        if at in reads:
            before = state.to_pylist()
            decide(replay(state, BASELINES), 5, BASELINES)
            count_days(state)
            assert state.to_pylist() == before
    assert same(replay(state, BASELINES), seen)


def test_the_units_of_one_event_count_at_once() -> None:
    def twice(second_event: int) -> Replay:
        low = unit_rows(["a"], 0, channel=Channel.SIGNATURE)
        high = unit_rows(["a"], 0, channel=Channel.INTENT, levels=7, events=[second_event])
        return replay(pa.concat_tables([high, low]), BASELINES)

    assert len(twice(0).record_us) == 1
    assert len(twice(1).record_us) == 2
    assert twice(0).log_e == twice(1).log_e


def test_the_past_of_an_account_is_not_changed_by_what_comes_later() -> None:
    rng = np.random.default_rng(2)
    units = unit_rows(["a"] * 200, np.sort(rng.integers(0, 30, 200)), y=rng.random(200) < 0.1)
    early, late = replay(units.slice(0, 120), BASELINES), replay(units, BASELINES)
    n = len(early.record_us)
    assert late.record_log_e[:n].tolist() == early.record_log_e.tolist()


OUTCOMES = {"match": TIGHT.m1, "high": (1 - TIGHT.m1) * TIGHT.m2[0], "low": (1 - TIGHT.m1) * (1 - TIGHT.m2[0])}
"""What a unit may be, with its chance at the tight null: a match, or else intent 1 or 0."""
DAYS = np.array([1, 1, 2, 2, 4, 4])


def worlds(depth: int, chances: dict[str, float]) -> tuple[list[tuple[str, ...]], NDArray[np.float64]]:
    paths = list(product(chances, repeat=depth))
    return paths, np.array([np.prod([chances[step] for step in path]) for path in paths])


def evidence_of(paths: list[tuple[str, ...]], intent_steps: set[str]) -> NDArray[np.float64]:
    """e of every path, one account each; the intent channel sees the steps named."""
    depth = len(paths[0])
    steps = np.array(paths).ravel()
    names, days = [f"{i:05}" for i in range(len(paths)) for _ in range(depth)], np.tile(DAYS[:depth], len(paths))
    signature = unit_rows(names, days, y=np.where(steps == "match", ALL_TARGETS, 0))
    levels = np.where(np.isin(steps, ["high", "match"]), 7, 0)
    intent = unit_rows(names, days, channel=Channel.INTENT, levels=levels)
    seen = np.isin(steps, list(intent_steps))
    return np.exp(replay(pa.concat_tables([signature, intent.filter(pa.array(seen))]), TIGHT).log_e)


UNMATCHED = {"high", "low"}


@pytest.mark.parametrize("depth", [4, 6])
def test_mean_over_all_paths_is_one_without_the_cap_and_less_with_it(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, weights = worlds(depth, OUTCOMES)
    assert weights.sum() == pytest.approx(1)
    monkeypatch.setattr(evidence, "CAP", np.inf)
    assert weights @ evidence_of(paths, UNMATCHED) == pytest.approx(1, abs=1e-12)
    monkeypatch.setattr(evidence, "CAP", 2)
    assert 0.5 < weights @ evidence_of(paths, UNMATCHED) < 0.995


def test_no_stopping_rule_gains_on_the_product_of_channels() -> None:
    chances = np.array(list(OUTCOMES.values()))
    value = evidence_of(worlds(6, OUTCOMES)[0], UNMATCHED)
    for depth in range(5, -1, -1):
        now = evidence_of(worlds(depth, OUTCOMES)[0], UNMATCHED) if depth else np.ones(1)
        value = np.maximum(now, value.reshape(-1, 3) @ chances)
    assert value[0] == pytest.approx(1, abs=1e-12)


def test_channels_that_rise_together_need_the_chain_rule() -> None:
    """Intent is 1 exactly on matches: the intent channel must not see them, or the product gains in the mean."""
    paths, weights = worlds(6, {"match": TIGHT.m1, "low": 1 - TIGHT.m1})
    assert weights @ evidence_of(paths, UNMATCHED) <= 1
    assert weights @ evidence_of(paths, {"match", "low"}) > 1.3


def simulated_maxima(
    schedule: Callable[[np.random.Generator, NDArray[np.bool_]], NDArray[np.int64]],
) -> NDArray[np.float64]:
    """max e of 4000 accounts at the conditional baseline; `schedule` sets gaps in days, knowing the matches so far."""
    rng = np.random.default_rng(11)
    n, depth = 4000, 40
    matched = rng.random((n, depth)) < TIGHT.m1
    days = np.cumsum(schedule(rng, np.pad(matched, ((0, 0), (1, 0)))[:, :-1]), axis=1).ravel()
    names = [f"{i:05}" for i in range(n) for _ in range(depth)]
    level = np.where(rng.random(n * depth) < TIGHT.m2[0], 7, 0)
    signature = unit_rows(names, days, y=matched.ravel() * ALL_TARGETS)
    intent = unit_rows(names, days, channel=Channel.INTENT, levels=level).filter(pa.array(~matched.ravel()))
    return replay(pa.concat_tables([signature, intent]), TIGHT).log_max_e


@pytest.mark.parametrize(
    "schedule",
    [
        lambda rng, after_match: rng.integers(0, 2, after_match.shape),
        lambda rng, after_match: np.where(after_match, 0, rng.geometric(0.1, after_match.shape)),
    ],
    ids=["evenly", "bursts after every match"],
)
def test_a_hundredfold_is_reached_by_at_most_one_percent(
    schedule: Callable[[np.random.Generator, NDArray[np.bool_]], NDArray[np.int64]],
) -> None:
    reached = (simulated_maxima(schedule) >= np.log(100)).mean()
    assert 0.001 < reached <= 0.01


def test_a_million_clean_units_stay_finite_and_a_late_turn_is_seen() -> None:
    row = {
        "account_id": "a",
        "n1": 1_000_000,
        "matched": 0,
        "hits": [0] * 4,
        "n2": 1_000_000,
        "hist": ([1_000_000] + [0] * 7) * 4,
    }
    late = {"account_id": "a", "n1": 12, "matched": 6, "hits": [6, 0, 0, 0], "n2": 0, "hist": [0] * 32}
    clean = pa.Table.from_pylist([{"day": 0, **row}], COUNT_SCHEMA)
    turned = pa.Table.from_pylist([{"day": 0, **row}, {"day": 30, **late}], COUNT_SCHEMA)
    assert log_e_from_counts(clean, BASELINES) == pytest.approx(np.log(0.5 * 0.75), abs=1e-12)
    assert log_e_from_counts(turned, BASELINES) > np.log(1e10)


def test_units_that_flag_half_of_the_accounts() -> None:
    """DESIGN.md: a median of about 6 at half extraction, 1 % of 250,000 accounts being bad and nearly all flagged."""
    threshold = flag_scale(250_000) - np.log(2500)
    assert minimum_units(threshold, 0.001) == 5
    assert minimum_units(threshold, 0.001, share=0.1) == 49
    assert minimum_units(flag_scale(250_000), 0.001) == 9
    assert minimum_units(threshold, 0.1, share=0.1) == MOST_UNITS + 1
