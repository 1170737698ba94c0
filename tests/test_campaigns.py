"""Families by hand, who belongs together, and what is shared but unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from zlib import crc32

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.campaigns import (
    CAMPAIGN_USE_SQL,
    DISCOVER_ACCOUNTS,
    SCAFFOLD_USE_SQL,
    Campaigns,
    Group,
    Period,
    describe,
    discover,
    group_accounts,
    join_discovered,
    member_table,
)
from classifier.errors import UsageError
from classifier.families import FAMILY_BETS, FAMILY_RATE, PARTS, FamilyEvidence, family_evidence, sightings_of
from classifier.types import CAMPAIGN_SCHEMA, DISCOVERED_SCHEMA, LABEL_SCHEMA
from classifier.units import DAY_US, merge_units
from classifier.verdicts import flag_scale
from tests.unit_rows import unit_rows

N_FAMILIES = 40


def sends(account: str, family: str | None, days: Sequence[int], each: int = 2, y: int = 1) -> pa.Table:
    """Distinct prompts of one account, `each` a day, which match the family if one is named."""
    names, on = [account] * (each * len(days)), np.repeat(days, each)
    events = crc32(f"{account} {family}".encode()) % 10**8 * 100 + np.arange(len(names))
    families = [family] * len(names)
    return unit_rows(names, on, y=y if family is not None else 0, families=families, events=events)


def honest(n: int, days: Sequence[int]) -> list[pa.Table]:
    return [sends(f"honest-{i:03}", None, days) for i in range(n)]


def group(name: str, accounts: int, families: Sequence[str], days: Sequence[int]) -> list[pa.Table]:
    return [sends(f"{name}-{i:02}", family, days) for i in range(accounts) for family in families]


def use_of(units: pa.Table, groups: Sequence[Group]) -> pa.Table:
    """What CAMPAIGN_USE_SQL gives where each unit was sent once."""
    sent = "(SELECT *, family AS template_family, 't-' || family AS technique, [7::UBIGINT] AS scaffolds FROM units)"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("units", units)
        connection.register("members", member_table(groups))
        return connection.sql(CAMPAIGN_USE_SQL.format(labels=sent, members="members")).to_arrow_table()


def found(parts: Sequence[pa.Table]) -> Campaigns:
    units = merge_units(parts)
    groups = group_accounts(sightings_of(units), N_FAMILIES)
    return describe(groups, use_of(units, groups))


def judged(units: pa.Table, n_families: int = N_FAMILIES) -> FamilyEvidence:
    return family_evidence(sightings_of(units), n_families)


def members(campaigns: Campaigns) -> list[set[str]]:
    """Initials of the accounts of each campaign."""
    ids = campaigns.table["campaign_id"].to_pylist()
    return [{name for name, at in campaigns.of_account.items() if at == campaign} for campaign in ids]


def names(group_name: str, n: int) -> set[str]:
    return {f"{group_name}-{i:02}" for i in range(n)}


# --- families ---------------------------------------------------------------------------------------------------------


def test_family_evidence_by_hand() -> None:
    """Day 0: two of three active accounts match; day 1: none of two; day 2: one of one. M is reached within day 2."""
    parts = [
        unit_rows(["a", "b", "c", "a"], 0, y=[0, 1, 1, 0], families=[None, "f", "f", None], events=[0, 1, 2, 3]),
        unit_rows(["a", "b"], 1, events=[4, 5]),
        unit_rows(["c", "c", "c"], 2, y=1, families=["f"] * 3, events=[6, 7, 8]),
    ]
    evidence = judged(merge_units(parts))
    g = [1 / (1 + math.log2(1 + s)) for s in range(4)]
    hit = [1 + b / FAMILY_RATE * (1 - FAMILY_RATE) for b in FAMILY_BETS]
    bets = [(b, h) for b, h in zip(FAMILY_BETS, hit, strict=True)]
    early = 1 / 2 + 1 / 2 / PARTS  # all that is staked on accounts active from the first half-hour on
    starts = [(g[s] - g[s + 1]) / len(bets) for s in range(3)]
    day_0 = [starts[0] * (early * h**2 * (1 - b) + 1 - early) for b, h in bets]
    day_1 = [
        a * (1 - b) ** 2 + starts[1] * (early * (1 - b) ** 2 + 1 - early) for a, (b, _) in zip(day_0, bets, strict=True)
    ]
    day_2 = [a * h + starts[2] * (early * h + 1 - early) for a, (_, h) in zip(day_1, bets, strict=True)]
    assert evidence.families == ["f"]
    assert evidence.log_max_e[0] == pytest.approx(math.log(sum(day_2) + g[3]), rel=1e-12)
    assert math.log(sum(day_0) + g[1]) < evidence.log_max_e[0]
    assert evidence.flagged_at.tolist() == np.array([2], "datetime64[us]").tolist()  # the second match of the first day
    assert math.log(sum(day_0) + g[1]) > flag_scale(N_FAMILIES)


def test_one_account_does_not_make_a_family_whatever_it_sends() -> None:
    evidence = judged(merge_units([sends("a", "f", [0], each=500), *honest(20, [0])]))
    assert evidence.flagged.tolist() == [False]


def test_a_rate_of_matches_within_the_baseline_does_not_flag() -> None:
    """2,000 accounts a day for 10 days, of which one in 10,000 matches; by chance 6 did where 2 are expected."""
    rng = np.random.default_rng(1)
    accounts = [f"{i:04}" for i in range(2000)] * 10
    y = rng.random(20_000) < FAMILY_RATE
    units = unit_rows(accounts, np.repeat(np.arange(10), 2000), y=y, families=["f" if hit else None for hit in y])
    evidence = judged(units)
    assert (int(y.sum()), evidence.flagged.tolist()) == (6, [False])


def test_fewer_families_than_match_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least the 2 exclusive families"):
        judged(merge_units([sends("a", "f", [0]), sends("a", "g", [0])]), 1)


def test_nothing_matched_is_no_campaign() -> None:
    campaigns = found(honest(3, [0, 1]))
    assert (campaigns.table.num_rows, campaigns.table.schema, campaigns.of_account) == (0, CAMPAIGN_SCHEMA, {})
    assert found([]).table.num_rows == 0


# --- campaigns --------------------------------------------------------------------------------------------------------


def test_one_campaign_in_full() -> None:
    campaigns = found([*group("op", 5, ["f", "g"], [3, 4]), *honest(50, [3, 4]), sends("op-00", None, [3])])
    (row,) = campaigns.table.to_pylist()
    assert members(campaigns) == [names("op", 5)]
    assert (row["n_accounts"], row["n_prompts"], row["capabilities"]) == (5, 40, ["coding"])
    assert (row["techniques"], row["template_families"], row["scaffolds"]) == (["t-f", "t-g"], ["f", "g"], [7])
    assert (row["first_seen"].day, row["last_seen"].day) == (4, 5)  # of January 1970
    assert row["first_seen"] < row["flagged_at"] < row["last_seen"]
    assert row["log10_e"] > 10


@pytest.mark.parametrize("seed", range(3))
def test_campaigns_do_not_depend_on_order(seed: int) -> None:
    parts = [*group("op", 4, ["f", "g"], [3, 4]), *group("other", 3, ["h"], [5]), *honest(10, [3])]
    order = np.random.default_rng(seed).permutation(len(parts))
    first, second = found(parts), found([parts[i] for i in order])
    assert first.table.equals(second.table)
    assert first.of_account == second.of_account


@pytest.mark.parametrize(("resellers", "one", "two"), [(1, 4, 3), (2, 16, 14)])
def test_two_operators_stay_apart_though_resellers_serve_both(resellers: int, one: int, two: int) -> None:
    both = [
        sends(f"both-{i:02}", family, [1, 2], each) for i in range(resellers) for family, each in (("f", 3), ("h", 2))
    ]
    campaigns = found([*group("one", one, ["f", "g"], [1, 2]), *group("two", two, ["h"], [1, 2]), *both])
    assert members(campaigns) == [names("one", one) | names("both", resellers), names("two", two)]


def test_a_family_that_rests_is_two_campaigns() -> None:
    campaigns = found([*group("early", 4, ["f"], [1, 5, 19]), *group("late", 3, ["f"], [35, 40])])
    assert members(campaigns) == [names("early", 4), names("late", 3)]
    assert len(set(campaigns.table["campaign_id"].to_pylist())) == 2


def test_a_change_of_template_is_one_campaign() -> None:
    campaigns = found([*group("op", 6, ["f"], [1, 2, 3]), *group("op", 6, ["g"], [4, 5])])
    assert members(campaigns) == [names("op", 6)]


def test_families_far_apart_in_time_are_not_one_campaign_though_accounts_stay() -> None:
    parts = [*group("op", 6, ["f"], [1, 2, 3]), *group("op", 6, ["g"], [40]), *group("new", 2, ["g"], [40])]
    campaigns = found(parts)
    assert members(campaigns) == [names("op", 6), names("new", 2)]
    assert campaigns.table["template_families"].to_pylist() == [["f"], ["g"]]


def test_many_families_of_which_each_account_sends_a_few_are_one_campaign() -> None:
    rng = np.random.default_rng(0)
    parts = [
        sends(f"op-{i:02}", family, [int(rng.integers(0, 6))], each=int(rng.integers(2, 4)))
        for i in range(60)
        for family in rng.choice(list("fghijk"), 2, replace=False)
    ]
    assert members(found(parts)) == [names("op", 60)]


def test_one_match_is_no_link_and_a_public_family_no_campaign() -> None:
    public = [
        unit_rows([f"op-{i:02}"] * 9, 1, y_public=1, families=["framework"] * 9, events=np.arange(9) + 5000 * i)
        for i in range(30)
    ]
    once = sends("once", "f", [1], each=1)
    assert members(found([*group("op", 3, ["f"], [1]), *public, once])) == [names("op", 3)]


# --- scaffolds --------------------------------------------------------------------------------------------------------

Label = tuple[str, int, list[int], float, str | None, str | None]
"""account, day, scaffolds, p_extraction, family, benign application."""


def label_rows(rows: Sequence[Label]) -> pa.Table:
    def row(number: int, label: Label) -> Mapping[str, object]:
        account, day, scaffolds, p, family, app = label
        known = {"event_id": f"{number:06}", "account_id": account, "timestamp": day * DAY_US + number, "unit": number}
        zeros = {"p_coding": 0.0, "p_agentic_reasoning": 0.0, "p_long_horizon_planning": 0.0, "capability": "other"}
        facts = {"template_family": family, "technique": None if family is None else "t", "benign_app": app}
        return {**known, **zeros, **facts, "p_extraction": p, "scaffolds": scaffolds}

    return pa.Table.from_pylist([row(i, label) for i, label in enumerate(rows)], LABEL_SCHEMA)


def query(sql: str, labels: pa.Table, **values: int) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("labels", labels)
        return connection.sql(sql.format(source="labels", **values)).to_arrow_table()


def discovered(rows: Sequence[Label]) -> pa.Table:
    labels = label_rows(rows)
    us = labels["timestamp"].cast(pa.int64()).to_numpy()
    uses = query(SCAFFOLD_USE_SQL, labels, least_accounts=DISCOVER_ACCOUNTS)
    return discover(uses, Period(int(us.min()), int(us.max())))


def test_discovered_by_hand() -> None:
    """Scaffold 8: six accounts, in weeks 0, 2, 2, 2, 2, 2 of three; first uses have the median .6."""
    first = [
        ("a", 0, [8], 0.2, None, None),
        *((f"b{i}", 14 + i, [8, 9], p, None, None) for i, p in enumerate((0.5, 0.6, 0.7, 0.8, 0.6))),
    ]
    again: list[Label] = [("a", 20, [8], 1.0, None, None)] * 10
    few: list[Label] = [(f"c{i}", 1, [3], 1.0, None, None) for i in range(4)]
    known: list[Label] = [(f"d{i}", 1, [4], 1.0, "f", None) for i in range(9)] + [
        (f"d{i}", 1, [5], 1.0, None, "app") for i in range(9)
    ]
    table = discovered([*first, *again, *few, *known])
    assert table.schema.equals(DISCOVERED_SCHEMA)
    eight, nine = table.to_pylist()
    assert (eight["scaffold"], eight["n_accounts"], eight["n_prompts"]) == (8, 6, 16)
    assert eight["p_extraction"] == pytest.approx(0.6)
    assert eight["growth"] == pytest.approx(5 * 3 / 6)
    assert (eight["first_seen"].day, eight["last_seen"].day) == (1, 21)
    assert eight["example_event_ids"] == [f"{i:06}" for i in range(5)]
    assert (nine["scaffold"], nine["n_accounts"], nine["growth"]) == (9, 5, 3)


def test_volume_does_not_rank_and_accounts_and_intent_do() -> None:
    loud: list[Label] = [(f"a{i % 6}", 0, [1], 0.5, None, None) for i in range(600)]
    wide: list[Label] = [(f"a{i}", 0, [2], 0.5, None, None) for i in range(8)]
    bold: list[Label] = [(f"a{i}", 0, [3], 0.9, None, None) for i in range(6)]
    assert discovered([*loud, *wide, *bold])["scaffold"].to_pylist() == [3, 2, 1]


def test_a_scaffold_of_many_accounts_that_reads_as_extraction_is_discovered_and_no_campaign() -> None:
    rows: list[Label] = [(f"user-{i:04}", i % 5, [77], 0.9, None, None) for i in range(5000)]
    assert discovered(rows)["n_accounts"].to_pylist() == [5000]
    units = unit_rows([row[0] for row in rows], [row[1] for row in rows], channel=1, levels=6)
    assert group_accounts(sightings_of(units), N_FAMILIES) == []


@given(st.data())
@settings(max_examples=15)
def test_discovery_does_not_depend_on_order(data: st.DataObject) -> None:
    rows = [(f"a{i % 7}", i % 3, [i % 2], (i * 37 % 100) / 100, None, None) for i in range(40)]
    uses = query(SCAFFOLD_USE_SQL, label_rows(rows), least_accounts=2)
    shuffled = uses.take(data.draw(st.permutations(range(uses.num_rows))))
    period = Period(0, 3 * DAY_US)
    assert discover(shuffled, period).equals(discover(uses, period))


def test_discovery_in_pieces_is_discovery_of_the_whole() -> None:
    rows: list[Label] = [(f"a{i % 9}", i % 20, [i % 12], (i * 37 % 100) / 100, None, None) for i in range(400)]
    uses, period = query(SCAFFOLD_USE_SQL, label_rows(rows), least_accounts=2), Period(0, 20 * DAY_US)
    pieces = [
        uses.filter(pc.equal(pc.bit_wise_and(uses["scaffold"], pa.scalar(1, pa.uint64())), half)) for half in (0, 1)
    ]
    whole = discover(uses, period, 2)
    assert whole.num_rows == 12
    assert join_discovered([discover(piece, period, 2) for piece in pieces]).equals(whole)


def test_nothing_shared_is_nothing_discovered() -> None:
    assert discovered([("a", 0, [1], 0.9, None, None)]).num_rows == 0
