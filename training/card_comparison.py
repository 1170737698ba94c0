"""The report card's sections on all contenders and on how the card came about: comparison, cost, learning curve, stray
labels, notes. Used by `card`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from training import card_plots
from training.card_types import CardFacts, Picture, Section, Table
from training.card_words import NONE, interval, number, percent, percent_interval
from training.measures import LEAST_SET_ROWS, share
from training.targets import WEAK, Figure, Measured

ERRORS = (Figure.ECE_CODING, Figure.ECE_AGENTIC, Figure.ECE_PLANNING)
COLUMNS = (
    ("macro-F1", Figure.MACRO_F1),
    ("gold coding F1", Figure.CODING_F1),
    ("Chinese", Figure.CHINESE),
    ("short", Figure.SHORT),
    ("long", Figure.LONG),
    ("unseen loose", Figure.UNSEEN_LOOSE),
    ("unseen strict", Figure.UNSEEN_STRICT),
    ("known strict", Figure.KNOWN_STRICT),
)


def comparison_section(measured: Sequence[Measured]) -> Section:
    """One line for each contender."""
    header = ("contender", *(name for name, _ in COLUMNS), "weak sets", "gold alarms", "worst ECE", "µs")
    intro = (
        "The figures of the target table for every contender, without their intervals. Gold: hand-labelled organic "
        "prompts. Unseen, known: extraction recall. Weak sets: data sets of "
        f"{LEAST_SET_ROWS} rows or more under recall {WEAK}. µs: microseconds for one prompt of 500 bytes on one "
        "core, matching of templates not included."
    )
    return Section("All contenders", (intro, Table(header, tuple(_line(m) for m in measured))))


def _line(measured: Measured) -> tuple[str, ...]:
    figures = measured.figures
    name = f"{measured.name} (baseline)" if measured.contender.baseline else measured.name
    return (
        name,
        *(number(figures[figure].value) for _, figure in COLUMNS),
        number(figures[Figure.WEAK_SETS].value, 0),
        percent(figures[Figure.FALSE_ALARMS].value),
        number(max(figures[figure].value for figure in ERRORS)),
        _cost(measured.contender.microseconds),
    )


def _cost(microseconds: float | None) -> str:
    return NONE if microseconds is None else f"{microseconds:,.0f}" if microseconds >= 10 else f"{microseconds:.1f}"


def cost_section(measured: Sequence[Measured]) -> Section | None:
    """None if no cost was measured."""
    points = [
        card_plots.Point(m.name, m.contender.microseconds, m.figures[Figure.MACRO_F1], m.contender.baseline)
        for m in measured
        if m.contender.microseconds is not None
    ]
    if not points:
        return None
    rows = [
        (p.name, _cost(p.microseconds), f"{1e6 / p.microseconds:,.0f}", interval(p.found))
        for p in sorted(points, key=lambda p: p.microseconds)
    ]
    header = ("contender", "µs a prompt", "prompts a second", "macro-F1")
    intro = (
        "One prompt of 500 bytes on one core, normalisation included and matching of templates not, the cheapest "
        "first. Of a cascade, by the share of these rows that is asked. Baselines are hollow in the picture."
    )
    picture = Picture("cost", "Macro-F1 of each contender against its cost", card_plots.cost_plot(points))
    return Section("Cost and quality", (intro, Table(header, tuple(rows)), picture))


def curve_section(curve: pd.DataFrame) -> Section:
    """Macro-F1 by the share of the sources that was learnt from."""
    wide = curve.pivot_table(index="share", columns="contender", values="macro_f1", sort=True)
    rows = [
        (percent(float(at)), *(number(float(value)) for value in row))
        for at, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    intro = "Macro-F1 on left-out sources of what learnt from a share of the other sources only."
    return Section("Learning curve", (intro, Table(("share of sources", *map(str, wide.columns)), tuple(rows))))


def strays_section(strays: pd.DataFrame) -> Section:
    """How many labels taken from a source are wrong, as far as readers saw."""
    read, stray = strays["read"].astype(int), strays["stray"].astype(int)
    every = [("all", int(read.sum()), int(stray.sum())), *zip(strays["source"].astype(str), read, stray, strict=True)]
    found = [(name, n, k, share(np.arange(n) < k)) for name, n, k in every]
    lines = sorted(found[1:], key=lambda line: (-line[3].value, line[0]) if line[1] > 0 else (1.0, line[0]))
    rows = [(name, f"{n:,}", f"{k:,}", percent_interval(of)) for name, n, k, of in [found[0], *lines]]
    intro = (
        "A prompt's label is that of its source. Readers read some prompts of each source, most of them because a "
        "model that had not seen the source doubted the label (confident learning), and found these under a label that "
        "is not theirs: more than there are among all of its prompts. In brackets Wilson's 95 % interval."
    )
    return Section("Stray labels", (intro, Table(("source", "read", "stray", "share"), tuple(rows))))


def notes_section(facts: CardFacts) -> Section:
    return Section("Notes", facts.notes)


def comparison_sections(measured: Sequence[Measured], facts: CardFacts) -> list[Section]:
    """Those that there is something to say in."""
    cost = cost_section(measured)
    return [
        comparison_section(measured),
        *([cost] if cost is not None else []),
        *([curve_section(facts.learning_curve)] if facts.learning_curve is not None else []),
        *([strays_section(facts.strays)] if facts.strays is not None else []),
        *([notes_section(facts)] if facts.notes else []),
    ]
