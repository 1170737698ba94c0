"""classifier/rows.py: the same of an event as the tables say, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from classifier.observations import Judged
from classifier.pipeline import Pipeline
from classifier.rows import LabelRow, RowMaker, Rows, Sent, rows_of
from classifier.tables import Tables
from classifier.types import TARGETS, Tier
from service.bench.traffic import prompts
from tests.test_parity import ODD, events_of, pipeline, sample
from tests.test_reachback import early, later, with_catalogue


def sent(events: pa.RecordBatch) -> list[Sent]:
    us = events.column("timestamp").cast(pa.int64()).to_pylist()
    names = ("event_id", "account_id", "system", "prompt")
    ids, accounts, systems, texts = (events.column(name).to_pylist() for name in names)
    return [Sent(*row) for row in zip(ids, accounts, us, systems, texts, strict=True)]


def bits(row: LabelRow) -> tuple[object, ...]:
    """A label with its numbers as they are held: equal numbers of another width are not the same."""
    match = row.match
    numbers = (*row.probabilities, row.p_extraction, *(match[3:] if match is not None else ()))
    held = [None if one is None else (type(one), one.tobytes()) for one in numbers]
    return *row._replace(probabilities=(), p_extraction=np.float32(0), match=None), match and match[:3], held


def assert_equal(found: Rows, expected: Rows) -> None:
    assert [bits(row) for row in found.labels] == [bits(row) for row in expected.labels]
    assert list(found.units) == list(expected.units)
    assert [list(map(type, row)) for row in found.units] == [list(map(type, row)) for row in expected.units]


def of_tables(used: Pipeline, events: pa.RecordBatch) -> Rows:
    labelled = used.label(events)
    return rows_of(labelled.labels, labelled.units)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_rows_are_those_of_the_tables(size: int) -> None:
    events = sample().slice(0, 300)
    for start in range(0, 300, size):
        some = events.slice(start, size)
        assert_equal(pipeline().label_few(sent(some)), of_tables(pipeline(), some))


def test_of_odd_prompts_and_of_long_ones_too() -> None:
    events = events_of([*ODD, *prompts(60)])
    assert_equal(pipeline().label_few(sent(events)), of_tables(pipeline(), events))


def test_of_the_sample_where_one_in_eight_is_a_match() -> None:
    rows = pipeline().label_few(sent(sample()))
    assert sum(row.match is not None for row in rows.labels) == 259
    assert {unit.y for unit in rows.units} == {0, 1, 2, 4, 8}
    assert_equal(rows, of_tables(pipeline(), sample()))


@pytest.mark.parametrize("tier", [Tier.EXCLUSIVE, Tier.PUBLIC])
def test_of_signatures_approved_in_between(tmp_path: Path, tier: Tier) -> None:
    local = with_catalogue(tmp_path / "local", tier)
    for events in (early(), later()):
        assert_equal(local.label_few(sent(events)), of_tables(local, events))
    assert any(unit.y_public for unit in local.label_few(sent(early())).units) is (tier is Tier.PUBLIC)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_judged(seed: int) -> None:
    """Matches, tiers, excuses and approvals at random, in every combination."""
    events, rng = sample().slice(10 * seed, 10), np.random.default_rng(seed)
    facts = [one.facts for one in pipeline().labeler.templates.signatures]
    came = [one.us for one in sent(events)]
    approved = {fact.id: int(rng.choice(came)) for fact in facts if rng.random() < 0.5}
    judged = at_random(pipeline().labeler.judge([one.prompt for one in sent(events)]), len(facts), rng)
    tables = Tables(facts, approved)
    labels, units = (pa.Table.from_batches([one(events, judged)]) for one in (tables.labels, tables.units))
    assert_equal(RowMaker(facts, approved).rows(sent(events), judged), rows_of(labels, units))


def at_random(judged: Judged, n_facts: int, rng: np.random.Generator) -> Judged:
    """What a labeler might have judged."""
    n = len(judged.keys)
    index = rng.integers(-1, n_facts, n).astype(np.int32) * (rng.random(n) < 0.7).astype(np.int32)
    matched, exclusive = index >= 0, rng.random(n) < 0.5
    similarity = np.where(matched & (rng.random(n) < 0.8), rng.random(n), np.nan).astype(np.float32)
    coverage = np.where(matched, rng.random(n), np.nan).astype(np.float32)
    return replace(
        judged,
        matches=replace(judged.matches, index=index, similarity=similarity, coverage=coverage),
        judgement=replace(
            judged.judgement,
            target=rng.integers(0, len(TARGETS), n),
            exclusive=matched & exclusive,
            public=matched & ~exclusive,
            explained=rng.random(n) < 0.3,
        ),
    )
