"""The report card as two documents: contenders -> Markdown beside a folder of SVG pictures, and one HTML page that
needs nothing else. Last step of `evaluate`.

    Contender --targets.measure--> Measured --card_sections ...--> Section --to_markdown, render--> files
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from classifier.errors import OutputError
from training.card_comparison import comparison_sections
from training.card_plots import inline
from training.card_probabilities import (
    abstention_section,
    calibration_section,
    conformal_section,
    ranking_section,
)
from training.card_sections import (
    capability_section,
    dataset_section,
    extraction_section,
    gold_section,
    slice_section,
    targets_section,
)
from training.card_types import CardFacts, Contender, Picture, Section, Table
from training.card_words import duration, to_markdown
from training.targets import Measured, best_of, measure


def write_card(contenders: Sequence[Contender], facts: CardFacts, markdown: Path, html: Path) -> None:
    """Write the card; the first contender is the product's default. Pictures go to the folder beside the Markdown that
    has its name in lower case (`CARD.md`: `card/*.svg`). Every file is whole or not there.

    Raises OutputError if something cannot be written.
    """
    measured = [measure(contender) for contender in contenders]
    preface, found = preface_of(measured, facts), sections(measured, facts)
    folder = markdown.with_name(markdown.stem.lower())
    for picture in _pictures(found):
        _write(folder / f"{picture.name}.svg", picture.svg)
    _write(markdown, to_markdown(facts.title, preface, found, folder.name))
    _write(html, render(facts.title, preface, found))


def shown_of(measured: Sequence[Measured]) -> list[Measured]:
    """The default and the best behind it; one, if the default is the best."""
    best = best_of(measured)
    return [measured[0]] if best is measured[0] else [measured[0], best]


def preface_of(measured: Sequence[Measured], facts: CardFacts) -> list[str]:
    shown = shown_of(measured)
    best = (
        f"the best is {shown[1].name}: of the contenders that are no baselines, it has the highest macro-F1"
        if len(shown) > 1
        else "no other contender but a baseline has a higher macro-F1"
    )
    return [
        f"Printed by `{facts.command}`, seed {facts.seed}, in {duration(facts.seconds)} on {facts.machine}.",
        "Everything is measured on sources, families and applications that were left out of all that was learnt, but "
        "for known families, of which payloads were left out.",
        f"The product's default is {shown[0].name}; {best}, on the rows of this card.",
    ]


def sections(measured: Sequence[Measured], facts: CardFacts) -> list[Section]:
    """In the card's order: what was aimed at, each measure, all contenders, how the card came about."""
    shown = shown_of(measured)
    conformal = conformal_section(shown)
    return [
        targets_section(shown, measured),
        capability_section(shown),
        dataset_section(shown),
        gold_section(shown),
        slice_section(shown),
        calibration_section(shown),
        ranking_section(shown),
        abstention_section(shown),
        *([conformal] if conformal is not None else []),
        extraction_section(shown),
        *comparison_sections(measured, facts),
    ]


def render(title: str, preface: Sequence[str], found: Sequence[Section]) -> str:
    """The page. Every string is escaped, but for `code` between backticks and the pictures, which were drawn here."""
    environment = Environment(
        loader=DictLoader({"card": _template("card.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "inline": lambda svg: Markup(inline(svg)), "anchor": _anchor}
    environment.tests |= {"table": lambda block: isinstance(block, Table), "picture": lambda b: isinstance(b, Picture)}
    return environment.get_template("card").render(
        title=title, preface=preface, sections=found, css=Markup(_template("card.css"))
    )


def _template(name: str) -> str:
    return files("training").joinpath("templates", name).read_text(encoding="utf-8")


def _prose(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(Markup.escape(text))))


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _pictures(found: Sequence[Section]) -> list[Picture]:
    return [block for section in found for block in section.blocks if isinstance(block, Picture)]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror if error.strerror is not None else "it is no writable folder"
        raise OutputError(f"{path}: cannot be written ({reason}); check permissions and space.") from error
