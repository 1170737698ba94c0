"""What the report card measures of decisions: labelled rows -> named figures. Plain functions, used by `targets` and
`card_sections`; what is measured of probabilities stands in `probabilities`.

Rows are those of `Contender`. Every source counts the same: each is a 4x4 matrix of shares, sources are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.prepare import BENIGN, EXTRACTION, LABELS, PROMPT, source_weights

OPERATING_POINTS = (
    ("loose", 0.01, 0.05),
    ("strict", 0.001, 0.01),
)  # false positives on organic prompts, on applications
LEAST_SET_ROWS = 100
LEAST_LABEL_ROWS = 10  # an F1 over fewer rows of a label says nothing
LEAST_LANGUAGE_ROWS = 50
SHORT, LONG = 60, 4000  # characters
DECILES = 10
RESAMPLES = 1000
CENTRAL = (0.025, 0.975)
Z = 1.959964  # of a 95 % interval
RARE = ("agentic_reasoning", "long_horizon_planning")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, NaN where there is none; `n` rows, `groups` of them drawn together."""

    value: float
    low: float
    high: float
    n: int
    groups: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0, 0)


@dataclass(frozen=True)
class CapabilityQuality:
    """`by_label` in the order of LABELS; `confusion` [true, named] shares, rows sum to one."""

    macro_f1: Estimate
    by_label: tuple[Estimate, ...]
    confusion: Floats


@dataclass(frozen=True)
class GoldQuality:
    """On organic rows that a reader labelled and was sure of."""

    coding_f1: Estimate
    false_alarms: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class Slice:
    """`labels`: how many of LABELS the macro-F1 is the mean of."""

    name: str
    macro_f1: Estimate
    labels: int


@dataclass(frozen=True)
class Recall:
    """Share of extraction found at an operating point, families weighted equally, with a bootstrap interval over
    families."""

    point: str
    mean: float
    low: float
    high: float
    by_family: pd.Series


# --- rows and intervals
# -------------------------------------------------------------------------------------------------


def capability_rows(labels: pd.DataFrame) -> pd.DataFrame:
    """Rows whose label is known from their source and that were not written for training."""
    known = (labels["role"] == PROMPT) & labels["label"].isin(LABELS) & ~labels["train_only"].astype(bool)
    return labels[known].reset_index(drop=True)


def gold_rows(labels: pd.DataFrame) -> pd.DataFrame:
    """Rows that a reader labelled and was sure of."""
    return labels[labels["gold"].isin(LABELS) & (labels["gold_sure"] == 1)].reset_index(drop=True)


def share(hits: Bools) -> Estimate:
    """Share of rows, with Wilson's interval (1927)."""
    n = len(hits)
    if n == 0:
        return NOTHING
    p = float(hits.mean())
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Estimate(p, float(max(centre - half, 0)), float(min(centre + half, 1)), n, n)


def draws(n: int) -> Ints:
    """Indices [RESAMPLES, n] of bootstrap samples, always the same."""
    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))


# --- macro-F1
# ------------------------------------------------------------------------------------------------------------


def source_confusions(rows: pd.DataFrame) -> Floats:
    """[sources, true, named]: of each source, the share of its rows with each label and each answer."""
    codes, names = pd.factorize(rows["source"], sort=True)
    confusion = np.zeros((len(names), len(LABELS), len(LABELS)))
    np.add.at(confusion, (codes, _index(rows["label"]), _index(rows["capability"])), 1)
    return np.asarray(confusion / np.maximum(confusion.sum(axis=(1, 2), keepdims=True), 1))


def _index(labels: pd.Series) -> Ints:
    return np.asarray(labels.map(LABELS.index), np.int64)


def f1_scores(confusions: Floats) -> Floats:
    """F1 of each label, [..., true, named] -> [..., label]; NaN for a label that no row has."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    true, named = confusions.sum(axis=-1), confusions.sum(axis=-2)
    return np.where(true > 0, 2 * right / np.maximum(true + named, 1e-12), np.nan)


def mean_f1(confusions: Floats, labels: Sequence[int]) -> Estimate:
    """Mean F1 of some labels over sources [sources, true, named], with a bootstrap interval over sources. One source
    gives no interval, and a bootstrap sample that lacks one of the labels has no such mean: it is left out. n is 0."""
    value = float(f1_scores(confusions.sum(axis=0))[list(labels)].mean())
    drawn = f1_scores(confusions[draws(len(confusions))].sum(axis=1))[:, list(labels)].mean(axis=1)
    whole = drawn[~np.isnan(drawn)]
    if len(confusions) < 2 or len(whole) == 0:
        return Estimate(value, np.nan, np.nan, 0, len(confusions))
    low, high = np.quantile(whole, CENTRAL)
    return Estimate(value, float(low), float(high), 0, len(confusions))


def capability_quality(rows: pd.DataFrame) -> CapabilityQuality:
    """Of `capability_rows`, at least one; macro over the labels that occur."""
    confusions = source_confusions(rows)
    total = confusions.sum(axis=0)
    counts = _counts(rows)
    by_label = [replace(mean_f1(confusions, [i]), n=n) for i, n in enumerate(counts)]
    macro = replace(mean_f1(confusions, [i for i, n in enumerate(counts) if n > 0]), n=len(rows))
    return CapabilityQuality(macro, tuple(by_label), total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12))


def _counts(rows: pd.DataFrame) -> list[int]:
    """Rows of each of LABELS."""
    return [int((rows["label"] == label).sum()) for label in LABELS]


def slice_quality(name: str, rows: pd.DataFrame) -> Slice:
    """Macro-F1 over the labels with at least LEAST_LABEL_ROWS rows; rows of other labels still count as mistakes."""
    kept = [i for i, n in enumerate(_counts(rows)) if n >= LEAST_LABEL_ROWS]
    if not kept:
        return Slice(name, replace(NOTHING, n=len(rows), groups=rows["source"].nunique()), 0)
    return Slice(name, replace(mean_f1(source_confusions(rows), kept), n=len(rows)), len(kept))


def language_slices(rows: pd.DataFrame) -> tuple[Slice, ...]:
    """Languages with at least LEAST_LANGUAGE_ROWS rows, the most frequent first."""
    counts = rows["lang"].value_counts()
    return tuple(
        slice_quality(str(lang), rows[rows["lang"] == lang])
        for lang in sorted(counts[counts >= LEAST_LANGUAGE_ROWS].index, key=lambda lang: (-counts[lang], lang))
    )


def chinese_slice(rows: pd.DataFrame) -> Slice:
    return slice_quality("Chinese", rows[rows["lang"] == "zh"])


def short_slice(rows: pd.DataFrame) -> Slice:
    return slice_quality(f"under {SHORT} characters", rows[rows["length"] < SHORT])


def long_slice(rows: pd.DataFrame) -> Slice:
    return slice_quality(f"over {LONG:,} characters", rows[rows["length"] > LONG])


def length_deciles(rows: pd.DataFrame) -> tuple[Slice, ...]:
    """Tenths of the rows by length, shortest first; rows of one length stay together, so a tenth may be missing."""
    edges = np.quantile(rows["length"], np.arange(1, DECILES) / DECILES)
    tenth = np.searchsorted(edges, rows["length"].to_numpy(), side="left")
    parts = [rows[tenth == i] for i in range(DECILES)]
    return tuple(slice_quality(_span(part["length"]), part) for part in parts if len(part) > 0)


def _span(lengths: pd.Series) -> str:
    low, high = int(lengths.min()), int(lengths.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# --- data sets, hand-labelled rows
# --------------------------------------------------------------------------------------


class SetKey(NamedTuple):
    label: str
    part: str


def dataset_recalls(rows: pd.DataFrame) -> dict[SetKey, Estimate]:
    """Recall of each label in each data set, lowest first."""
    groups = rows.assign(right=rows["label"] == rows["capability"]).groupby(["label", "part"], sort=True)["right"]
    found = {SetKey(str(label), str(part)): share(right.to_numpy(bool)) for (label, part), right in groups}
    return dict(sorted(found.items(), key=lambda item: (item[1].value, -item[1].n, item[0])))


def weak_sets(recalls: dict[SetKey, Estimate], below: float) -> list[SetKey]:
    """Data sets with at least LEAST_SET_ROWS rows and a recall under `below`."""
    return [key for key, found in recalls.items() if found.n >= LEAST_SET_ROWS and found.value < below]


def gold_quality(labels: pd.DataFrame) -> GoldQuality:
    """Coding F1 (bootstrap over rows); alarms: agentic or planning named where the reader named neither."""
    gold = gold_rows(labels)
    named = gold["capability"]
    honest = ~gold["gold"].isin(RARE)
    return GoldQuality(
        _binary_f1((gold["gold"] == "coding").to_numpy(bool), (named == "coding").to_numpy(bool)),
        share(named[honest].isin(RARE).to_numpy(bool)),
        share((gold["gold"] == named).to_numpy(bool)),
    )


def _binary_f1(truth: Bools, named: Bools) -> Estimate:
    """F1 with a bootstrap interval over rows; NaN where neither is ever true."""
    n = len(truth)
    if not (truth | named).any():
        return Estimate(np.nan, np.nan, np.nan, n, n)
    points, most = 2.0 * (truth & named), truth.astype(float) + named
    drawn = draws(n)
    low, high = np.quantile(points[drawn].sum(axis=1) / np.maximum(most[drawn].sum(axis=1), 1), CENTRAL)
    return Estimate(float(points.sum() / most.sum()), float(low), float(high), n, n)


# --- extraction
# ----------------------------------------------------------------------------------------------------------


def recalls(labels: pd.DataFrame) -> list[Recall]:
    """Recall at each operating point, its threshold set on honest rows of the same table."""
    scores = labels["p_extraction"].to_numpy(float)
    organic, benign = labels["organic"].to_numpy(), (labels["role"] == BENIGN).to_numpy()
    positive = ((labels["role"] == EXTRACTION) & labels["has_template"]).to_numpy()
    found = []
    for point, on_organic, on_benign in OPERATING_POINTS:
        thresholds = (
            upper_quantile(scores[organic], np.ones(organic.sum()), on_organic),
            upper_quantile(scores[benign], source_weights(labels["part"][benign]), on_benign),
        )
        family = pd.Series(scores[positive] > max(thresholds)).groupby(labels["part"][positive].to_numpy()).mean()
        drawn = family.to_numpy()[draws(len(family))].mean(axis=1)
        low, high = np.quantile(drawn, CENTRAL)
        found.append(Recall(point, float(family.mean()), float(low), float(high), family))
    return found


def upper_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Least value that at most `share` of the weight lies above."""
    order = np.argsort(-values)
    above = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(above, share, side="right")])
