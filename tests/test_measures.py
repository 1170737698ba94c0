"""What the report card measures: every figure by hand on a few rows, or against a slower way to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import pandas as pd

pytestmark = pytest.mark.training

LABELS = ("coding", "agentic_reasoning", "long_horizon_planning", "other")


def rows_of(n: int, **columns: Any) -> pd.DataFrame:
    """n rows, each column a value for all or one for each."""
    import pandas as pd

    plain: dict[str, Any] = {
        **{"role": "prompt", "label": "coding", "source": "s", "part": "p", "lang": "en", "length": 200},
        **{"organic": False, "has_template": False, "kind": "human", "gold": "", "gold_sure": np.nan},
        **{"train_only": False, "capability": "coding", "p_coding": 0.5, "p_agentic_reasoning": 0.1},
        **{"p_long_horizon_planning": 0.1, "p_extraction": 0.0},
    }
    return pd.DataFrame(
        {name: np.full(n, value) if np.ndim(value) == 0 else value for name, value in plain.items()} | columns,
        index=range(n),
    )


def random_rows(n: int, seed: int, sources: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(4, size=n)
    named = np.where(rng.random(n) < 0.6, label, rng.integers(4, size=n))
    of = [f"source {i}" for i in (rng.random(n) ** 2 * sources).astype(int)]
    return rows_of(n, label=[LABELS[i] for i in label], capability=[LABELS[i] for i in named], source=of)


# --- rows and intervals


def test_capability_rows_are_labelled_prompts_that_were_not_written_for_training() -> None:
    from training.measures import capability_rows

    rows = rows_of(
        5,
        role=["prompt", "extraction", "benign", "prompt", "prompt"],
        label=["coding", "coding", "", "", "other"],
        train_only=[False, False, False, False, True],
        part=list("abcde"),
    )
    assert capability_rows(rows)["part"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("hits", "n", "expected"),
    [(8, 10, (0.8, 0.4902, 0.9433)), (0, 10, (0, 0, 0.2775)), (10, 10, (1, 0.7225, 1)), (1, 1, (1, 0.2065, 1))],
)
def test_wilson(hits: int, n: int, expected: tuple[float, float, float]) -> None:
    from training.measures import share

    found = share(np.arange(n) < hits)
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=5e-5)
    assert found.n == n


def test_a_share_of_no_rows_is_no_figure() -> None:
    from training.measures import share

    assert np.isnan(share(np.zeros(0, bool)).value)


# --- macro-F1


def test_f1_and_confusion_weigh_sources_alike() -> None:
    """a: 3 of 4 coding found. b: its one row, other, is named coding. Coding: 2 x 0.75 / (1 + 1.75)."""
    from training.measures import capability_quality

    rows = rows_of(
        5,
        source=list("aaaab"),
        label=["coding"] * 4 + ["other"],
        capability=["coding"] * 3 + ["other", "coding"],
    )
    found = capability_quality(rows)
    assert found.by_label[0].value == pytest.approx(1.5 / 2.75)
    assert found.by_label[3].value == 0
    assert np.isnan(found.by_label[1].value)
    assert found.macro_f1.value == pytest.approx(0.75 / 2.75)
    assert (found.macro_f1.n, found.macro_f1.groups) == (5, 2)
    assert found.confusion.tolist() == [[0.75, 0, 0, 0.25], [0] * 4, [0] * 4, [1, 0, 0, 0]]


def test_macro_f1_is_that_of_weighted_rows_and_lies_within_its_interval() -> None:
    from training.heads import macro_f1
    from training.measures import capability_quality
    from training.prepare import source_weights

    rows = random_rows(2000, seed=0)
    truth, named = (rows[c].map(LABELS.index).to_numpy() for c in ("label", "capability"))
    found = capability_quality(rows).macro_f1
    assert found.value == pytest.approx(macro_f1(truth, named, source_weights(rows["source"])))
    assert found.value - 0.1 < found.low < found.value < found.high < found.value + 0.1


def test_the_order_of_rows_does_not_matter() -> None:
    from training.measures import capability_quality, dataset_recalls

    rows = random_rows(500, seed=1)
    shuffled = rows.sample(frac=1, random_state=0)
    assert capability_quality(rows).macro_f1 == capability_quality(shuffled).macro_f1
    assert dataset_recalls(rows) == dataset_recalls(shuffled)


def test_a_slice_averages_labels_with_enough_rows_and_counts_the_others_as_mistakes() -> None:
    """12 coding rows, all found; 3 rows of other named coding: 2 x 12 / (12 + 15)."""
    from training.measures import slice_quality

    found = slice_quality("x", rows_of(15, label=["coding"] * 12 + ["other"] * 3))
    assert (found.labels, found.macro_f1.n, found.macro_f1.groups) == (1, 15, 1)
    assert found.macro_f1.value == pytest.approx(24 / 27)
    assert np.isnan(found.macro_f1.low)  # one source
    few = slice_quality("y", rows_of(9))
    assert (few.labels, few.macro_f1.n) == (0, 9)
    assert np.isnan(few.macro_f1.value)


def test_an_interval_is_over_samples_that_hold_all_labels() -> None:
    """Two sources with a label each: only samples that draw both count, and both are named rightly."""
    from training.measures import slice_quality

    label = ["coding"] * 10 + ["other"] * 10
    found = slice_quality("x", rows_of(20, source=["a"] * 10 + ["b"] * 10, label=label, capability=label)).macro_f1
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_slices_by_language_and_length() -> None:
    from training import measures

    lang = ["en"] * 60 + ["zh"] * 50 + ["fr"] * 49
    rows = rows_of(159, lang=lang, length=[59] * 2 + [60] * 3 + [4000] * 150 + [4001] * 4)
    assert [(s.name, s.macro_f1.n) for s in measures.language_slices(rows)] == [("en", 60), ("zh", 50)]
    assert measures.chinese_slice(rows).macro_f1.n == 50
    assert measures.short_slice(rows).macro_f1.n == 2
    assert measures.long_slice(rows).macro_f1.n == 4


def test_length_deciles_part_the_rows() -> None:
    from training.measures import length_deciles

    found = length_deciles(rows_of(100, length=np.arange(1, 101)))
    assert [s.name for s in found][:2] == ["1 to 10", "11 to 20"]
    assert [s.macro_f1.n for s in found] == [10] * 10
    tied = length_deciles(rows_of(100, length=[7] * 50 + [*range(51, 101)]))
    assert [(s.name, s.macro_f1.n) for s in tied] == [("7", 50), *((f"{i} to {i + 9}", 10) for i in range(51, 100, 10))]


# --- data sets, hand-labelled rows


def test_recall_by_data_set_lists_the_worst_first() -> None:
    from training.measures import SetKey, dataset_recalls, weak_sets

    rows = rows_of(
        202,
        part=["good"] * 100 + ["bad"] * 100 + ["few"] * 2,
        capability=["coding"] * 90 + ["other"] * 10 + ["coding"] * 49 + ["other"] * 53,
    )
    found = dataset_recalls(rows)
    assert [(key.part, recall.value, recall.n) for key, recall in found.items()] == [
        ("few", 0, 2),
        ("bad", 0.49, 100),
        ("good", 0.9, 100),
    ]
    assert weak_sets(found, 0.5) == [SetKey("coding", "bad")]
    assert weak_sets(found, 0.49) == []


def test_gold_figures() -> None:
    """Of 6 sure rows: coding found 2, missed 1, one false; of 5 that are not rare, 2 are named rare."""
    from training.measures import gold_quality

    rows = rows_of(
        8,
        gold=["coding", "coding", "coding", "other", "other", "agentic_reasoning", "unclear", "coding"],
        gold_sure=[1, 1, 1, 1, 1, 1, 1, 0],
        capability=["coding", "coding", RARE, "coding", RARE, "agentic_reasoning", "coding", "other"],
    )
    found = gold_quality(rows)
    assert found.coding_f1.value == pytest.approx(4 / 6)
    assert found.coding_f1.low < 4 / 6 < found.coding_f1.high
    assert (found.false_alarms.value, found.false_alarms.n) == (0.4, 5)
    assert (found.accuracy.value, found.accuracy.n) == (0.5, 6)


RARE = "long_horizon_planning"


# --- extraction


def test_extraction_recall_at_thresholds_from_honest_rows() -> None:
    """Organic 0.00 to 0.99: at most 1 % above is 0.98, at most 0.1 % is 0.99; applications lie below."""
    from training.measures import recalls

    rows = rows_of(
        124,
        role=["prompt"] * 100 + ["benign"] * 20 + ["extraction"] * 4,
        part=["o"] * 100 + ["app"] * 20 + ["A", "A", "B", "B"],
        organic=[True] * 100 + [False] * 24,
        has_template=[False] * 120 + [True] * 4,
        p_extraction=[*np.arange(100) / 100, *np.arange(20) / 100, 0.985, 0.5, 0.999, 0.995],
    )
    loose, strict = recalls(rows)
    assert (loose.point, loose.mean, loose.by_family.to_dict()) == ("loose", 0.75, {"A": 0.5, "B": 1.0})
    assert (strict.point, strict.mean, strict.by_family.to_dict()) == ("strict", 0.5, {"A": 0.0, "B": 1.0})
    assert (loose.low, loose.high, strict.low, strict.high) == (0.5, 1, 0, 1)


def test_quantile_of_weighted_values() -> None:
    from training.measures import upper_quantile

    values = np.array([0.9, 0.1, 0.5, 0.7])
    assert upper_quantile(values, np.ones(4), 0.25) == 0.7
    assert upper_quantile(values, np.ones(4), 0.2) == 0.9
    assert upper_quantile(values, np.array([1.0, 1, 1, 7]), 0.05) == 0.9
    assert upper_quantile(values, np.array([1.0, 1, 1, 7]), 0.85) == 0.5


# --- probabilities


def test_calibration_by_hand() -> None:
    """Bins 0.2 (half true) and 0.8 (all true): 0.5 x 0.3 + 0.5 x 0.2; with weights 3, 1, 2, 2: 0.5 x (0.05 + 0.2)."""
    from training.probabilities import calibration

    said, truth = np.array([0.2, 0.2, 0.8, 0.8]), np.array([False, True, True, True])
    even = calibration(said, truth, np.ones(4))
    assert (even.ece, even.brier) == pytest.approx((0.25, 0.19))
    assert even.said.tolist() == pytest.approx([0.2, 0.8])
    assert even.true.tolist() == [0.5, 1]
    weighted = calibration(said, truth, np.array([3.0, 1, 2, 2]))
    assert (weighted.ece, weighted.brier) == pytest.approx((0.125, (3 * 0.04 + 0.64 + 4 * 0.04) / 8))
    assert calibration(np.array([0.0, 1.0]), np.array([False, True]), np.ones(2)).ece == 0


def test_bins_of_equal_mass_keep_equal_values_together() -> None:
    from training.probabilities import equal_mass

    values = np.array([0.5, 0.1, 0.3, 0.9, 0.7, 0.2])
    assert equal_mass(values, np.ones(6), 3).tolist() == [1, 0, 1, 2, 2, 0]
    assert equal_mass(np.array([0.1, 0.1, 0.1, 0.9]), np.ones(4), 2).tolist() == [0, 0, 0, 1]
    assert equal_mass(np.array([0.1, 0.2, 0.9]), np.array([1.0, 1, 2]), 2).tolist() == [0, 0, 1]


def test_average_precision_is_the_usual_one() -> None:
    from sklearn.metrics import average_precision_score

    from training.probabilities import average_precision

    rng = np.random.default_rng(0)
    truth, weights = rng.random(300) < 0.3, rng.random(300)
    said = np.round(rng.random(300) * 0.6 + truth * 0.3, 1).astype(float)
    expected = average_precision_score(truth, said, sample_weight=weights)
    assert average_precision(said, truth, weights) == pytest.approx(expected)


def test_recall_at_a_false_positive_rate() -> None:
    from training.probabilities import recall_at

    positives, weights, negatives = np.array([0.95, 0.6, 0.3]), np.array([1.0, 2, 1]), np.arange(10) / 10
    assert recall_at(positives, weights, negatives, np.ones(10), 0.05) == 0.25
    assert recall_at(positives, weights, negatives, np.ones(10), 0.45) == 0.75
    assert np.isnan(recall_at(positives, weights, np.zeros(0), np.zeros(0), 0.1))


def test_ranking_among_other_labels_and_among_organic_prompts() -> None:
    from training.measures import capability_rows
    from training.probabilities import rankings

    rows = rows_of(
        8,
        label=["coding"] * 2 + ["other"] * 2 + [""] * 4,
        source=list("abcd") + ["e"] * 4,
        gold=[""] * 4 + ["other", "other", "coding", "other"],
        gold_sure=[np.nan] * 4 + [1, 1, 1, 0],
        organic=[False] * 4 + [True] * 4,
        p_coding=[0.9, 0.4, 0.5, 0.1, 0.2, 0.3, 0.99, 0.99],
    )
    coding = rankings(rows, capability_rows(rows))[0]
    assert coding.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert coding.among_others == (0.5, 0.5, 0.5)
    assert (coding.among_organic, coding.n_organic) == ((1, 1, 1), 2)


def test_abstention_keeps_what_has_margin() -> None:
    """Margins 0.6 (0.7 before 0.1) and 0.2 (0.5 before 0.3, which the three capabilities leave to `other`)."""
    from training.probabilities import abstentions, margins

    rows = rows_of(2, source=["a", "b"], p_coding=[0.7, 0.5], capability=["coding", "other"])
    assert margins(rows).tolist() == pytest.approx([0.6, 0.2])
    found = {a.margin: (a.coverage, a.accuracy) for a in abstentions(rows)}
    assert (found[0.0], found[0.05], found[0.3], found[0.5]) == ((1, 0.5), (1, 0.5), (0.5, 1), (0.5, 1))


def test_conformal_sets_by_hand() -> None:
    from training.probabilities import conformal_sets

    rows = rows_of(
        200,
        group=np.repeat([0, 1], 100),
        source=np.repeat(["a", "b"], 100),
        part=np.repeat(["a", "b"], 100),
        p_coding=np.concatenate([np.repeat(np.arange(10) / 10 + 0.05, 10), np.repeat([0.3, 0.22], 50)]),
        p_agentic_reasoning=0.0,
        p_long_horizon_planning=0.0,
    )
    found = {found.misses: found for found in conformal_sets(rows)}[0.2]
    # from a, a fifth of the true labels lie below 0.25: b's sets are coding and other at 0.3, other alone at 0.22
    # from b, none lies below 0.22: a's sets are other up to 0.15, both from 0.25 to 0.75, coding from 0.85
    assert found.coverage == pytest.approx((0.8 + 0.5) / 2)
    assert found.worst == pytest.approx(0.5)
    assert found.size == pytest.approx((1.6 + 1.5) / 2)
    assert found.single == pytest.approx((0.4 + 0.5) / 2)
    assert np.isnan(conformal_sets(rows.assign(part=[str(i % 10) for i in range(200)]))[0].worst)
    assert conformal_sets(rows.assign(group=0)) == ()
