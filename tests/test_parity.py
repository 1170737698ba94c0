"""One implementation: however events are batched, split, ordered or repeated, the shipped bundle says the same of
them."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.bundle import data_dir, default_bundle_dir
from classifier.evidence import count_days, replay
from classifier.labeler import Labelled
from classifier.pipeline import Pipeline
from classifier.templates import NEIGHBOURS
from classifier.types import CAPABILITIES, EVENT_SCHEMA
from classifier.units import merge_units
from classifier.verdicts import decide
from service.records import expand_inputs, read_parts
from tests.disguises import EXACT

FLOATS = [f"p_{name}" for name in CAPABILITIES] + ["p_extraction", "similarity", "coverage"]
ODD = [
    "x",
    " ",
    "\n\n",
    "{}",
    "\u200b",
    "é" * 300,
    "编写一个解析器" * 50,
    "a " * 5000,
    "```python\nprint(1)\n```",
    "\x00\x01",
]


@cache
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@cache
def sample() -> pa.RecordBatch:
    (file,) = expand_inputs([str(data_dir() / "sample" / "traffic.jsonl")])
    events = [part.events.select(EVENT_SCHEMA.names) for part in read_parts(file)]
    return pa.Table.from_batches(events).combine_chunks().to_batches()[0].cast(EVENT_SCHEMA)


def events_of(prompts: list[str]) -> pa.RecordBatch:
    rows = [
        {"event_id": f"e{i}", "account_id": f"a{i % 3}", "timestamp": i * 10**9, "system": None, "prompt": prompt}
        for i, prompt in enumerate(prompts)
    ]
    return pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)


def assert_same(one: Labelled, other: Labelled, within: float = 1e-5) -> None:
    decided = [name for name in one.labels.column_names if name not in FLOATS]
    assert one.labels.select(decided).equals(other.labels.select(decided))
    for name in FLOATS:
        assert one.labels[name].is_null().equals(other.labels[name].is_null())
        assert np.allclose(_numbers(one.labels[name]), _numbers(other.labels[name]), atol=within, rtol=0)
    assert merge_units([one.units]).equals(merge_units([other.units]))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.fill_null(0).to_numpy(), np.float64)


def apart(events: pa.RecordBatch, cuts: list[int]) -> Labelled:
    """The events labelled in pieces."""
    bounds = [0, *sorted(cuts), events.num_rows]
    parts = [pipeline().label(events.slice(a, b - a)) for a, b in pairwise(bounds)]
    return Labelled(pa.concat_tables([p.labels for p in parts]), pa.concat_tables([p.units for p in parts]))


def test_a_batch_of_n_is_n_batches_of_one() -> None:
    chosen = sample().take(pa.array(np.random.default_rng(0).permutation(sample().num_rows)[:400]))
    assert_same(pipeline().label(chosen), apart(chosen, list(range(1, chosen.num_rows))))


def test_odd_prompts_are_labelled_alike_alone_and_together() -> None:
    events = events_of(ODD)
    labelled = pipeline().label(events)
    assert labelled.labels.num_rows == len(ODD)
    assert_same(labelled, apart(events, list(range(1, len(ODD)))))


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=12), st.data())
def test_cuts_change_nothing(prompts: list[str], data: st.DataObject) -> None:
    events = events_of([prompt.encode("utf-8", "replace").decode() for prompt in prompts])
    cuts = data.draw(st.lists(st.integers(0, events.num_rows), max_size=4))
    assert_same(pipeline().label(events), apart(events, cuts))


@cache
def company() -> list[str]:
    """So many other prompts that every stage goes about a batch of them as it does about thousands."""
    prompts: list[str] = sample().column("prompt").to_pylist()[:400]
    return prompts


def parts() -> st.SearchStrategy[str]:
    """What prompts may be made of: prompts of honest and of probing accounts, disguised ones, and whatever Unicode
    has."""
    rng = np.random.default_rng(0)
    whole = st.sampled_from(sample().column("prompt").to_pylist())
    disguised = st.builds(lambda text, name: EXACT[name](text, rng), whole, st.sampled_from(sorted(EXACT)))
    return st.one_of(whole, disguised, st.sampled_from(ODD), st.text(max_size=60))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.deferred(parts), max_size=3).map(" <b>and</b> ".join), min_size=1, max_size=8))
def test_a_prompt_by_itself_is_labelled_as_among_hundreds(prompts: list[str]) -> None:
    sent = [prompt.encode("utf-8", "replace").decode() for prompt in prompts]
    together = pipeline().label(events_of([*sent, *company()]))
    ours = pc.is_in(together.units["event_id"], pa.array([f"e{i}" for i in range(len(sent))]))
    expected = Labelled(together.labels.slice(0, len(sent)), together.units.filter(ours))
    assert_same(expected, apart(events_of(sent), list(range(1, len(sent)))), within=1e-6)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_order_repetition_and_lateness_change_no_count_and_no_decision(random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    units = pipeline().label(sample()).units
    shuffled = units.take(pa.array(rng.permutation(units.num_rows)))
    again = shuffled.take(pa.array(rng.integers(units.num_rows, size=500)))
    cut = int(rng.integers(1, units.num_rows))
    merged = merge_units([merge_units([shuffled.slice(cut), again]), merge_units([shuffled.slice(0, cut)])])
    expected = merge_units([units])
    assert merged.equals(expected)
    assert count_days(merged).equals(count_days(expected))
    baselines = pipeline().baselines
    one, other = (decide(replay(table, baselines), 1000, baselines) for table in (merged, expected))
    assert one.decision == other.decision
    assert np.array_equal(one.flagged_at, other.flagged_at, equal_nan=True)


def test_faiss_finds_what_brute_force_finds_and_every_signature_itself() -> None:
    index = pipeline().labeler.templates.vectors
    vectors = index.flat.reconstruct_n(0, index.flat.ntotal)
    similarity, owners = index.nearest(vectors)
    brute = vectors @ vectors.T
    assert similarity == pytest.approx(-np.sort(-brute, axis=1)[:, :NEIGHBOURS], abs=1e-5)
    assert np.all(similarity[:, 0] >= 1 - 1e-5)
    tied = [np.isclose(row, row.max(), atol=1e-5) for row in brute]
    assert all(owner in index.owners[ties] for owner, ties in zip(owners[:, 0], tied, strict=True))
    assert all(index.owners[row] in index.owners[ties] for row, ties in enumerate(tied))


def test_the_bundle_holds_no_template_text() -> None:
    import tomllib

    families = tomllib.loads((data_dir() / "templates" / "own.toml").read_text(encoding="utf-8"))["family"]
    phrases = [" ".join(family["text"].split()[i : i + 5]) for family in families for i in range(0, 60, 5)]
    files = [path.read_bytes() for path in default_bundle_dir().iterdir() if path.is_file()]
    assert len(phrases) > 100
    assert not [phrase for phrase in phrases for content in files if phrase.encode() in content]


def test_labels_carry_no_prompt() -> None:
    secret = "zanzibar quokka marmalade seventeen"
    labels = pipeline().label(events_of([f"Please write a poem about {secret}"])).labels
    assert "quokka" not in json.dumps(labels.to_pylist(), default=str)
