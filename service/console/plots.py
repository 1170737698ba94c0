"""The console's plots as plotly figures in plain JSON, in the report's colours and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from classifier.types import TARGETS
from service.console.evidence_path import EvidencePath
from service.console.standing import moment_of
from service.report_plots import EVIDENCE_AXIS, plotly_text, threshold_line
from service.report_types import DayCount
from service.report_words import TARGET_TITLES, visible
from service.store.context_sums import ModelDay
from service.store.overview import DaySums, MemberUse

MOST_DRAWN = 24
"""Accounts in the picture of a campaign: as many as can be read beside each other."""
LONGEST_DRAWN = 28
"""Characters of a name in it; the whole name is shown where one points."""
_MODEL_COLORS = ("--flag", "--coding", "--agentic_reasoning", "--long_horizon_planning", "--review", "--other")
MOST_MODELS = len(_MODEL_COLORS) - 1
"""Models that have a colour of their own; the rest share the last one."""
_REST = "all others"
_UNKNOWN = "unknown family"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_counts(days: Sequence[DaySums], flagged: bool) -> list[DayCount]:
    """Sums as the report's activity plot takes them."""
    return [
        DayCount(one.day, target, flagged, n)
        for one in days
        for target, n in zip(TARGETS, one.counts, strict=True)
        if n > 0
    ]


def without(days: Sequence[DaySums], flagged: Sequence[DaySums]) -> list[DaySums]:
    """Sums of all but the flagged."""
    theirs = {one.day: one for one in flagged}
    nothing = DaySums(0, (0,) * len(TARGETS), 0)
    pairs = ((one, theirs.get(one.day, nothing)) for one in days)
    return [
        DaySums(
            one.day, tuple(a - b for a, b in zip(one.counts, own.counts, strict=True)), one.n_matched - own.n_matched
        )
        for one, own in pairs
    ]


def share_figure(days: Sequence[DaySums]) -> dict[str, Any]:
    """Share of prompts that match a known template, by day."""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "prompts that match a known template",
                "x": [_day(one.day) for one in days],
                "y": [one.n_matched / max(sum(one.counts), 1) for one in days],
                "line": {"color": "--flag", "width": 2},
                "hovertemplate": "%{x|%d %b %Y}: %{y:.1%}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"type": "date"},
            "yaxis": {"title": {"text": "share of prompts"}, "tickformat": ".0%", "rangemode": "tozero"},
        },
    }


def models_figure(days: Sequence[ModelDay]) -> dict[str, Any]:
    """Prompts that match a known template, by day and model: where extraction goes."""
    sums: dict[str, int] = {}
    for one in days:
        sums[one.model] = sums.get(one.model, 0) + one.n_matched
    named = sorted(sums, key=lambda name: (-sums[name], name))[:MOST_MODELS]
    counts: dict[str, dict[str, int]] = {name: {} for name in (*named, _REST)[: len(sums)]}
    for one in days:
        own = counts[one.model if one.model in counts else _REST]
        own[_day(one.day)] = own.get(_day(one.day), 0) + one.n_matched
    return {
        "data": [
            {
                "type": "bar",
                "name": plotly_text(name),
                "x": list(own),
                "y": list(own.values()),
                "marker": {"color": color},
                "hovertemplate": "%{x|%d %b %Y}: %{y:,}",
            }
            for (name, own), color in zip(counts.items(), _MODEL_COLORS, strict=False)
        ],
        "layout": {
            "barmode": "stack",
            "xaxis": {"type": "date"},
            "yaxis": {"title": {"text": "prompts that match a template"}, "rangemode": "tozero"},
        },
    }


def path_figure(path: EvidencePath, log10_threshold: float) -> dict[str, Any]:
    """Evidence of an account over time, of each target and in all, against the threshold."""
    times = [moment_of(us).isoformat() for us in path.us]
    traces = [
        _line(TARGET_TITLES[target], times, [row[c] for row in path.log10_targets], f"--{target}", "solid", 1.5)
        for c, target in enumerate(TARGETS)
    ]
    layout = {"xaxis": {"type": "date"}, "yaxis": EVIDENCE_AXIS, **threshold_line(log10_threshold)}
    return {
        "data": [*traces, _line("all capabilities together", times, path.log10_e, "--text", "solid", 3)],
        "layout": layout,
    }


def growth_figure(uses: Sequence[MemberUse]) -> dict[str, Any]:
    """How many of a campaign's accounts had begun, over time."""
    first: dict[str, int] = {}
    for use in uses:
        first[use.account_id] = min(first.get(use.account_id, use.first_seen), use.first_seen)
    times = [moment_of(us).isoformat() for us in sorted(first.values())]
    line = _line("accounts that had begun", times, list(range(1, len(times) + 1)), "--flag", "solid", 3)
    axis = {"title": {"text": "accounts"}, "rangemode": "tozero"}
    return {
        "data": [line | {"line": line["line"] | {"shape": "hv"}}],
        "layout": {"xaxis": {"type": "date"}, "yaxis": axis},
    }


def network_figure(uses: Sequence[MemberUse], targets: Mapping[str, str | None]) -> dict[str, Any]:
    """Who matched what: the accounts that sent most on the left, the families that they matched on the right, each by
    its name, so that no line crosses a name."""
    sums: dict[str, int] = {}
    for use in uses:
        sums[use.account_id] = sums.get(use.account_id, 0) + use.n_prompts
    drawn = sorted(sums, key=lambda name: (-sums[name], name))[:MOST_DRAWN]
    families = sorted({use.family for use in uses if use.account_id in set(drawn)})
    left, right = _column(drawn, 0.0), _column(families, 1.0)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for use in uses:
        if use.account_id in left:
            (x0, y0), (x1, y1) = left[use.account_id], right[use.family]
            xs += [x0, x1, None]
            ys += [y0, y1, None]
    edges = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "hoverinfo": "skip", "showlegend": False}
    hidden = {"visible": False, "fixedrange": True}
    return {
        "data": [
            edges | {"line": {"color": "--line", "width": 1}},
            _nodes("accounts", left, "--muted", "circle", {name: f"{sums[name]:,} prompts" for name in drawn}),
            *(
                _nodes(
                    TARGET_TITLES.get(name, name),
                    {f: right[f] for f in families if _target(targets, f) == name},
                    f"--{name}" if name in TARGETS else "--muted",
                    "square" if name in TARGETS else "square-open",
                    {},
                )
                for name in (*TARGETS, _UNKNOWN)
                if any(_target(targets, f) == name for f in families)
            ),
        ],
        "layout": {"xaxis": {**hidden, "range": [-0.6, 1.6]}, "yaxis": {**hidden, "range": [-0.08, 1.08]}},
    }


def _target(targets: Mapping[str, str | None], family: str) -> str:
    """What a family is aimed at; `other` where its slots say."""
    found = targets.get(family, _UNKNOWN)
    return found if found is not None else TARGETS[-1]


def _nodes(
    name: str, places: Mapping[str, tuple[float, float]], color: str, symbol: str, more: Mapping[str, str]
) -> dict[str, Any]:
    is_left = symbol == "circle"
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [x for x, _ in places.values()],
        "y": [y for _, y in places.values()],
        "text": [plotly_text(visible(one, LONGEST_DRAWN)) for one in places],
        "textposition": "middle left" if is_left else "middle right",
        "customdata": [[plotly_text(one), more.get(one, "")] for one in places],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": 9 if is_left else 13},
    }


def _column(names: Sequence[str], x: float) -> dict[str, tuple[float, float]]:
    """Places of names from the top to the bottom of a column, evenly spaced; of one, in the middle."""
    n = len(names)
    return {name: (x, round(1 - (i + 0.5) / n, 4)) for i, name in enumerate(names)}


def _line(name: str, x: list[str], y: Sequence[float], color: str, dash: str, width: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) < 3 else "lines",
        "name": name,
        "x": x,
        "y": list(y),
        "line": {"color": color, "width": width, "dash": dash},
        "marker": {"color": color},
        "hovertemplate": "%{x|%d %b %Y, %H:%M}: %{y:.1f}",
    }


def _day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()
