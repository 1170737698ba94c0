"""Training: its arithmetic by hand, its traps, and a small bundle built twice."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from classifier.bundle import data_dir, open_bundle
from classifier.heads import Heads

pytestmark = pytest.mark.training

BANK = data_dir() / "sample" / "traffic.jsonl"


@pytest.mark.parametrize(("k", "n", "limit"), [(0, 16, 0.1707), (0, 236, 0.0126), (0, 30_000, 0.0001), (5, 5, 1.0)])
def test_clopper_pearson(k: int, n: int, limit: float) -> None:
    from training.calibrate import clopper_pearson_upper

    assert clopper_pearson_upper(k, n) == pytest.approx(limit, abs=5e-5)


def test_quantile_of_weighted_values() -> None:
    from training.evaluate import upper_quantile

    values = np.array([0.9, 0.1, 0.5, 0.7])
    assert upper_quantile(values, np.ones(4), 0.25) == 0.7
    assert upper_quantile(values, np.ones(4), 0.2) == 0.9
    assert upper_quantile(values, np.array([1.0, 1, 1, 7]), 0.05) == 0.9
    assert upper_quantile(values, np.array([1.0, 1, 1, 7]), 0.85) == 0.5


def test_exported_heads_are_the_sigmoid_of_their_lines(tmp_path: Path) -> None:
    from training.heads import Linear, export

    rng = np.random.default_rng(0)
    lines = [Linear(rng.normal(size=6), float(bias)) for bias in (-1.0, 0.0, 2.0, 0.5)]
    export(lines, tmp_path / "classifier.onnx")
    features = rng.normal(size=(100, 6)).astype(np.float32)
    expected = 1 / (1 + np.exp(-np.stack([line(features) for line in lines], axis=1)))
    heads = Heads(tmp_path / "classifier.onnx")
    assert heads.probabilities(features) == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(
        np.concatenate([heads.probabilities(row[None]) for row in features]), heads.probabilities(features)
    )
    assert heads.probabilities(features[:0]).shape == (0, 4)


def test_calibration_recovers_a_known_sigmoid() -> None:
    from training.heads import platt

    rng = np.random.default_rng(0)
    decisions = rng.normal(scale=3, size=200_000)
    truth = rng.random(len(decisions)) < 1 / (1 + np.exp(-(0.5 * decisions - 1)))
    slope, intercept = platt(decisions, truth, np.ones(len(decisions)))
    assert (slope, intercept) == pytest.approx((0.5, -1), abs=0.02)


def test_folds_keep_sources_together_and_weights_make_them_equal() -> None:
    import pandas as pd

    from training.prepare import FOLDS, assign_folds, source_weights

    rows = pd.DataFrame(
        [
            {"role": "prompt", "source": f"s{s}", "label": ("coding", "other")[s % 2]}
            for s in range(32)
            for _ in range(1 + s)
        ]
    )
    folds = assign_folds(rows)
    assert rows.assign(fold=folds).groupby("source")["fold"].nunique().max() == 1
    assert rows.assign(fold=folds).groupby("fold")["label"].nunique().tolist() == [2] * FOLDS
    totals = pd.Series(source_weights(rows["source"])).groupby(rows["source"]).sum()
    assert totals.to_numpy() == pytest.approx(len(rows) / 32)


def test_payloads_are_known_again_in_another_wrapping() -> None:
    import pandas as pd

    from training.prepare import payload_buckets

    payloads = [
        f"a train number {i} leaves at {i} past noon with {i * 7} sacks of {word}" for i, word in enumerate(_words())
    ]
    rows = pd.DataFrame(
        [{"part": "one", "whole": f"Invent a harder variant of the task below. {p} Begin:"} for p in payloads]
        + [{"part": "two", "whole": f"Judge this exercise on a scale from one to five: {p}"} for p in payloads]
    )
    buckets = payload_buckets(rows, 1_000_000).reshape(2, -1)
    assert (buckets[0] == buckets[1]).mean() >= 0.8
    assert len(np.unique(buckets[0])) > 50


def _words() -> list[str]:
    return sorted(
        {word for line in BANK.read_text(encoding="utf-8").split() for word in line.split() if word.isalpha()}
    )[:80]


def test_a_small_bundle_built_twice_is_the_same(tmp_path: Path) -> None:
    from training.assemble import assemble
    from training.prepare import prepare

    data = tmp_path / "data"
    _write_data(data)
    ids = []
    for name in ("one", "two"):
        out = tmp_path / name / "bundle"
        manifest = assemble(prepare(data, 0), data, out, tmp_path / f"work-{name}", 0, lambda _: None)
        ids.append(manifest.bundle_id)
        assert open_bundle(out).manifest.bundle_id == manifest.bundle_id
    assert ids[0] == ids[1]


def _write_data(folder: Path) -> None:
    """The three data files, small, from the sample traffic and our own templates."""
    import pandas as pd

    folder.mkdir()
    records = [json.loads(line) for line in BANK.read_text(encoding="utf-8").splitlines()]
    texts = sorted({record["prompt"] for record in records if "prompt" in record})[:960]
    families = tomllib.loads((data_dir() / "templates" / "own.toml").read_text(encoding="utf-8"))["family"][:4]
    known = ("oss_instruct", "camel_code", "r1_system_trace", "lumos_plan_conversion")
    labels = ("coding", "agentic_reasoning", "long_horizon_planning", "other")
    common = {"path": "", "commit": "", "license": "", "lang": "en", "cut": False}
    prompts = [
        {"text": text, "label": labels[i % 4], "source": f"s{i % 32}", "kind": ("human", "benchmark")[i % 2],
         "variant": None, "conversation": f"c{i // 8}", "dataset": f"d{i % 32}",
         "group": "organic", "gold": None, "gold_sure": np.nan,
         **common}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    extraction = [
        {"text": family["text"].replace("{", text[:40]).replace("}", ""), "family": name, "capability": "coding",
         "source": f"x{n}", "fidelity": "", "has_template": True, **common}
        for n, (family, name) in enumerate(zip(families, known, strict=True))
        for text in texts[:40]
    ]  # fmt: skip
    benign = [
        {"text": f"{texts[app][:200]} Answer for customer {i}: {text}", "app": f"app{app}", "kind": "support",
         "uses_capability": "other", "source": f"r{app % 4}", "ambiguous": False, **common}
        for app in range(12)
        for i, text in enumerate(texts[app * 20 : app * 20 + 20])
    ]  # fmt: skip
    for name, rows in (("prompts", prompts), ("extraction_traffic", extraction), ("benign_apps", benign)):
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
