"""The account benchmark in print: its table, and a fragment of the report card with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.account_contest import FALSE_RATE, FALSE_SHARE, NARROW, OURS, Contest, Standing
from tests.benchmarks.account_rivals import LEAST_WINDOW
from tests.benchmarks.account_table import MAIN_PROMPTS, POWER_AIMS, Line, lines
from tests.benchmarks.account_worlds import Cell

if TYPE_CHECKING:
    from tests.benchmarks.account_pool import Pool
    from tests.benchmarks.accounts import Results
    from training.card_types import Table

NAME = "accounts"


def print_report(pool: Pool, results: Results) -> None:
    from training.card_words import table_lines

    for table in (_lines_table(lines(pool, results)), *_contest_tables(results)):
        print("\n" + "\n".join(table_lines(table)), flush=True)


def write_report(pool: Pool, results: Results, folder: Path) -> None:
    """`accounts.md` and its pictures, into the folder of the report card's pictures."""
    from training.card_types import Picture, Section
    from training.card_words import to_markdown

    folder.mkdir(parents=True, exist_ok=True)
    pictures = [
        Picture(f"{NAME}-power", "Power by extraction share, the product and rivals", power_plot(results)),
        Picture(f"{NAME}-prompts", "Prompts that an account has sent when it is flagged", prompts_plot(results)),
        Picture(f"{NAME}-false", "Benign accounts flagged at each method's own threshold", false_plot(results)),
    ]
    for picture in pictures:
        (folder / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
    tables = _contest_tables(results)
    sections = [
        Section("What was aimed at", (*_notes(pool, results), _lines_table(lines(pool, results)), pictures[1])),
        Section("Rivals on the same worlds", (_contest_note(results), *tables, pictures[0], pictures[2])),
    ]
    preface = ["Printed by `python -m tests.benchmarks.accounts --data DIR --out training/card`."]
    (folder / f"{NAME}.md").write_text(to_markdown("Accounts and campaigns", preface, sections, "."), encoding="utf-8")


def _notes(pool: Pool, results: Results) -> tuple[str, ...]:
    worlds = len(next(iter(results.outcomes.values())))
    benign = next(iter(results.outcomes.values()))[0].n_benign
    return (
        f"{worlds} worlds of {benign:,} benign accounts of the simulator's kinds and 20 bad ones in up to four"
        f" campaigns, made of {len(pool.facts):,} texts: repositories, data sets, people and families that the bundle"
        " has never seen, and payloads that it has not seen of families that it knows. The 40 applications"
        " are those that the benchmark of known templates leaves out too, so its makers had seen figures on them. Every"
        " event is labelled by the"
        " product's pipeline, every world decided by its kernel; all accounts are registered ones.",
        "A unit is a distinct prompt. Distinct texts are few, so accounts share them, though no account sends one"
        " twice unless it has run out, as applications with more than 140 prompts do; and campaigns draw from three"
        " families or more of one aim, at 1,200 prompts from all.",
        "In brackets 95 % intervals (Clopper and Pearson) over accounts. Capabilities are judged where two thirds of"
        " an account's extraction ask for one thing: what the family aims at, or for techniques the label of a prompt"
        " with the same payload. Campaigns are judged by pairs of accounts.",
    )


def _contest_note(results: Results) -> str:
    n = results.contest.n if results.contest is not None else 0
    return (
        f"Own implementations, on {MAIN_PROMPTS} prompts an account. Power is of {n} bad accounts of worlds on which"
        f" no threshold was set: at most a share {FALSE_SHARE:g} of the flags of the other half of the worlds is false;"
        f" a share {FALSE_RATE:g} of their benign accounts is flagged; none is. Last: benign accounts of at least"
        f" {LEAST_WINDOW} prompts flagged at the threshold that the method brings along: for MMD, 0.3 % of windows of"
        " pooled benign traffic; for PRADA, W < 0.9; a mean probability of 0.5; Wald's at 1 %; ours, the verdict."
        " No honest sender here matches as often as m1 allows. Of accounts of 400 prompts that do, the last column says"
        " how many are flagged: SPRT's 1 % is a share of honest accounts, of which there are many, and not of flags."
    )


def _lines_table(found: Sequence[Line]) -> Table:
    from training.card_types import Table

    rows = tuple((line.measure, line.target, line.reached, line.verdict) for line in found)
    return Table(("measure", "target", "reached", ""), rows, names=4)


def _contest_tables(results: Results) -> list[Table]:
    from training.card_types import Table
    from training.card_words import number

    contest = results.contest
    if contest is None:
        return []
    shares = tuple(f"{cell.share:.0%}" for cell in contest.cells)
    rules = {
        f"≤ {FALSE_SHARE:.0%} of flags false": "by_share",
        f"{FALSE_RATE:.1%} of benign": "by_rate",
        "none": "worst",
    }
    rows = [
        (standing.name, rule, *(f"{power:.2f}" for power in getattr(standing, name)), _realised(standing, name))
        for rule, name in rules.items()
        for standing in contest.standings
    ]
    power = Table(("method", "benign flagged", *shares, "realised false share"), tuple(rows), names=2)
    own = [(s.name, *(f"{s.own[kind]:.1%}" for kind in NARROW), number(s.edge)) for s in contest.standings if s.own]
    return [power, Table(("flagged at the own threshold", *NARROW, "honest at m1, as a share"), tuple(own))]


def _realised(standing: Standing, rule: str) -> str:
    return f"{standing.realised:.1%}" if rule == "by_share" else ""


# --- pictures ---------------------------------------------------------------------------------------------------------


def power_plot(results: Results) -> str:
    """Power against the share of extraction, at equal realised error."""
    from training.card_plots import COLOURS, INK, MUTED, panels, svg_of

    contest = _contest(results)
    figure, (panel,) = panels(7.2, 4.0, [""])
    places = np.arange(len(contest.cells))
    marks = ("o", "s", "^", "v", "D", "P", "X", "*")
    for i, standing in enumerate(contest.standings):
        ours = standing.name == OURS
        colour, style = (COLOURS[0], "solid") if ours else (MUTED, (0, (2 + i, 2)))
        panel.plot(
            places, standing.by_share, marker=marks[i], color=colour, linestyle=style, linewidth=2 if ours else 1,
            markersize=5, label=standing.name,
        )  # fmt: skip
    panel.set(xticks=places, ylim=(-0.03, 1.03))
    panel.set_xticklabels([f"{cell.share:.0%}" for cell in contest.cells])
    panel.set_xlabel(f"extraction share of {MAIN_PROMPTS} prompts", color=MUTED, fontsize=9)
    panel.set_ylabel("power, at most 1 % of flags false", color=MUTED, fontsize=9)
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3, frameon=False, fontsize=8, labelcolor=INK)
    return svg_of(figure, f"{NAME}-power")


def prompts_plot(results: Results) -> str:
    """Quartiles of the prompts to flag, of accounts of 1,200 prompts, by extraction share."""
    from training.card_plots import COLOURS, INK, MUTED, panels, svg_of

    figure, (panel,) = panels(7.2, 3.2, [""])
    for place, cell in enumerate(Cell(share, 1200) for share in POWER_AIMS):
        found = np.concatenate([outcome.prompts for outcome in results.outcomes[cell]])
        low, middle, high = np.quantile(found, (0.25, 0.5, 0.75))
        panel.plot([place, place], [low, high], color=COLOURS[0], linewidth=6, alpha=0.3)
        panel.plot([place], [middle], "o", color=COLOURS[0], markersize=6)
        panel.annotate(f"{middle:g}", (place, middle), (9, -3), textcoords="offset points", fontsize=9, color=INK)
    panel.set(yscale="log", xticks=range(len(POWER_AIMS)), xlim=(-0.5, len(POWER_AIMS) - 0.3))
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    panel.set_xticklabels([f"{share:.0%}" for share in POWER_AIMS])
    panel.set_xlabel("extraction share", color=MUTED, fontsize=9)
    panel.set_ylabel("prompts to flag, quartiles", color=MUTED, fontsize=9)
    return svg_of(figure, f"{NAME}-prompts")


def false_plot(results: Results) -> str:
    """Bars: benign accounts flagged at each method's own threshold, a panel for each kind."""
    from training.card_plots import COLOURS, INK, MUTED, panels, svg_of

    own = [standing for standing in _contest(results).standings if standing.own]
    figure, axes = panels(8.2, 2.6, list(NARROW), share=True)
    for panel, kind in zip(axes, NARROW, strict=True):
        for place, standing in enumerate(own):
            value = standing.own[kind]
            panel.barh(place, value, color=COLOURS[0] if standing.name == OURS else MUTED, alpha=0.75)
            panel.annotate(f"{value:.1%}", (value, place), (3, -3), textcoords="offset points", fontsize=8, color=INK)
        panel.set(xlim=(0, 1.25), ylim=(len(own) - 0.4, -0.6), yticks=range(len(own)))
        panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        panel.grid(visible=False, axis="y")
    axes[0].set_yticklabels([standing.name for standing in own], fontsize=8.5)
    return svg_of(figure, f"{NAME}-false")


def _contest(results: Results) -> Contest:
    assert results.contest is not None
    return results.contest
