"""Local exclusive signatures: what is sent after the approval is evidence, what was sent before links and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from classifier.bundle import default_bundle_dir
from classifier.campaigns import Campaigns
from classifier.catalogue import Entry, Origin, add_entries
from classifier.certification import clopper_pearson_upper
from classifier.evidence import Baselines, count_days, log_e_from_counts, replay
from classifier.exceptions import AgreedException
from classifier.pipeline import Pipeline
from classifier.reachback import Approval, Link, find_links, place_linked, review_linked
from classifier.signatures import Signature
from classifier.types import CAMPAIGN_SCHEMA, EVENT_SCHEMA, Basis, Channel, Decision, Tier
from classifier.units import DAY_US, merge_units
from classifier.verdicts import Thresholds, Verdicts, decide
from service.reasons import Case, reasons_of
from tests.forgeries import ASKS, QUILL, fill
from tests.test_proposals import proposed
from tests.unit_rows import unit_rows

APPROVED = datetime(2026, 9, 3, 12, tzinfo=UTC)
POPULATION = 250_000
BASELINES = Baselines(0.001, (0.3, 0.3, 0.3, 0.3))


@cache
def signature() -> Signature:
    (found,) = proposed(fill(QUILL, 30, seed=1))
    return found.signature


def with_catalogue(folder: Path, tier: Tier, since: datetime = APPROVED) -> Pipeline:
    facts = replace(signature().facts, tier=tier)
    origin = Origin(since.isoformat(), "Ada", 30, 4, 25 if tier is Tier.EXCLUSIVE else 0)
    encoder = Pipeline.load(default_bundle_dir()).encoder_digest
    add_entries(folder, [Entry(replace(signature(), facts=facts), origin)], encoder, None)
    return Pipeline.load(default_bundle_dir(), catalogue=folder)


@pytest.fixture(scope="module")
def plain() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return with_catalogue(tmp_path_factory.mktemp("exclusive") / "local", Tier.EXCLUSIVE)


def events(account: str, prompts: Sequence[str], start: datetime) -> pa.RecordBatch:
    """A prompt every half-hour."""
    rows = [
        {
            "event_id": f"{account}-{start:%d%H%M}-{i:03}",
            "account_id": account,
            "timestamp": start + timedelta(minutes=30 * i),
            "prompt": prompt,
        }
        for i, prompt in enumerate(prompts)
    ]
    return pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)


def early(n: int = 50) -> pa.RecordBatch:
    return events("turned", fill(QUILL, n, seed=5), APPROVED - timedelta(minutes=30 * (n - 1)))  # the last on the dot


def later(n: int = 30) -> pa.RecordBatch:
    mixed = [text for pair in zip(fill(QUILL, n, seed=6), [*ASKS] * n, strict=False) for text in pair]
    return events("turned", mixed, APPROVED + timedelta(microseconds=1))


def judged(units: pa.Table, pipeline: Pipeline, population: int = POPULATION) -> Verdicts:
    verdicts = decide(replay(units, BASELINES), population, BASELINES)
    return review_linked(verdicts, find_links(units, pipeline.approvals))


# --- what counts ------------------------------------------------------------------------------------------------------


def test_up_to_its_approval_a_match_is_none_in_evidence_and_stays_one_in_labels(
    plain: Pipeline, local: Pipeline
) -> None:
    known, unknown = local.label(early()), plain.label(early())
    assert known.labels["template_family"].to_pylist() == ["night_mill"] * 50
    signature_rows = known.units.filter(pc.field("channel") == Channel.SIGNATURE)
    for name, expected in (("y", 0), ("y_public", 0), ("matched", 1), ("family", "night_mill")):
        assert signature_rows[name].to_pylist() == [expected] * 50
    rest = [name for name in known.units.column_names if name not in ("matched", "family")]
    assert known.units.select(rest).equals(unknown.units.select(rest))  # the rows of intent too
    assert known.units.num_rows == 100


def test_after_its_approval_a_match_is_what_a_shipped_family_s_is(local: Pipeline, tmp_path: Path) -> None:
    always = with_catalogue(tmp_path / "shipped", Tier.EXCLUSIVE, datetime(1990, 1, 1, tzinfo=UTC))
    assert local.label(later()).units.equals(always.label(later()).units)
    rows = local.label(later()).units.filter(pc.field("channel") == Channel.SIGNATURE)
    assert [y > 0 for y in rows["y"].to_pylist()] == [True, False] * 30


def test_evidence_is_as_if_earlier_matches_had_been_none(plain: Pipeline, local: Pipeline) -> None:
    whole = merge_units([local.label(early()).units, local.label(later()).units])
    expected = replay(merge_units([plain.label(early()).units, local.label(later()).units]), BASELINES)
    found = replay(whole, BASELINES)
    for name in ("log_e", "log_max_e", "log_e_target", "log_review", "log_basis", "record_us", "record_log_e"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(log_e_from_counts(count_days(whole), BASELINES), found.log_e)
    assert found.log_e[0] > 20


def test_earlier_prompts_link_and_only_later_ones_flag(local: Pipeline) -> None:
    before = judged(merge_units([local.label(early()).units]), local)
    assert (before.decision, before.basis, before.capabilities) == (
        [Decision.REVIEW],
        [Basis.ANALYST],
        [("coding",)],
    )
    assert not before.flagged.any() and np.isnat(before.flagged_at).all()
    after = judged(merge_units([local.label(early()).units, local.label(later()).units]), local)
    assert (after.decision, after.basis) == ([Decision.FLAG], [Basis.SIGNATURE])
    assert after.flagged_at[0] > np.datetime64(APPROVED.replace(tzinfo=None), "us")


def test_a_prompt_that_was_sent_before_the_approval_never_becomes_evidence(local: Pipeline) -> None:
    again = events("turned", early()["prompt"].to_pylist(), APPROVED + timedelta(days=2))
    assert (local.label(again).units["y"].to_numpy() > 0).all()
    first = merge_units([local.label(early()).units])
    both = merge_units([local.label(again).units, local.label(early()).units])
    signature_rows = pc.field("channel") == Channel.SIGNATURE
    assert both.filter(signature_rows).equals(first.filter(signature_rows))
    assert judged(both, local).decision == [Decision.REVIEW]


@pytest.mark.parametrize("seed", range(2))
def test_order_and_batches_change_nothing(local: Pipeline, seed: int) -> None:
    table = pa.Table.from_batches([early(12), later(8)])
    whole = merge_units([local.label(table.combine_chunks().to_batches()[0]).units])
    order = np.random.default_rng(seed).permutation(table.num_rows)
    ones = [local.label(table.slice(i, 1).combine_chunks().to_batches()[0]).units for i in order.tolist()]
    assert merge_units([*ones[:9], merge_units(ones[9:]), *ones[:3]]).equals(whole)


def test_a_public_family_is_never_evidence_nor_linked(tmp_path: Path) -> None:
    public = with_catalogue(tmp_path / "public", Tier.PUBLIC)
    units = merge_units([public.label(early()).units, public.label(later()).units])
    assert set(units["y"].to_pylist()) == {0} and public.approvals == {}
    verdicts = judged(units, public)
    assert verdicts.decision == [Decision.REVIEW] and verdicts.basis == [Basis.PUBLIC]


def test_intent_is_never_evidence_through_it(local: Pipeline) -> None:
    rows = local.label(early()).units.filter(pc.field("channel") == Channel.INTENT)
    assert rows.num_rows == 50 and set(rows["y"].to_pylist()) == set(rows["matched"].to_pylist()) == {0}
    high = rows.set_column(rows.schema.get_field_index("level_coding"), "level_coding", pa.array([7] * 50, pa.uint8()))
    verdicts = judged(merge_units([high.cast(rows.schema)]), local, population=1000)
    assert verdicts.decision[0] is not Decision.FLAG and Basis.ANALYST not in verdicts.basis


def test_the_index_and_the_certificate_count_the_local_family(plain: Pipeline, local: Pipeline) -> None:
    assert local.n_families == plain.n_families + 1
    *shipped, own = local.certification
    assert tuple(shipped) == plain.certification
    assert (own.stratum, own.n, own.k) == ("ordinary accounts, of night_mill", 25, 0)
    assert own.epsilon == pytest.approx(1 - 0.05 ** (1 / 25)) == clopper_pearson_upper(0, 25)


# --- links by hand ----------------------------------------------------------------------------------------------------

AT = Approval(3 * DAY_US + 100, "coding")


def matches(account: str, days: Sequence[int], family: str = "f", first: int = 0, y: int = 0) -> pa.Table:
    n = len(days)
    return unit_rows([account] * n, days, matched=1, y=y, families=[family] * n, events=first + np.arange(n))


def test_links_by_hand() -> None:
    units = merge_units(
        [
            matches("ann", [1, 1, 2], first=10),
            matches("ann", [1, 2], "g", first=20),
            matches("ann", [5, 6], first=30, y=1),
            matches("bob", [1], first=40),  # one may be a misread
            matches("bob", [5, 6, 7], first=50, y=1),
            matches("cat", [1, 2], "shipped", first=60),  # agreed upon, or it would have y
            matches("dan", [3, 3, 3], first=99),  # 99 and 100 us into the day, and one after the approval
        ]
    )
    approvals = {"f": AT, "g": replace(AT, target=None)}
    ann, dan = "ann", "dan"
    assert find_links(units, approvals) == {
        ann: [Link(ann, "f", 3, DAY_US + 10, AT), Link(ann, "g", 2, DAY_US + 20, approvals["g"])],
        dan: [Link(dan, "f", 2, 3 * DAY_US + 99, AT)],
    }
    assert find_links(units, {}) == {} == find_links(units.slice(0, 0), approvals)
    agreed = AgreedException(ann, "f", "Ada", "ticket", date(1970, 1, 2))  # to the end of day 1: one is left
    assert list(find_links(units, approvals, [agreed])[ann]) == [Link(ann, "g", 2, DAY_US + 20, approvals["g"])]


def test_only_what_nothing_stronger_judges_is_reviewed_for_its_links() -> None:
    names = ["clear", "few", "flag", "public", "quiet"]
    given = [Decision.CLEAR, Decision.INSUFFICIENT_EVIDENCE, Decision.FLAG, Decision.REVIEW, Decision.CLEAR]
    bases = [None, None, Basis.SIGNATURE, Basis.PUBLIC, None]
    nothing = np.zeros(5, bool)
    capabilities: list[tuple[str, ...]] = [(), (), ("other",), ("other",), ()]
    thresholds = Thresholds(9, 1, 1.0, 1.0, 5)
    times = nothing.astype("M8[us]")
    verdicts = Verdicts(given, bases, capabilities, nothing, pa.array(names), times, thresholds)
    linked = {name: [Link(name, "f", 4, 0, AT), Link(name, "g", 3, 0, replace(AT, target=None))] for name in names[:4]}
    found = review_linked(verdicts, linked)
    assert found.decision == [Decision.REVIEW, Decision.REVIEW, Decision.FLAG, Decision.REVIEW, Decision.CLEAR]
    assert found.basis == [Basis.ANALYST, Basis.ANALYST, Basis.SIGNATURE, Basis.PUBLIC, None]
    assert found.capabilities == [("coding",), ("coding",), ("other",), ("other",), ()]
    assert found.flagged is verdicts.flagged and review_linked(verdicts, {}) == verdicts


def test_linked_accounts_are_shown_with_the_first_campaign_of_their_family_and_not_counted() -> None:
    row = {"n_prompts": 9, "log10_e": 4.0, "capabilities": [], "techniques": [], "scaffolds": [], "n_accounts": 3}
    days = {"second": 9, "first": 2, "other": 1}
    rows = [
        row
        | {"campaign_id": name, "template_families": ["g" if name == "other" else "f"]}
        | {"first_seen": day * DAY_US, "last_seen": day * DAY_US}
        for name, day in days.items()
    ]
    campaigns = Campaigns(pa.Table.from_pylist(rows, CAMPAIGN_SCHEMA), {"member": "second"})
    links = {name: [Link(name, "f", 2, 0, AT)] for name in ("member", "linked")}
    links["alone"] = [Link("alone", "h", 2, 0, AT)]
    found = place_linked(campaigns, links)
    assert found.of_linked == {"linked": "first"}
    assert (found.table, found.of_account) == (campaigns.table, campaigns.of_account)


def test_the_reason_says_when_and_that_it_is_no_evidence() -> None:
    us = (APPROVED - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    link = Link("ann", "night_mill", 41, us - 5, Approval(us, None))
    case = Case(Decision.REVIEW, [], 41, links=[link], campaign="campaign-a")
    assert reasons_of(case, BASELINES, 7) == [
        "sent 41 distinct prompts of night_mill before an analyst approved it on 2026-09-03: linked, not evidence"
    ]
    untimed = replace(case, links=[replace(link, n_units=1, first_us=7)])
    assert reasons_of(untimed, BASELINES, 7) == [
        "sent 1 distinct prompt of night_mill, its records without times; an analyst approved it on 2026-09-03: "
        "linked, not evidence"
    ]
