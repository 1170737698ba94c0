"""The report's two plots as plotly figures in plain JSON: facts -> dicts. Nothing here imports plotly.

Colours are written as the names of CSS custom properties (`--coding`); the page's script replaces them by the reader's
light or dark values. Names from traffic are hostile: plotly reads a little HTML in texts, so they pass `plotly_text`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from classifier.types import TARGETS, Decision
from service.report_types import DayCount, Point
from service.report_words import TARGET_TITLES, title_of, visible

CLIP = 4.0
"""Evidence is drawn up to this many times the threshold (in logs): beyond, more of it says nothing new."""

MAX_BARS = 120
"""More days than this are drawn as weeks."""

_SYMBOLS = {
    Decision.FLAG: "diamond",
    Decision.REVIEW: "triangle-up",
    Decision.CLEAR: "circle",
    Decision.INSUFFICIENT_EVIDENCE: "circle-open",
}


@dataclass(frozen=True)
class Activity:
    """Events per period: `counts[side][target][i]` belongs to `starts[i]`; side 0 is flagged accounts, 1 all others."""

    starts: list[str]
    step_days: int
    counts: tuple[dict[str, list[int]], dict[str, list[int]]]

    @property
    def totals(self) -> tuple[int, int]:
        flagged, others = (sum(map(sum, side.values())) for side in self.counts)
        return flagged, others


def activity(days: Sequence[DayCount]) -> Activity:
    """Day counts on a common axis without gaps; weeks from the first day on if there are more than MAX_BARS days."""
    if not days:
        empty: dict[str, list[int]] = {c: [] for c in TARGETS}
        return Activity([], 1, (empty, empty))
    first, last = min(d.day for d in days), max(d.day for d in days)
    step = 1 if last - first < MAX_BARS else 7 * -(-(last - first + 1) // (7 * MAX_BARS))
    size = (last - first) // step + 1
    sums: defaultdict[tuple[bool, str, int], int] = defaultdict(int)
    for d in days:
        sums[d.flagged, d.capability if d.capability in TARGETS else TARGETS[-1], (d.day - first) // step] += d.n
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    flagged, others = ({c: [sums[side, c, i] for i in range(size)] for c in TARGETS} for side in (True, False))
    starts = [(epoch + timedelta(days=first + i * step)).date().isoformat() for i in range(size)]
    return Activity(starts, step, (flagged, others))


def activity_figure(
    view: Activity, names: tuple[str, str] = ("Flagged accounts", "All other accounts")
) -> dict[str, Any]:
    """Stacked bars of events per period and capability, one panel for each side of the flag that has events."""
    sides = [side for side in (0, 1) if view.totals[side] > 0]
    traces = []
    layout: dict[str, Any] = {"barmode": "stack", "xaxis": {"type": "date"}, "annotations": []}
    for place, side in enumerate(sides):
        axis = "y" if place == 0 else f"y{place + 1}"
        top = 1 - place / len(sides)
        layout["yaxis" + axis[1:]] = {"domain": [top - 1 / len(sides) + 0.05, top - 0.07], "rangemode": "tozero"}
        layout["annotations"].append(
            {
                "text": f"<b>{names[side]}</b>: prompts a {'day' if view.step_days == 1 else 'period'}",
                "showarrow": False,
            }
            | {"x": 0, "xref": "paper", "xanchor": "left", "y": top, "yref": "paper", "yanchor": "top"}
        )
        traces += [_bars(view, side, target, axis, first=place == 0) for target in TARGETS]
    layout["xaxis"]["anchor"] = "y" if len(sides) < 2 else "y2"
    return {"data": traces, "layout": layout}


def _bars(view: Activity, side: int, target: str, axis: str, *, first: bool) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": TARGET_TITLES[target],
        "legendgroup": target,
        "showlegend": first,
        "x": view.starts,
        "y": view.counts[side][target],
        "yaxis": axis,
        "marker": {"color": f"--{target}"},
        "hovertemplate": "%{x|%d %b %Y}: %{y:,}",
    }


def evidence_figure(points: Sequence[Point]) -> dict[str, Any]:
    """Each account's strongest evidence over its volume, against the threshold of the run."""
    threshold = max((p.log10_threshold for p in points), default=0.0)
    traces = [_dots([p for p in points if p.decision == d], d, threshold) for d in Decision]
    return {
        "data": [trace for trace in reversed(traces) if trace["x"]],
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "prompts sent (log scale)"}, "dtick": 1},
            "yaxis": EVIDENCE_AXIS,
            **threshold_line(threshold),
        },
    }


EVIDENCE_AXIS = {"title": {"text": "evidence, powers of ten"}, "zeroline": False}


def threshold_line(threshold: float) -> dict[str, Any]:
    """Of a layout: the log10 evidence that a flag takes, as a line that the legend names: a name beside the line would
    be struck through by whatever passes there."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": threshold, "y1": threshold}
    named = {"name": f"threshold, 10<sup>{threshold:.1f}</sup>", "showlegend": True}
    return {
        "showlegend": True,
        "shapes": [line | named | {"line": {"color": "--flag", "width": 1.5, "dash": "dash"}}],
    }


def _dots(points: Sequence[Point], decision: Decision, threshold: float) -> dict[str, Any]:
    top = CLIP * threshold
    return {
        "type": "scatter",
        "mode": "markers",
        "name": title_of(decision).capitalize(),
        "x": [max(p.n_prompts, 1) for p in points],
        "y": [min(p.log10_max_e, top) if top > 0 else p.log10_max_e for p in points],
        "customdata": [
            [
                plotly_text(p.account_id),
                plotly_text(", ".join(title_of(c) for c in p.capabilities)),
                f"{p.log10_max_e:.1f}",
                f"{p.n_prompts:,}",
            ]
            for p in points
        ],
        "hovertemplate": "%{customdata[0]}<br>10<sup>%{customdata[2]}</sup>, %{customdata[3]} prompts"
        "<br>%{customdata[1]}<extra></extra>",
        "marker": {"color": f"--{decision}", "symbol": _SYMBOLS[decision], "size": 9, "opacity": 0.85},
    }


def plotly_text(text: str) -> str:
    """`text` as plotly shows it literally: its markup characters as entities, its invisible ones spelled out."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def script_json(value: object) -> str:
    """`value` as JSON that can stand inside a script element: nothing in it can close the element or open a comment.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
