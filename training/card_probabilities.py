"""The report card's sections on probabilities: calibration, recall at low false-positive rates, abstention,
conformal sets. Stands beside `card_sections` and is used by `card`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from classifier.types import CAPABILITIES
from training import card_plots
from training.card_sections import names_of
from training.card_types import Picture, Section, Table
from training.card_words import SHORT_NAMES, number, percent
from training.measures import Floats
from training.prepare import source_weights
from training.probabilities import (
    ECE_BINS,
    EQUAL_MASS_BINS,
    FALSE_POSITIVE_RATES,
    Ranking,
    abstentions,
    calibrations,
    conformal_sets,
    organic_negatives,
    rankings,
    recall_at,
)
from training.targets import Measured

CURVE_RATES = np.geomspace(0.001, 0.5, 28)


def calibration_section(shown: Sequence[Measured]) -> Section:
    found = [calibrations(m.rows) for m in shown]
    header = [f"{m.name}: {figure}" for m in shown for figure in ("ECE", "Brier")]
    rows = [
        (SHORT_NAMES[c], *(number(value) for f in found for value in (f[i].ece, f[i].brier)))
        for i, c in enumerate(CAPABILITIES)
    ]
    intro = (
        f"Expected calibration error (ECE) over {ECE_BINS} bins of equal width, and Brier score, every source counting "
        f"the same. The picture has {EQUAL_MASS_BINS} bins of equal weight; on the broken line a probability means "
        "what it says."
    )
    picture = Picture(
        "reliability",
        "Reliability of each capability's probability",
        card_plots.reliability_plot(names_of(shown), found),
    )
    return Section("Calibration", (intro, Table(("capability", *header), tuple(rows)), picture))


def ranking_section(shown: Sequence[Measured]) -> Section:
    found = [rankings(m.contender.labels, m.rows) for m in shown]
    organic = ", ".join(f"{SHORT_NAMES[c]} {r.n_organic:,}" for c, r in zip(CAPABILITIES, found[0], strict=True))
    intro = (
        "Recall of left-out prompts of a capability when its threshold lets through a given share of false positives: "
        "among prompts of the other labels (every source counting the same), and among hand-labelled organic prompts "
        f"of other labels ({organic}). With n organic prompts, rates under 1/n mean none at all. Average precision is "
        "over the labelled prompts, of which each capability is a far larger share than of real traffic."
    )
    rows: list[tuple[str, ...]] = []
    for i, capability in enumerate(CAPABILITIES):
        rows += _ranking_rows(SHORT_NAMES[capability], [f[i] for f in found])
    plot = card_plots.ranking_plot([curve for i, m in enumerate(shown) for curve in _curves(m, i)])
    picture = Picture("ranking", "Recall of each capability against the false-positive rate", plot)
    return Section(
        "Recall at low false-positive rates",
        (intro, Table(("capability", "figure", *names_of(shown)), tuple(rows), names=2), picture),
    )


def _ranking_rows(capability: str, found: Sequence[Ranking]) -> list[tuple[str, ...]]:
    rows = [(capability, "average precision", *(number(r.average_precision) for r in found))]
    for i, rate in enumerate(FALSE_POSITIVE_RATES):
        at = f"recall at {100 * rate:g} % of"
        rows.append((capability, f"{at} other labels", *(number(r.among_others[i]) for r in found)))
        rows.append((capability, f"{at} organic prompts", *(number(r.among_organic[i]) for r in found)))
    return rows


def _curves(measured: Measured, colour: int) -> list[card_plots.Curve]:
    return [
        card_plots.Curve(
            f"{measured.name}, {'organic' if organic else 'other labels'}",
            CURVE_RATES,
            tuple(_curve(measured, capability, organic) for capability in CAPABILITIES),
            organic,
            colour,
        )
        for organic in (False, True)
    ]


def _curve(measured: Measured, capability: str, organic: bool) -> Floats:
    rows = measured.rows
    weights, truth = source_weights(rows["source"]), (rows["label"] == capability).to_numpy(bool)
    scores = rows[f"p_{capability}"].to_numpy(float)
    negatives = organic_negatives(measured.contender.labels, capability) if organic else scores[~truth]
    negative_weights = np.ones(len(negatives)) if organic else weights[~truth]
    return np.array([recall_at(scores[truth], weights[truth], negatives, negative_weights, r) for r in CURVE_RATES])


def abstention_section(shown: Sequence[Measured]) -> Section:
    found = [abstentions(m.rows) for m in shown]
    header = [f"{m.name}: {figure}" for m in shown for figure in ("kept", "right")]
    rows = [
        (f"{at[0].margin:.2f}", *(cell for a in at for cell in (percent(a.coverage), percent(a.accuracy))))
        for at in zip(*found, strict=True)
    ]
    intro = (
        "If prompts with a margin below t were left unnamed: the share that is kept, and the share of the kept that is "
        "named rightly. Margin: the greatest less the second of the three probabilities and one less the greatest of "
        "them. Every source counts the same."
    )
    return Section("Abstention", (intro, Table(("t", *header), tuple(rows))))


def conformal_section(shown: Sequence[Measured]) -> Section | None:
    """None where groups were not left out in turn."""
    found = [conformal_sets(m.rows) if "group" in m.rows else () for m in shown]
    if not all(found):
        return None
    parts = ("holds the label", "worst data set", "labels in a set", "one label")
    header = [f"{m.name}: {part}" for m in shown for part in parts]
    rows = [
        (
            percent(1 - at[0].misses, 0),
            *(
                cell
                for c in at
                for cell in (percent(c.coverage), percent(c.worst), number(c.size, 2), percent(c.single))
            ),
        )
        for at in zip(*found, strict=True)
    ]
    intro = (
        "Sets of labels that are to hold the true one with a given confidence (split conformal, calibrated on the "
        "other groups of sources). The promise is for prompts like those of the calibration; where a source of its own "
        "kind comes, the worst data set shows what is left of it."
    )
    return Section("Conformal sets", (intro, Table(("confidence", *header), tuple(rows))))
