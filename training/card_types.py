"""What goes into a report card, and what a card is made of: sections of paragraphs, tables and pictures, which `card`
writes as Markdown and as HTML.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Contender:
    """Something that labels prompts, with what it said of rows left out of what it learnt.

    `labels`: sources, families and applications left out; one row a text, columns `role`, `label`, `source`, `part`,
    `lang`, `length` (characters), `organic`, `has_template`, `gold`, `gold_sure`, `train_only`, `group` (what was left
    out together), `capability`, `p_coding`, `p_agentic_reasoning`, `p_long_horizon_planning`, `p_extraction` (all NaN:
    it tells none).
    `known`: the same for unseen payloads of known families and honest rows, None if not measured.
    `microseconds`: cost of one prompt of 500 bytes on one core, None if not measured.
    `baseline`: something to be ahead of, no part of the product.
    """

    name: str
    labels: pd.DataFrame
    known: pd.DataFrame | None
    microseconds: float | None
    baseline: bool = False


@dataclass(frozen=True)
class CardFacts:
    """How the card came about. `command` printed it, in `seconds`; `notes` are whole sentences.

    `learning_curve`: columns `share` (of the sources learnt from, 0 to 1), `macro_f1`, `contender`.
    `strays`: columns `source`, `read`, `stray`: prompts that readers read, and found under a label that is not theirs.
    """

    title: str
    command: str
    seed: int
    seconds: float
    machine: str
    notes: tuple[str, ...] = ()
    learning_curve: pd.DataFrame | None = None
    strays: pd.DataFrame | None = None


@dataclass(frozen=True)
class Table:
    """Cells as they are printed; the first `names` columns are words and stand left, the others right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


@dataclass(frozen=True)
class Picture:
    """A whole SVG file; `alt` says what it shows."""

    name: str
    alt: str
    svg: str = field(repr=False)


Block = str | Table | Picture


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]
