"""The main figures of every contender, what was aimed at, and whether it was reached. Stands between the measures and
the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from math import isnan

import numpy as np
import pandas as pd

from training import measures
from training.card_types import Contender
from training.card_words import NONE, interval, number, percent, percent_interval
from training.measures import NOTHING, Estimate, Recall
from training.probabilities import calibrations

WEAK = 0.5  # recall below which a data set counts as missed


class Figure(StrEnum):
    """A main figure, as the card names it."""

    MACRO_F1 = "macro-F1"
    WEAK_SETS = f"data sets of {measures.LEAST_SET_ROWS} rows or more under recall {WEAK}"
    CODING_F1 = "hand-labelled: coding F1"
    FALSE_ALARMS = "hand-labelled: false agentic and planning alarms"
    CHINESE = "Chinese: macro-F1"
    SHORT = f"under {measures.SHORT} characters: macro-F1"
    LONG = f"over {measures.LONG:,} characters: macro-F1"
    UNSEEN_LOOSE = "extraction, unseen families: loose recall"
    UNSEEN_STRICT = "extraction, unseen families: strict recall"
    KNOWN_STRICT = "extraction, known families: strict recall"
    ECE_CODING = "calibration error: coding"
    ECE_AGENTIC = "calibration error: agentic"
    ECE_PLANNING = "calibration error: planning"


LOWER_IS_BETTER = {
    Figure.WEAK_SETS,
    Figure.FALSE_ALARMS,
    Figure.ECE_CODING,
    Figure.ECE_AGENTIC,
    Figure.ECE_PLANNING,
}


@dataclass(frozen=True)
class Aim:
    """What `figure` should reach, by the default and by the best contender."""

    figure: Figure
    default: float
    best: float


AIMS = (
    Aim(Figure.MACRO_F1, 0.80, 0.85),
    Aim(Figure.WEAK_SETS, 0, 0),
    Aim(Figure.CODING_F1, 0.90, 0.90),
    Aim(Figure.FALSE_ALARMS, 0.02, 0.02),
    Aim(Figure.CHINESE, 0.75, 0.75),
    Aim(Figure.SHORT, 0.75, 0.75),
    Aim(Figure.LONG, 0.75, 0.75),
    Aim(Figure.UNSEEN_LOOSE, 0.65, 0.65),
    Aim(Figure.UNSEEN_STRICT, 0.40, 0.40),
    Aim(Figure.KNOWN_STRICT, 0.99, 0.99),
    Aim(Figure.ECE_CODING, 0.05, 0.05),
    Aim(Figure.ECE_AGENTIC, 0.05, 0.05),
    Aim(Figure.ECE_PLANNING, 0.05, 0.05),
)


@dataclass(frozen=True)
class Measured:
    """A contender with its capability rows, its extraction recalls (empty where it tells none) and its main figures."""

    contender: Contender
    rows: pd.DataFrame
    unseen: tuple[Recall, ...]
    known: tuple[Recall, ...]
    figures: dict[Figure, Estimate]

    @property
    def name(self) -> str:
        return self.contender.name


def measure(contender: Contender) -> Measured:
    """Every main figure of a contender; NOTHING where a figure cannot be had."""
    rows = measures.capability_rows(contender.labels)
    unseen, known = _extraction(contender.labels), _extraction(contender.known)
    gold = measures.gold_quality(contender.labels)
    sets = measures.dataset_recalls(rows)
    enough = sum(found.n >= measures.LEAST_SET_ROWS for found in sets.values())
    errors = [Estimate(c.ece, np.nan, np.nan, len(rows), rows["source"].nunique()) for c in calibrations(rows)]
    figures = {
        Figure.MACRO_F1: measures.capability_quality(rows).macro_f1,
        Figure.WEAK_SETS: Estimate(len(measures.weak_sets(sets, WEAK)), np.nan, np.nan, enough, enough),
        Figure.CODING_F1: gold.coding_f1,
        Figure.FALSE_ALARMS: gold.false_alarms,
        Figure.CHINESE: measures.chinese_slice(rows).macro_f1,
        Figure.SHORT: measures.short_slice(rows).macro_f1,
        Figure.LONG: measures.long_slice(rows).macro_f1,
        Figure.UNSEEN_LOOSE: estimate(unseen, "loose"),
        Figure.UNSEEN_STRICT: estimate(unseen, "strict"),
        Figure.KNOWN_STRICT: estimate(known, "strict"),
        **dict(zip((Figure.ECE_CODING, Figure.ECE_AGENTIC, Figure.ECE_PLANNING), errors, strict=True)),
    }
    return Measured(contender, rows, unseen, known, figures)


def _extraction(labels: pd.DataFrame | None) -> tuple[Recall, ...]:
    if labels is None or labels["p_extraction"].isna().any():
        return ()
    return tuple(measures.recalls(labels))


def estimate(found: Sequence[Recall], point: str) -> Estimate:
    """The recall at one operating point, NOTHING if it was not measured; n is families."""
    for recall in found:
        if recall.point == point:
            families = len(recall.by_family)
            return Estimate(recall.mean, recall.low, recall.high, families, families)
    return NOTHING


def best_of(measured: Sequence[Measured]) -> Measured:
    """The contender with the highest macro-F1 that is no baseline; the first of several."""
    product = [m for m in measured if not m.contender.baseline]
    return max(product, key=lambda m: m.figures[Figure.MACRO_F1].value)


# --- words
# ---------------------------------------------------------------------------------------------------------------


def said(figure: Figure, found: Estimate) -> str:
    """The figure as the card prints it."""
    if isnan(found.value):
        return NONE
    if figure is Figure.WEAK_SETS:
        return f"{found.value:.0f} of {found.n}"
    return percent_interval(found) if figure is Figure.FALSE_ALARMS else interval(found)


def aimed(figure: Figure, aim: float) -> str:
    if figure is Figure.WEAK_SETS:
        return "none"
    if figure is Figure.FALSE_ALARMS:
        return f"at most {percent(aim, 0)}"
    return f"at {'most' if figure in LOWER_IS_BETTER else 'least'} {aim:.2f}"


def judged(figure: Figure, found: Estimate, aim: float) -> str:
    """Whether the aim was reached, how far off it is, and whether the interval leaves that open."""
    if isnan(found.value):
        return "not measured"
    sign = -1 if figure in LOWER_IS_BETTER else 1
    open_ = found.low < aim < found.high
    if sign * (found.value - aim) >= 0:
        return "met, but the interval reaches past the target" if open_ else "met"
    missed = f"missed by {_distance(figure, abs(found.value - aim))}"
    return f"{missed}; the interval includes the target" if open_ else missed


def _distance(figure: Figure, distance: float) -> str:
    if figure is Figure.WEAK_SETS:
        return f"{distance:.0f}"
    points = distance * 100 if figure is Figure.FALSE_ALARMS else distance
    least, digits, unit = (0.1, 1, " points") if figure is Figure.FALSE_ALARMS else (0.001, 3, "")
    return f"less than {least}{unit}" if points < least else f"{number(points, digits)}{unit}"


def not_ahead(ours: Measured, theirs: Measured) -> list[Figure]:
    """Figures of a baseline that ours does not beat; what the baseline does not give is not compared."""
    return list(filter(partial(_not_better, ours, theirs), Figure))


def _not_better(ours: Measured, theirs: Measured, figure: Figure) -> bool:
    mine, other = ours.figures[figure].value, theirs.figures[figure].value
    sign = -1 if figure in LOWER_IS_BETTER else 1
    return not isnan(other) and not sign * (mine - other) > 0


def rivals(measured: Sequence[Measured]) -> list[Measured]:
    """The baselines."""
    return [m for m in measured if m.contender.baseline]


def ahead(ours: Measured, measured: Sequence[Measured]) -> str:
    """Whether ours beats every baseline on every main figure that the baseline has."""
    if not rivals(measured):
        return "not measured"
    return "not met" if any(not_ahead(ours, baseline) for baseline in rivals(measured)) else "met"


def comparison(ours: Measured, baseline: Measured) -> str:
    """One sentence: on how many figures ours is ahead of a baseline, and on which it is not."""
    compared = [figure for figure in Figure if not isnan(baseline.figures[figure].value)]
    behind = not_ahead(ours, baseline)
    listed = f"; level or behind on {'; '.join(behind)}" if behind else ""
    counted = f"ahead on {len(compared) - len(behind)} of {len(compared)} figures"
    return f"{ours.name} against {baseline.name}: {counted}{listed}."
