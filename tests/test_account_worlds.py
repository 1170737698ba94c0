"""The parts of tests/benchmarks/accounts.py that its figures hang on: labelling once, counting, rivals' statistics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from classifier.bundle import default_bundle_dir
from classifier.evidence import Baselines
from classifier.pipeline import Pipeline
from classifier.types import EVENT_SCHEMA
from classifier.units import merge_units

pytestmark = pytest.mark.training

TEXTS = ["Plan a week of meals.", "Write a parser for CSV in Rust.", "x", "What is the capital of France?", "y " * 400]
SENT = np.array([0, 1, 1, 3, 2, 4, 0, 1])
SENDER = np.array([0, 0, 0, 0, 1, 1, 2, 2])
US = np.array([5, 9, 7, 3, 4, 8, 6, 2]) * 10**9


def test_a_pool_labelled_once_gives_the_units_of_its_events_labelled_one_by_one() -> None:
    import pandas as pd

    from tests.benchmarks.account_pool import label_pool

    pipeline = Pipeline.load(default_bundle_dir())
    pool = label_pool(pd.DataFrame({"whole": TEXTS, "part": "p"}), pipeline)
    accounts = pa.array([f"b{i:06d}" for i in SENDER])
    rows = [
        {"event_id": str(i), "account_id": accounts[i].as_py(), "timestamp": us, "system": None, "prompt": TEXTS[row]}
        for i, (row, us) in enumerate(zip(SENT.tolist(), US.tolist(), strict=True))
    ]
    events = pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)
    expected = merge_units([pipeline.label(events).units])
    assert merge_units([pool.units(SENT, accounts, US)]).equals(expected)
    assert expected.num_rows < 2 * len(SENT)  # a text sent twice is one unit


def test_the_largest_false_share_is_of_any_time_and_of_all_that_are_flagged_at_once() -> None:
    from tests.benchmarks.account_outcomes import largest_false_share

    def share(flagged_at: list[str], n_benign: int) -> float:
        at = np.array(flagged_at, "datetime64[us]")
        verdicts: Any = SimpleNamespace(flagged=~np.isnat(at), flagged_at=at)
        return largest_false_share(verdicts, n_benign)

    assert share(["NaT", "NaT", "2026-01-02"], 2) == 0
    assert share(["NaT", "2026-01-02", "2026-01-01", "2026-01-03", "2026-01-03"], 2) == 1 / 2
    assert share(["2026-01-01", "NaT", "2026-01-01", "2026-01-02"], 2) == 1 / 2
    assert share(["2026-01-01", "NaT", "2026-01-02"], 2) == 1


def test_the_truth_of_an_account_needs_a_clear_majority_of_what_is_known() -> None:
    from tests.benchmarks.account_outcomes import truths

    pool: Any = SimpleNamespace(facts={"truth": SimpleNamespace(to_numpy=lambda: np.array([-1, 0, 1, 3]))})
    rows = [[1, 1, 2], [1, 2, 2, 1], [0, 0, 3], [0, 0, 0, 3], [1, 1, 1, 2, 2, 2]]
    traffic: Any = SimpleNamespace(
        account=np.repeat(np.arange(5), [3, 4, 3, 4, 6]),
        row=np.concatenate(rows),
        extraction=np.array([True] * 17 + [False] * 3),
        n_accounts=5,
    )
    assert truths(pool, traffic).tolist() == [0, -1, 3, -1, 0]


def test_thresholds_stand_just_above_the_last_benign_account_that_is_too_many() -> None:
    from tests.benchmarks.account_contest import threshold_of_false_share, threshold_of_rate

    benign, bad = np.array([0.0, 1.0, 5.0, 7.0]), np.array([2.0, 6.0, 8.0, 9.0])
    assert threshold_of_false_share(benign, bad, 0.0) == np.nextafter(7.0, np.inf)
    assert threshold_of_false_share(benign, bad, 0.4) == np.nextafter(1.0, np.inf)
    assert threshold_of_false_share(bad, benign, 0.0) == np.inf
    assert threshold_of_rate(benign, 0.0) == np.nextafter(7.0, np.inf)
    assert threshold_of_rate(benign, 0.5) == np.nextafter(1.0, np.inf)


def test_sprt_is_the_largest_ratio_so_far() -> None:
    from tests.benchmarks.account_rivals import sprt

    hit, miss = np.log(0.1 / 0.001), np.log(0.9 / 0.999)
    found = sprt(np.array([False, True, True, False]), Baselines(0.001, (0.5,) * 4))
    assert found == pytest.approx(miss + 2 * hit)


def test_mmd_of_a_window_is_the_unbiased_statistic() -> None:
    from tests.benchmarks.account_rivals import Mmd

    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    pool: Any = SimpleNamespace(embeddings=points)
    mmd = Mmd(pool, np.arange(6))

    def mean_kernel(one: np.ndarray, other: np.ndarray, same: bool) -> float:
        pairs = [(a, b) for i, a in enumerate(one) for j, b in enumerate(other) if not (same and i == j)]
        return float(np.mean([np.exp(-mmd.gamma * ((a - b) ** 2).sum()) for a, b in pairs]))

    x, y = points[6:], points[:6]
    expected = mean_kernel(x, x, True) + mean_kernel(y, y, True) - 2 * mean_kernel(x, y, False)
    assert mmd.of_window(np.arange(6, 12)) == pytest.approx(expected)


def test_seat_counts_near_duplicates_and_no_copies() -> None:
    from tests.benchmarks.account_rivals import seat

    angle = np.concatenate([np.linspace(0, 3, 20), [0.01]])
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    pool: Any = SimpleNamespace(embeddings=points, capability=np.zeros(21, int))
    rows = np.array([*range(20), 3, 3, 20])
    assert seat(pool, rows, np.cos(0.1)) == pytest.approx(1 / 21)
    assert seat(pool, rows, np.cos(0.2)) == pytest.approx(20 / 21)


def test_prada_finds_evenly_spaced_prompts_normal_and_a_mixture_of_two_distances_not() -> None:
    from tests.benchmarks.account_rivals import prada

    rng = np.random.default_rng(1)
    spread = np.cumsum(rng.normal(0.02, 0.003, 100))
    mixed = np.cumsum(np.where(np.arange(100) % 2, 0.001, 0.03))

    def departure(angle: np.ndarray) -> float:
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        pool: Any = SimpleNamespace(embeddings=points, capability=np.zeros(len(angle), int))
        return prada(pool, np.arange(len(angle)))

    assert departure(spread) < 0.05
    assert departure(mixed) > 0.3
