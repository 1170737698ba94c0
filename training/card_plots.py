"""The report card's pictures: figures -> SVG text, the same bytes for the same figures. Used by `card_sections`.

A file stands on white; `inline` turns it into a piece of a page that takes the page's colours, light or dark. Text
stays text. No picture needs a screen: matplotlib's SVG canvas alone is used.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from classifier.types import CAPABILITIES
from training.card_words import SHORT_NAMES
from training.measures import Estimate, Floats
from training.prepare import LABELS
from training.probabilities import Calibration

INK, MUTED, LINE, PAGE = "#1d1e20", "#585a5e", "#d5d5cf", "#ffffff"
COLOURS = ("#2a67b1", "#b4530a")  # told apart by the colour-blind too; the second also differs in shape
PAGE_COLOURS = {
    INK: "--text",
    MUTED: "--muted",
    LINE: "--line",
    PAGE: "--raised",
    COLOURS[0]: "--first",
    COLOURS[1]: "--second",
}
MARKERS = ("o", "D")
FONT = "system-ui, 'DejaVu Sans', sans-serif"
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Named:
    """One series of estimates; NaN values are left out."""

    name: str
    found: Sequence[Estimate]


@dataclass(frozen=True)
class Curve:
    """Recall [n] at false-positive rates [n], for each of CAPABILITIES."""

    name: str
    rates: Floats
    recalls: tuple[Floats, ...]
    dashed: bool
    colour: int


@dataclass(frozen=True)
class Point:
    """A contender's cost and quality."""

    name: str
    microseconds: float
    found: Estimate
    baseline: bool


# --- from figure to text
# -------------------------------------------------------------------------------------------------


def inline(svg: str) -> str:
    """A file's picture for use inside a page: no prolog, and the page's colours."""
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg[svg.index("<svg") :]


def svg_of(figure: Figure, salt: str) -> str:
    """Ids are salted with the picture's name, so that several pictures can share a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    return _trimmed(buffer.getvalue())


def _trimmed(svg: str) -> str:
    """Without what no reader needs: document type, metadata, comments, ids that nothing refers to, empty groups, turns
    by nothing, a font list for every word, and hundredths of hundredths of a point."""
    svg = re.sub(r"<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->|<g[^>]*/>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"| font-family: [^;"]*;', "", svg)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg).replace("*{", f"text{{font-family: {FONT}}} *{{", 1)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def panels(width: float, height: float, titles: Sequence[str], *, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure (inches) with panels side by side, in the card's quiet style."""
    figure = Figure(figsize=(width, height), facecolor=PAGE, layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False, sharey=share)[0])
    for panel, title in zip(axes, titles, strict=True):
        panel.set_facecolor("none")
        panel.set_title(title, fontsize=10, color=INK, loc="left")
        panel.tick_params(colors=MUTED, labelsize=8.5, length=0)
        panel.spines[:].set_visible(False)
        panel.grid(color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def legend(figure: Figure, panel: Axes) -> None:
    """Above the panels, where it hides nothing."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper left", ncols=2, frameon=False, fontsize=9, labelcolor=INK, borderaxespad=0.2
    )


def _interval_lines(found: Sequence[Estimate], places: Iterable[float]) -> tuple[Floats, Floats]:
    """Intervals as one line with gaps: along the figure, and across it."""
    along = [value for f in found for value in (f.low, f.high, np.nan)]
    across = [value for place in places for value in (place, place, np.nan)]
    return np.array(along), np.array(across)


# --- pictures
# ------------------------------------------------------------------------------------------------------------


def recall_plot(keys: Sequence[str], shown: Sequence[Named]) -> str:
    """A line for each data set, the first key on top: recall with its interval."""
    figure, (panel,) = panels(6.6, 1.3 + 0.165 * len(keys), [""])
    places = np.arange(len(keys), dtype=float)
    for i, series in enumerate(shown):
        if i == 0:
            panel.plot(*_interval_lines(series.found, places), color=COLOURS[i], linewidth=1.4, alpha=0.5)
        values = [f.value for f in series.found]
        fill = COLOURS[i] if i == 0 else PAGE
        panel.plot(
            values,
            places,
            MARKERS[i],
            color=COLOURS[i],
            markerfacecolor=fill,
            markersize=4.5,
            zorder=3 - i,
            label=series.name,
        )
    panel.set(xlim=(-0.02, 1.02), ylim=(len(keys) - 0.3, -0.7), yticks=places, xlabel="recall")
    panel.set_yticklabels(list(keys), fontsize=7.5)
    panel.tick_params(labeltop=True)
    panel.xaxis.label.set_color(MUTED)
    panel.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    legend(figure, panel)
    return svg_of(figure, "recall")


def confusion_plot(names: Sequence[str], matrices: Sequence[Floats]) -> str:
    """A square for each contender; the fuller a cell, the larger its share."""
    figure, axes = panels(3.7 * len(names), 3.3, list(names))
    short = [SHORT_NAMES[label] for label in LABELS]
    for i, (panel, matrix) in enumerate(zip(axes, matrices, strict=True)):
        panel.grid(visible=False)
        for (true, named), value in np.ndenumerate(matrix):
            panel.bar(named, -0.94, 0.94, true + 0.47, color=COLOURS[i], alpha=float(0.04 + 0.5 * value))
            panel.text(named, true, f"{value:.2f}", ha="center", va="center", color=INK, fontsize=9)
        panel.set(xticks=range(len(short)), yticks=range(len(short)), xlim=(-0.5, 3.5), ylim=(3.5, -0.5))
        panel.set_xticklabels(short)
        panel.set_yticklabels(short)
        panel.set_xlabel("named", color=MUTED, fontsize=9)
        panel.set_ylabel("true", color=MUTED, fontsize=9)
    return svg_of(figure, "confusion")


def reliability_plot(names: Sequence[str], found: Sequence[Sequence[Calibration]]) -> str:
    """A panel for each capability: share that was true against the probability that was said."""
    figure, axes = panels(7.6, 3.2, [SHORT_NAMES[c] for c in CAPABILITIES], share=True)
    for column, panel in enumerate(axes):
        panel.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for i, name in enumerate(names):
            bins = found[i][column]
            panel.plot(
                bins.said, bins.true, marker=MARKERS[i], color=COLOURS[i], markersize=4, linewidth=1.2, label=name
            )
        panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        panel.set_xlabel("probability said", color=MUTED, fontsize=9)
    axes[0].set_ylabel("share true", color=MUTED, fontsize=9)
    legend(figure, axes[0])
    return svg_of(figure, "reliability")


def ranking_plot(curves: Sequence[Curve]) -> str:
    """A panel for each capability: recall against the false-positive rate, which runs by powers of ten."""
    figure, axes = panels(7.6, 3.4, [SHORT_NAMES[c] for c in CAPABILITIES], share=True)
    for column, panel in enumerate(axes):
        for curve in curves:
            style = (0, (3, 2)) if curve.dashed else "solid"
            panel.plot(
                curve.rates, curve.recalls[column], color=COLOURS[curve.colour], linestyle=style, label=curve.name
            )
        panel.set(xscale="log", ylim=(-0.03, 1.03))
        _percent_ticks(panel, (0.001, 0.01, 0.1))
        panel.set_xlabel("false-positive rate", color=MUTED, fontsize=9)
    axes[0].set_ylabel("recall", color=MUTED, fontsize=9)
    legend(figure, axes[0])
    return svg_of(figure, "ranking")


def _percent_ticks(panel: Axes, rates: Sequence[float]) -> None:
    panel.xaxis.set_major_locator(FixedLocator(list(rates)))
    panel.xaxis.set_major_formatter(FixedFormatter([f"{100 * rate:g} %" for rate in rates]))
    panel.xaxis.set_minor_locator(NullLocator())


def bar_plot(keys: Sequence[str], shown: Sequence[Named], axis: str) -> str:
    """Bars side by side for each key, with intervals."""
    figure, (panel,) = panels(7.2, 3.4, [""])
    width = 0.8 / len(shown)
    for i, series in enumerate(shown):
        places = np.arange(len(keys)) + (i - (len(shown) - 1) / 2) * width
        values = [0 if isnan(f.value) else f.value for f in series.found]
        panel.bar(places, values, width * 0.92, color=COLOURS[i], alpha=0.75, label=series.name)
        along, across = _interval_lines(series.found, places)
        panel.plot(across, along, color=INK, linewidth=1)
    panel.grid(visible=False, axis="x")
    panel.set(xticks=range(len(keys)), ylim=(0, 1))
    panel.set_xticklabels(list(keys), fontsize=8, rotation=30, ha="right")
    panel.set_xlabel(axis, color=MUTED, fontsize=9)
    panel.set_ylabel("macro-F1", color=MUTED, fontsize=9)
    legend(figure, panel)
    return svg_of(figure, "lengths")


def cost_plot(points: Sequence[Point]) -> str:
    """Macro-F1 against the cost of a prompt, which runs by powers of ten; baselines are hollow."""
    figure, (panel,) = panels(7.2, 3.8, [""])
    for place, point in enumerate(sorted(points, key=lambda p: p.microseconds)):
        colour, fill = (MUTED, PAGE) if point.baseline else (COLOURS[0], COLOURS[0])
        panel.plot([point.microseconds] * 2, [point.found.low, point.found.high], color=colour, linewidth=1, alpha=0.5)
        panel.plot([point.microseconds], [point.found.value], "o", color=colour, markerfacecolor=fill, markersize=6)
        lift = 7 if place % 2 == 0 else -13
        panel.annotate(
            point.name,
            (point.microseconds, point.found.value),
            (7, lift),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
        )
    panel.set_xscale("log")
    panel.margins(x=0.18, y=0.12)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("microseconds for one prompt of 500 bytes on one core", color=MUTED, fontsize=9)
    panel.set_ylabel("macro-F1", color=MUTED, fontsize=9)
    return svg_of(figure, "cost")
