"""Figures as words, and a card as Markdown that is readable as plain text. Used by `card_sections` and `card`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from classifier.taxonomy import read_taxonomy
from training.card_types import Block, Picture, Section, Table
from training.measures import Estimate

NONE = "–"
_SHORTER = {"agentic_reasoning": "agentic", "long_horizon_planning": "planning"}
SHORT_NAMES = {one.id: _SHORTER.get(one.id, one.title) for one in read_taxonomy()}


def number(value: float, digits: int = 3) -> str:
    return NONE if isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    return NONE if isnan(value) else f"{100 * value:.{digits}f} %"


def interval(found: Estimate, digits: int = 3) -> str:
    """`0.664 (0.612 to 0.706)`; without the bracket where there is no interval."""
    if isnan(found.low):
        return number(found.value, digits)
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def percent_interval(found: Estimate) -> str:
    """`2.9 % (2.1 to 4.0)`."""
    if isnan(found.low):
        return percent(found.value)
    return f"{percent(found.value)} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def to_markdown(title: str, preface: Sequence[str], sections: Sequence[Section], pictures: str) -> str:
    """The card; `pictures` is the folder of the SVG files, relative to the card."""
    parts = [f"# {title}", *preface]
    for section in sections:
        parts += [f"## {section.title}", *(_block(block, pictures) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, pictures: str) -> str:
    match block:
        case Table():
            return "\n".join(table_lines(block))
        case Picture():
            return f"![{block.alt}]({pictures}/{block.name}.svg)"
        case str():
            return block


def table_lines(table: Table) -> Iterator[str]:
    """Columns are padded to one width."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(table.header))]
    left = [i < table.names for i in range(len(widths))]
    rule = ["-" * w if words else "-" * (w - 1) + ":" for w, words in zip(widths, left, strict=True)]
    for row in (cells[0], rule, *cells[1:]):
        aligned = [c.ljust(w) if words else c.rjust(w) for c, w, words in zip(row, widths, left, strict=True)]
        yield f"| {' | '.join(aligned)} |"
