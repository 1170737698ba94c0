"""What the report card measures of probabilities: calibration, recall at low false-positive rates, abstention,
conformal sets. Stands beside `measures`, whose rows it takes.

Arrays are [n], one entry a row; `weights` let every source count the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from classifier.types import CAPABILITIES, OTHER
from training.measures import LEAST_SET_ROWS, Bools, Floats, Ints, gold_rows, upper_quantile
from training.prepare import source_weights

EQUAL_MASS_BINS = 10
ECE_BINS = 15
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
MISSES = (0.2, 0.1, 0.05)  # of conformal sets, one less their confidence
MARGINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error over ECE_BINS bins of equal width, Brier score, and per bin of equal mass the mean
    `said` probability and the share that was `true` [bins], least first."""

    ece: float
    brier: float
    said: Floats
    true: Floats


@dataclass(frozen=True)
class Ranking:
    """How well a capability's probability sorts. `among_others` and `among_organic`: recall at each of
    FALSE_POSITIVE_RATES on rows of other labels, and on hand-labelled organic rows of other labels (`n_organic` of
    them; NaN where there are none)."""

    average_precision: float
    among_others: tuple[float, ...]
    among_organic: tuple[float, ...]
    n_organic: int


@dataclass(frozen=True)
class Abstention:
    """Decisions whose margin is at least `margin`: their share, and the share of them that is right (NaN: none)."""

    margin: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class ConformalSets:
    """Sets of labels that are to hold the true one but for a share `misses`: the share that does (`coverage`), that of
    the data set of LEAST_SET_ROWS rows or more where it does least (`worst`, NaN without any), mean number of labels
    (`size`), and the share of sets of one label (`single`)."""

    misses: float
    coverage: float
    worst: float
    size: float
    single: float


# --- calibration
# ---------------------------------------------------------------------------------------------------------


def calibration(probabilities: Floats, truth: Bools, weights: Floats) -> Calibration:
    """Of at least one row."""
    wide = _binned(np.minimum((probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1), probabilities, truth, weights)
    even = _binned(equal_mass(probabilities, weights, EQUAL_MASS_BINS), probabilities, truth, weights)
    ece = float(np.average(np.abs(wide.said - wide.true), weights=wide.mass))
    brier = float(np.average((probabilities - truth) ** 2, weights=weights))
    return Calibration(ece, brier, even.said, even.true)


@dataclass(frozen=True)
class _Bins:
    """Mean probability, mean truth and weight of each bin that has rows [bins]."""

    said: Floats
    true: Floats
    mass: Floats


def _binned(bins: Ints, probabilities: Floats, truth: Bools, weights: Floats) -> _Bins:
    mass = np.bincount(bins, weights)
    used = mass > 0
    said, true = np.bincount(bins, weights * probabilities), np.bincount(bins, weights * truth)
    return _Bins(said[used] / mass[used], true[used] / mass[used], mass[used].astype(float))


def equal_mass(values: Floats, weights: Floats, bins: int) -> Ints:
    """Bin of each value so that bins weigh nearly the same; equal values share a bin."""
    distinct, place = np.unique(values, return_inverse=True)
    mass = np.bincount(place, weights, minlength=len(distinct))
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.asarray(np.minimum((middle * bins).astype(np.int64), bins - 1)[place])


def calibrations(rows: pd.DataFrame) -> tuple[Calibration, ...]:
    """Of `capability_rows`, in the order of CAPABILITIES."""
    weights = source_weights(rows["source"])
    return tuple(calibration(rows[f"p_{c}"].to_numpy(float), _is(rows, c), weights) for c in CAPABILITIES)


def _is(rows: pd.DataFrame, capability: str) -> Bools:
    return np.asarray(rows["label"] == capability)


# --- ranking
# -------------------------------------------------------------------------------------------------------------


def recall_at(positives: Floats, weights: Floats, negatives: Floats, negative_weights: Floats, rate: float) -> float:
    """Weighted share of positives above the least threshold that at most `rate` of the negatives' weight exceeds; NaN
    without positives or negatives."""
    if len(positives) == 0 or len(negatives) == 0:
        return float("nan")
    return float(np.average(positives > upper_quantile(negatives, negative_weights, rate), weights=weights))


def average_precision(probabilities: Floats, truth: Bools, weights: Floats) -> float:
    """Mean precision over the positives' weight, each at its own probability; equal probabilities are one step."""
    _, place = np.unique(-probabilities, return_inverse=True)
    found = np.bincount(place, weights * truth)
    precision = np.cumsum(found) / np.cumsum(np.bincount(place, weights))
    return float((found * precision).sum() / found.sum()) if found.sum() > 0 else float("nan")


def rankings(labels: pd.DataFrame, rows: pd.DataFrame) -> tuple[Ranking, ...]:
    """In the order of CAPABILITIES; `rows` are the `capability_rows` of `labels`."""
    return tuple(_ranking(labels, rows, capability) for capability in CAPABILITIES)


def _ranking(labels: pd.DataFrame, rows: pd.DataFrame, capability: str) -> Ranking:
    scores, truth, weights = (
        rows[f"p_{capability}"].to_numpy(float),
        _is(rows, capability),
        source_weights(rows["source"]),
    )
    others, organic = scores[~truth], organic_negatives(labels, capability)
    flat = np.ones(len(organic))
    return Ranking(
        average_precision(scores, truth, weights),
        tuple(recall_at(scores[truth], weights[truth], others, weights[~truth], r) for r in FALSE_POSITIVE_RATES),
        tuple(recall_at(scores[truth], weights[truth], organic, flat, r) for r in FALSE_POSITIVE_RATES),
        len(organic),
    )


def organic_negatives(labels: pd.DataFrame, capability: str) -> Floats:
    """Probability of `capability` on organic rows whose reader was sure that it is something else."""
    gold = gold_rows(labels)
    honest = gold["organic"].astype(bool) & (gold["gold"] != capability)
    return np.asarray(gold.loc[honest, f"p_{capability}"], float)


# --- abstention
# ----------------------------------------------------------------------------------------------------------


def margins(rows: pd.DataFrame) -> Floats:
    """Top less second among the probabilities of the three capabilities and of `other`, one less their sum."""
    three = rows[[f"p_{c}" for c in CAPABILITIES]].to_numpy(float)
    four = np.sort(np.column_stack([three, 1 - three.sum(axis=1)]), axis=1)
    return np.asarray(four[:, -1] - four[:, -2])


def abstentions(rows: pd.DataFrame) -> tuple[Abstention, ...]:
    """At each of MARGINS, every source counting the same."""
    weights, sure = source_weights(rows["source"]), margins(rows)
    right = np.asarray(rows["label"] == rows["capability"])
    found = []
    for margin in MARGINS:
        kept = sure >= margin
        accuracy = float(np.average(right[kept], weights=weights[kept])) if kept.any() else float("nan")
        found.append(Abstention(margin, float(weights[kept].sum() / weights.sum()), accuracy))
    return tuple(found)


# --- conformal sets
# ------------------------------------------------------------------------------------------------------


def conformal_sets(rows: pd.DataFrame) -> tuple[ConformalSets, ...]:
    """Split conformal sets of least ambiguous labels (Sadinle, Lei & Wasserman 2019) at each of MISSES: every
    label whose probability is at least what `misses` of the true labels lie below on the other groups (column
    `group`), every source counting the same, without the correction for few rows. Empty if there is one group only."""
    if rows["group"].nunique() < 2:
        return ()
    three = rows[[f"p_{c}" for c in CAPABILITIES]].to_numpy(float)
    four = np.column_stack([three, 1 - three.sum(axis=1)])
    truth = rows["label"].map({label: i for i, label in enumerate((*CAPABILITIES, OTHER))}).to_numpy()
    return tuple(_conformal(rows, four, four[np.arange(len(rows)), truth], misses) for misses in MISSES)


def _conformal(rows: pd.DataFrame, four: Floats, of_truth: Floats, misses: float) -> ConformalSets:
    weights, group = source_weights(rows["source"]), rows["group"].to_numpy()
    least = np.zeros(len(rows))
    for name in np.unique(group):
        others = group != name
        least[group == name] = -upper_quantile(-of_truth[others], weights[others], misses)
    sizes, held = (four >= least[:, None]).sum(axis=1), of_truth >= least
    sets = pd.Series(held).groupby([rows["part"].to_numpy(), rows["label"].to_numpy()]).agg(["mean", "size"])
    return ConformalSets(
        misses,
        coverage=float(np.average(held, weights=weights)),
        worst=float(sets["mean"][sets["size"] >= LEAST_SET_ROWS].min()),
        size=float(np.average(sizes, weights=weights)),
        single=float(np.average(sizes == 1, weights=weights)),
    )
