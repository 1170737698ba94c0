"""The report card's sections on decisions: what was measured -> paragraphs, tables, pictures. Used by `card`.

`shown` holds one or two contenders, the default first and the best behind it: they are set side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import numpy as np

from training import card_plots, measures
from training.card_types import Block, Picture, Section, Table
from training.card_words import NONE, SHORT_NAMES, interval, number, percent_interval
from training.measures import LEAST_SET_ROWS, NOTHING, Estimate, Floats, Recall, SetKey, Slice
from training.prepare import LABELS
from training.targets import AIMS, WEAK, Measured, ahead, aimed, comparison, estimate, judged, rivals, said


def names_of(shown: Sequence[Measured]) -> tuple[str, ...]:
    return tuple(m.name for m in shown)


def targets_section(shown: Sequence[Measured], measured: Sequence[Measured]) -> Section:
    roles = ("default", "best")[: len(shown)]
    columns = [part for m, role in zip(shown, roles, strict=True) for part in (f"{m.name} ({role})", "reached")]
    rows = []
    for aim in AIMS:
        values = (aim.default, aim.best)[: len(shown)]
        wanted = " / ".join(dict.fromkeys(aimed(aim.figure, value) for value in values))
        cells = [
            cell
            for m, value in zip(shown, values, strict=True)
            for cell in (said(aim.figure, m.figures[aim.figure]), judged(aim.figure, m.figures[aim.figure], value))
        ]
        rows.append((str(aim.figure), wanted, *cells))
    verdicts = [cell for m in shown for cell in (NONE, ahead(m, measured))]
    rows.append(("all of these", "ahead of every baseline", *verdicts))
    table = Table(("figure", "target", *columns), tuple(rows), names=2 + len(columns))
    return Section("Targets", (table, *(comparison(m, baseline) for m in shown for baseline in rivals(measured))))


def capability_section(shown: Sequence[Measured]) -> Section:
    found = [measures.capability_quality(m.rows) for m in shown]
    first = shown[0].rows
    intro = (
        f"{len(first):,} prompts of {first['source'].nunique()} sources left out. Every source counts the same; in "
        "brackets, here and wherever sources are averaged, the 95 % bootstrap interval over sources."
    )
    rows = [("macro-F1", f"{len(first):,}", *(interval(f.macro_f1) for f in found))]
    for i, label in enumerate(LABELS):
        rows.append((f"F1 {label}", f"{found[0].by_label[i].n:,}", *(interval(f.by_label[i]) for f in found)))
    picture = Picture(
        "confusion",
        "Confusion: the share of prompts of each true label that is given each name",
        card_plots.confusion_plot(names_of(shown), [f.confusion for f in found]),
    )
    tables = [_confusion_table(m.name, f.confusion) for m, f in zip(shown, found, strict=True)]
    caption = "Confusion: of the prompts of a label (line), the share given each name (column). Lines sum to one."
    return Section(
        "Capability", (intro, Table(("figure", "n", *names_of(shown)), tuple(rows)), caption, *tables, picture)
    )


def _confusion_table(name: str, confusion: Floats) -> Table:
    short = [SHORT_NAMES[label] for label in LABELS]
    rows = [(label, *(number(value, 2) for value in row)) for label, row in zip(short, confusion, strict=True)]
    return Table((f"{name}: true", *short), tuple(rows))


def dataset_section(shown: Sequence[Measured]) -> Section:
    found = [measures.dataset_recalls(m.rows) for m in shown]
    keys = [key for key, recall in found[0].items() if recall.n >= LEAST_SET_ROWS]
    few = [key for key, recall in found[0].items() if recall.n < LEAST_SET_ROWS]
    weak = [_weak_sentence(m.name, sets) for m, sets in zip(shown, found, strict=True)]
    blocks: list[Block] = [
        "Share of a data set's prompts that are given its label, the lowest first; in brackets Wilson's 95 % interval.",
        *weak,
    ]
    if keys:
        blocks += [_recall_picture(shown, found, keys), _dataset_table(shown, found, keys)]
    if few:
        blocks += [f"Data sets with fewer than {LEAST_SET_ROWS} rows:", _dataset_table(shown, found, few)]
    return Section("Data sets", tuple(blocks))


def _recall_picture(
    shown: Sequence[Measured], found: Sequence[dict[SetKey, Estimate]], keys: Sequence[SetKey]
) -> Picture:
    series = [card_plots.Named(m.name, [f.get(k, NOTHING) for k in keys]) for m, f in zip(shown, found, strict=True)]
    named = [f"{key.part} ({SHORT_NAMES[key.label]})" for key in keys]
    return Picture("recall", "Recall of every data set with its 95 % interval", card_plots.recall_plot(named, series))


def _weak_sentence(name: str, found: dict[SetKey, Estimate]) -> str:
    weak = measures.weak_sets(found, WEAK)
    named = ", ".join(f"{key.part} {found[key].value:.3f}" for key in weak)
    listed = f": {named}" if weak else ""
    return f"{name}: {len(weak)} data sets of {LEAST_SET_ROWS} rows or more are under {WEAK}{listed}."


def _dataset_table(shown: Sequence[Measured], found: Sequence[dict[SetKey, Estimate]], keys: Sequence[SetKey]) -> Table:
    rows = [
        (key.part, key.label, f"{found[0][key].n:,}", *(interval(sets.get(key, NOTHING), 2) for sets in found))
        for key in keys
    ]
    return Table(("data set", "label", "n", *names_of(shown)), tuple(rows), names=2)


def gold_section(shown: Sequence[Measured]) -> Section:
    found = [measures.gold_quality(m.contender.labels) for m in shown]
    first = found[0]
    rows = (
        ("coding F1", f"{first.coding_f1.n:,}", *(interval(f.coding_f1) for f in found)),
        (
            "false agentic and planning alarms",
            f"{first.false_alarms.n:,}",
            *(percent_interval(f.false_alarms) for f in found),
        ),
        ("accuracy, four labels", f"{first.accuracy.n:,}", *(interval(f.accuracy) for f in found)),
    )
    intro = (
        "Organic prompts that a reader labelled and was sure of. False alarms: agentic reasoning or planning is named, "
        "and the reader named neither. Intervals: bootstrap over prompts for F1, Wilson's for shares."
    )
    return Section("Hand-labelled organic prompts", (intro, Table(("figure", "n", *names_of(shown)), rows)))


def slice_section(shown: Sequence[Measured]) -> Section:
    intro = (
        f"Macro-F1 over the labels that have at least {measures.LEAST_LABEL_ROWS} rows in the slice (how many stands "
        "under labels); prompts of other labels still count as mistakes. Every source counts the same within the "
        "slice, however few rows it has there; bootstrap samples that lack one of the "
        "labels are left out of the interval, and one source alone gives none."
    )
    main = [[measures.chinese_slice(m.rows), measures.short_slice(m.rows), measures.long_slice(m.rows)] for m in shown]
    languages = [measures.language_slices(m.rows) for m in shown]
    tenths = [measures.length_deciles(m.rows) for m in shown]
    series = [card_plots.Named(m.name, [s.macro_f1 for s in t]) for m, t in zip(shown, tenths, strict=True)]
    plot = card_plots.bar_plot([s.name for s in tenths[0]], series, "characters")
    return Section(
        "Languages and lengths",
        (
            intro,
            _slice_table("slice", shown, main),
            f"Languages with at least {measures.LEAST_LANGUAGE_ROWS} prompts:",
            _slice_table("language", shown, languages),
            "Tenths of the prompts by length:",
            _slice_table("characters", shown, tenths),
            Picture("lengths", "Macro-F1 of each tenth of the prompts by length", plot),
        ),
    )


def _slice_table(name: str, shown: Sequence[Measured], found: Sequence[Sequence[Slice]]) -> Table:
    others = [{s.name: s.macro_f1 for s in slices} for slices in found]
    rows = [
        (
            *(s.name, f"{s.macro_f1.n:,}", str(s.macro_f1.groups), str(s.labels)),
            *(interval(other.get(s.name, NOTHING)) for other in others),
        )
        for s in found[0]
    ]
    return Table((name, "n", "sources", "labels", *names_of(shown)), tuple(rows))


# --- extraction
# ----------------------------------------------------------------------------------------------------------


def extraction_section(shown: Sequence[Measured]) -> Section:
    points = "; ".join(f"{p}: {100 * o:g} % and {100 * b:g} %" for p, o, b in measures.OPERATING_POINTS)
    intro = (
        "Share of generation prompts found, families counting the same, with the bootstrap interval over families. The "
        f"threshold lets through at most a given share of organic prompts and of honest applications ({points})."
    )
    rows = [
        (f"{title}, {point}", *(_families(estimate(read(m), point)) for m in shown))
        for title, read in _EXTRACTION
        for point, _, _ in measures.OPERATING_POINTS
    ]
    blocks: list[Block] = [intro, Table(("recall", *names_of(shown)), tuple(rows))]
    blocks += [table for title, read in _EXTRACTION for table in _family_tables(shown, title, read)]
    return Section("Extraction", tuple(blocks))


_EXTRACTION: tuple[tuple[str, Callable[[Measured], tuple[Recall, ...]]], ...] = (
    ("families left out", lambda measured: measured.unseen),
    ("known families, unseen payloads", lambda measured: measured.known),
)


def _families(found: Estimate) -> str:
    return NONE if isnan(found.value) else f"{interval(found)}, {found.groups} families"


def _family_tables(
    shown: Sequence[Measured], title: str, read: Callable[[Measured], tuple[Recall, ...]]
) -> list[Block]:
    """By family, the lowest first; those found whole at every point are only counted."""
    first = read(shown[0])
    if not first:
        return []
    columns = [(f"{m.name}: {r.point}", r.by_family) for m in shown for r in read(m)]
    order = first[0].by_family.sort_values(kind="stable").index
    partly = [name for name in order if any(family.get(name, 1) < 1 for _, family in columns)]
    rows = [(str(name), *(number(family.get(name, np.nan), 2) for _, family in columns)) for name in partly]
    caption = f"By family, {title}; {len(order) - len(partly)} more are found whole at every point:"
    return [caption, Table(("family", *(name for name, _ in columns)), tuple(rows))] if rows else []
