"""What an evaluation says: costs, learning curve, strays, calibration, thresholds, certificates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.training


def test_calibration_recovers_known_lines() -> None:
    import pandas as pd

    from training.calibrate import fit_calibration

    rng = np.random.default_rng(0)
    n = 40_000
    lines = rng.normal(scale=1.5, size=(n, 4))
    truth = (lines + rng.gumbel(size=(n, 4))).argmax(axis=1)
    meant = rng.normal(scale=3, size=n)
    asked = rng.random(n) < 1 / (1 + np.exp(-meant))
    labels = np.array(["coding", "agentic_reasoning", "long_horizon_planning", "other"])[truth]
    rows = pd.DataFrame({"role": "prompt", "label": labels, "train_only": False, "source": "s", "has_template": False})
    intents = rows.assign(role=np.where(asked, "extraction", "benign"), label="", has_template=asked)
    logits = np.column_stack([lines * 2, np.zeros(n)])
    both = pd.concat([rows, intents], ignore_index=True).assign(organic=False)
    found = fit_calibration(both, np.concatenate([logits, np.column_stack([np.zeros((n, 4)), meant / 2])]))
    assert found.scale == pytest.approx((0.5, 0.5, 0.5, 0.5, 2.0), abs=0.1)
    assert found.shift == pytest.approx((0, 0, 0, 0, 0), abs=0.1)


def test_cost_is_of_one_text_at_the_best_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from training import costs
    from training.costs import BLOCK, PASSES, microseconds, prompts_of_500_bytes

    seconds = iter([0.0, 9.0, 10.0, 12.05, *(float(at) for at in range(20, 20 + 10 * PASSES, 5))])
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(seconds))
    seen: list[int] = []
    assert microseconds(lambda block: seen.append(len(block)), ["text"] * (BLOCK + 1)) == pytest.approx(
        1e6 * 2.05 / (BLOCK + 1)
    )
    assert seen == [BLOCK, 1] * PASSES
    texts = pd.Series(["a" * 500, "a" * 449, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 250, "a" * 551])
    assert sorted(prompts_of_500_bytes(texts, 9, 0)) == [texts[0], texts[2]]


def test_the_learning_curve_learns_from_nested_shares_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from training import baselines
    from training.baselines import SHARES, learning_curve
    from training.prepare import LABELS

    rng = np.random.default_rng(0)
    n = 400
    lesson = rng.integers(4, size=n)
    sources = np.array([f"source {i % 16}" for i in range(n)])
    embeddings = (np.eye(4)[lesson] * 3 + rng.normal(size=(n, 4))).astype(np.float32)
    rows = pd.DataFrame({"lesson": [LABELS[i] for i in lesson], "source": sources, "part": sources})
    learnt: list[set[str]] = []
    fit = baselines._minilm

    def watched(some: pd.DataFrame, *rest: Any) -> Any:
        learnt.append(set(some["source"]))
        return fit(some, *rest)

    monkeypatch.setattr(baselines, "_minilm", watched)
    sourced = np.where(np.arange(n) % 16 < 8, "coding", "other")  # names of sources that say nothing of their prompts
    named = learning_curve(rows.assign(label=sourced), rows, embeddings, embeddings, 0)
    assert [len(of) for of in learnt] == [16, 2, 4, 8, 16]
    assert all(fewer < more for fewer, more in pairwise(learnt[1:]))
    assert list(named.columns) == ["as sourced", *(f"curve:{share}" for share in SHARES)]
    right = [(named[column].to_numpy() == lesson).mean() for column in named]
    assert right[0] < 0.5
    assert right[-1] > 0.9


def test_strays_are_counted_where_readers_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from training import evaluate
    from training.written import digest

    read = ("one", "two", "three", "four", "mixed")
    monkeypatch.setattr(evaluate, "readings", lambda: {digest(text): "" for text in read})
    row = {"role": "prompt", "label": "coding", "train_only": False}
    rows = pd.DataFrame(
        [
            {**row, "part": "a", "whole": "one", "lesson": "other"},
            {**row, "part": "a", "whole": "two", "lesson": "coding"},
            {**row, "part": "a", "whole": "never read", "lesson": "coding"},
            {**row, "part": "b", "whole": "three", "lesson": "coding"},
            {**row, "part": "b", "whole": "four", "lesson": "coding", "train_only": True},
            {**row, "part": "c", "whole": "mixed", "lesson": "coding", "label": ""},
        ]
    )
    assert evaluate.strays(rows).to_dict("list") == {"source": ["a", "b"], "read": [2, 1], "stray": [1, 0]}


def test_conduct_counts_what_the_evidence_counts() -> None:
    """Intent once a scaffold, of what nothing matched nor explains; matches once a distinct prompt."""
    import pandas as pd

    from training.calibrate import conduct

    head = (
        "judge the following answer by the rubric of the quality team and give one mark from one to ten for each part. "
    )
    account = pd.DataFrame(
        {
            "text": [head + "one", head + "two", "a question of its own", "matched text", "matched text", "explained"],
            "p_coding": [0.5, 0.9, 1.0, 1.0, 1.0, 1.0],
            "p_agentic_reasoning": 0.0,
            "p_long_horizon_planning": 0.0,
            "p_extraction": [1.0, 1.0, 0.3, 1.0, 1.0, 1.0],
            "exclusive": [False, False, False, True, True, False],
            "matched": [False, False, False, True, True, False],
            "explained": [False, False, False, False, False, True],
            "source": "s",
            "fold": 3,
        }
    )
    found = conduct("people", account)
    # units: the first of the scaffold (.5 -> 4/7, other .5 -> 4/7) and the question of its own (.3 -> 2/7, other 0)
    assert found.means == pytest.approx([(4 / 7 + 2 / 7) / 2, 0, 0, (4 / 7 + 0) / 2])
    assert found.match_rate == pytest.approx(1 / 5)
    assert (found.fold, found.n_units) == (3, 2)


def test_baselines_of_intent_are_of_accounts_that_have_a_mean_and_of_repositories_of_those_that_have_not() -> None:
    """m2 of half of the sources; of both tiers where both saw them; the other half counted by the same rule."""
    from training.calibrate import Conduct, calibrate

    def seen(source: str, fold: int, n: int, mean: float) -> Conduct:
        return Conduct("applications", source, fold, n, np.array([mean, 0.0, 0.0, 0.0]), 0.0)

    small = [seen("many", 0, 1, float(i < 2)) for i in range(10)]  # a unit each, two of ten misread for certain
    tested = [seen("one", 1, 1, 1.0), seen("large", 1, 30, 0.4), *(seen("kin", 1, 1, float(i < 5)) for i in range(10))]
    baselines, strata = calibrate([seen("s", 0, 12, 0.1), *small, *tested])
    assert baselines.m2 == pytest.approx((0.3, 1 / 7, 1 / 7, 1 / 7))
    assert [(s.stratum, s.n, s.k) for s in strata] == [("applications", 12, 11), ("people", 0, 0), ("sources", 3, 2)]
    baselines, strata = calibrate([seen("s", 0, 12, 0.1), *small, *tested], [seen("s", 0, 40, 0.35)])
    assert baselines.m2[0] == pytest.approx(0.525)
    assert [(s.stratum, s.k) for s in strata] == [("applications", 0), ("people", 0), ("sources", 0)]


def test_thresholds_pay_for_false_alarms() -> None:
    import pandas as pd

    from training.calibrate import choose_thresholds

    n = 400
    rows = pd.DataFrame(
        {"role": "prompt", "label": "agentic_reasoning", "train_only": False, "source": "a", "gold": ""}, index=range(n)
    )
    organic = rows.assign(label="", source="b", gold="other")
    rows, probabilities = pd.concat([rows, organic], ignore_index=True), np.zeros((2 * n, 4), np.float32)
    probabilities[:n, 1] = np.linspace(0.2, 1, n)
    probabilities[n:, 1] = np.linspace(0, 0.5, n)
    found = choose_thresholds(rows.assign(gold_sure=1.0), probabilities)
    assert 0.45 <= found["agentic_reasoning"] <= 0.55
