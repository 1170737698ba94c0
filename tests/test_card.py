"""The report card: targets in words, tables and pictures, and two whole documents of a small made-up evaluation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from classifier.errors import OutputError
from tests.test_measures import LABELS, random_rows, rows_of

if TYPE_CHECKING:
    import pandas as pd

    from training.card_types import CardFacts, Contender

pytestmark = pytest.mark.training

HOSTILE = "<script>alert(1)</script>|"
SECTIONS = [
    *("Targets", "Capability", "Data sets", "Hand-labelled organic prompts", "Languages and lengths", "Calibration"),
    *(
        "Recall at low false-positive rates",
        "Abstention",
        "Conformal sets",
        "Extraction",
        "All contenders",
        "Cost and quality",
    ),
    *("Learning curve", "Stray labels", "Notes"),
]
MOST_PICTURE_BYTES = 60_000
WORDS = {
    **{"confusion": "planning", "cost": "cascade 0.8", "lengths": "characters", "ranking": "false-positive rate"},
    **{"recall": f"coding{HOSTILE} (coding)", "reliability": "probability said"},
}


def evaluation(seed: int, right: float) -> pd.DataFrame:
    """600 prompts, 150 of them read by hand, 80 of extraction, 60 of applications; `right`: share named rightly."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    prompts = random_rows(600, seed)
    kept = rng.random(600) < right
    prompts["capability"] = prompts["label"].where(kept, prompts["capability"])
    for name in LABELS[:3]:
        prompts[f"p_{name}"] = (prompts["capability"] == name) * 0.6 + rng.random(600) * 0.3
    prompts["part"] = prompts["label"] + HOSTILE
    prompts["group"] = rng.integers(2, size=600)
    prompts["lang"] = np.where(rng.random(600) < 0.3, "zh", "en")
    prompts["length"] = np.exp(rng.normal(5.5, 1.8, 600)).astype(int) + 1
    read = prompts.head(150).assign(label="", gold=prompts["label"].head(150), gold_sure=1.0, organic=True)
    families = [f"family {i % 4}" for i in range(80)]
    extraction = rows_of(80, role="extraction", part=families, has_template=True, p_extraction=rng.random(80))
    benign = rows_of(60, role="benign", label="", part=[f"app {i % 3}" for i in range(60)])
    return pd.concat([prompts, read, extraction, benign], ignore_index=True)


def contenders() -> list[Contender]:
    from training.card_types import Contender

    table = evaluation(0, 0.2)
    return [
        Contender("static", table, table, 40.0),
        Contender("cascade 0.8", evaluation(0, 0.8), None, 900.0),
        Contender("TF-IDF + LR", evaluation(0, 0.0).assign(p_extraction=np.nan), None, None, baseline=True),
    ]


def facts() -> CardFacts:
    import pandas as pd

    from training.card_types import CardFacts

    return CardFacts(
        title="Report card",
        command="probewatch evaluate --data DIR",
        seed=0,
        seconds=2400,
        machine="two cores",
        notes=(f"A note with {HOSTILE}.",),
        learning_curve=pd.DataFrame({"share": [0.5, 1.0], "macro_f1": [0.6, 0.7], "contender": ["static"] * 2}),
        strays=pd.DataFrame({"source": ["a", "b"], "read": [10, 20], "stray": [0, 3]}),
    )


# --- words


def test_a_table_is_padded_to_be_read_as_plain_text() -> None:
    from training.card_types import Table
    from training.card_words import table_lines

    assert list(table_lines(Table(("name", "n"), (("a|b", "1,200"), ("longer name", "3"))))) == [
        "| name        |     n |",
        "| ----------- | ----: |",
        "| a\\|b        | 1,200 |",
        "| longer name |     3 |",
    ]


def test_numbers_as_words() -> None:
    from training.card_words import duration, interval, number, percent_interval
    from training.measures import NOTHING, Estimate

    found = Estimate(0.0291, 0.0208, 0.0404, 100, 100)
    assert (interval(found), percent_interval(found)) == ("0.029 (0.021 to 0.040)", "2.9 % (2.1 to 4.0)")
    assert (interval(replace(found, low=np.nan)), interval(NOTHING), number(0.5, 1)) == ("0.029", "–", "0.5")
    assert [duration(s) for s in (42, 2400, 9000)] == ["42 seconds", "40 minutes", "2.5 hours"]


@pytest.mark.parametrize(
    ("figure", "found", "aim", "words"),
    [
        ("MACRO_F1", (0.83, 0.81, 0.85), 0.8, "met"),
        ("MACRO_F1", (0.83, 0.78, 0.85), 0.8, "met, but the interval reaches past the target"),
        ("MACRO_F1", (0.78, 0.74, 0.79), 0.8, "missed by 0.020"),
        ("MACRO_F1", (0.78, 0.74, 0.82), 0.8, "missed by 0.020; the interval includes the target"),
        ("MACRO_F1", (0.7999, np.nan, np.nan), 0.8, "missed by less than 0.001"),
        ("MACRO_F1", (np.nan, np.nan, np.nan), 0.8, "not measured"),
        ("FALSE_ALARMS", (0.3, 0.27, 0.33), 0.02, "missed by 28.0 points"),
        ("FALSE_ALARMS", (0.01, 0.0, 0.015), 0.02, "met"),
        ("WEAK_SETS", (19, np.nan, np.nan), 0, "missed by 19"),
        ("WEAK_SETS", (0, np.nan, np.nan), 0, "met"),
        ("ECE_CODING", (0.05, np.nan, np.nan), 0.05, "met"),
    ],
)
def test_a_target_is_judged_in_words(figure: str, found: tuple[float, float, float], aim: float, words: str) -> None:
    from training.measures import Estimate
    from training.targets import Figure, judged

    assert judged(Figure[figure], Estimate(*found, n=10, groups=10), aim) == words


def test_every_figure_has_its_target() -> None:
    from training.targets import AIMS, Figure

    assert [aim.figure for aim in AIMS] == list(Figure)


def test_ahead_of_a_baseline_means_better_on_all_that_it_has() -> None:
    from training.measures import NOTHING, Estimate
    from training.targets import Figure, ahead, comparison, measure, not_ahead

    measured = [measure(contender) for contender in contenders()]
    plain = {figure: Estimate(0.5, np.nan, np.nan, 1, 1) for figure in Figure}
    worse = {f: Estimate(0.6 if "error" in f or "alarms" in f or "sets" in f else 0.4, 0, 1, 1, 1) for f in Figure}
    ours, baseline = replace(measured[0], figures=plain), replace(measured[2], figures=worse)
    assert (not_ahead(ours, baseline), ahead(ours, [ours, baseline]), ahead(ours, [ours])) == (
        [],
        "met",
        "not measured",
    )
    assert comparison(ours, baseline) == "static against TF-IDF + LR: ahead on 13 of 13 figures."

    level = replace(baseline, figures={**worse, Figure.CHINESE: plain[Figure.CHINESE], Figure.UNSEEN_LOOSE: NOTHING})
    assert ahead(ours, [ours, level]) == "not met"
    assert comparison(ours, level) == (
        "static against TF-IDF + LR: ahead on 11 of 12 figures; level or behind on Chinese: macro-F1."
    )


def test_what_gives_no_extraction_has_none() -> None:
    from training.targets import Figure, best_of, measure

    static, cascade, baseline = (measure(contender) for contender in contenders())
    assert np.isnan(baseline.figures[Figure.UNSEEN_LOOSE].value)
    assert np.isnan(cascade.figures[Figure.KNOWN_STRICT].value)
    assert static.figures[Figure.UNSEEN_LOOSE].groups == 4
    assert best_of([baseline, static, cascade]) is cascade


# --- documents


class _Page(HTMLParser):
    """Headings, cells, element names and what is loaded from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = {name: value for name, value in attrs if value is not None}
        self.ids += [found["id"]] if "id" in found else []
        links = [found[name] for name in ("src", "href", "xlink:href") if name in found]
        self.loads += [link for link in links if not link.startswith("#")]


def test_the_card_as_markdown_and_as_one_page(tmp_path: Path) -> None:
    from training.card import write_card
    from training.targets import Figure, measure, said

    given = contenders()
    write_card(given, facts(), tmp_path / "CARD.md", tmp_path / "card.html")
    card, page = (tmp_path / "CARD.md").read_text("utf-8"), (tmp_path / "card.html").read_text("utf-8")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert "in 40 minutes on two cores" in card
    macro = said(Figure.MACRO_F1, measure(given[0]).figures[Figure.MACRO_F1])
    assert re.search(rf"\| macro-F1 +\| at least 0.80 / at least 0.85 +\| {re.escape(macro)} ", card) is not None
    assert macro in page

    linked = re.findall(r"!\[[^]]+]\((card/\w+\.svg)\)", card)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == sorted(["CARD.md", "card.html", *linked])

    parsed = _Page(page)
    assert parsed.loads == []
    assert "script" not in parsed.tags
    assert len(parsed.ids) == len(set(parsed.ids))
    assert page.count("<svg") == len(linked)


def test_pictures_are_small_whole_and_the_same_each_time(tmp_path: Path) -> None:
    from training.card import write_card

    for name in ("one", "two"):
        write_card(contenders(), facts(), tmp_path / name / "CARD.md", tmp_path / name / "card.html")
    ones, twos = (sorted((tmp_path / name).rglob("*.*")) for name in ("one", "two"))
    assert [path.read_bytes() for path in ones] == [path.read_bytes() for path in twos]
    pictures = [path for path in ones if path.suffix == ".svg"]
    assert [path.stem for path in pictures] == sorted(WORDS)
    for path in pictures:
        assert path.stat().st_size < MOST_PICTURE_BYTES
        texts = [node.text for node in ET.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")]
        assert WORDS[path.stem] in texts


def test_a_page_takes_the_colours_of_its_reader() -> None:
    from training.card_plots import PAGE_COLOURS, Point, cost_plot, inline
    from training.measures import Estimate

    svg = cost_plot([Point("a & b", 10, Estimate(0.5, 0.4, 0.6, 9, 9), baseline=False)])
    piece = inline(svg)
    assert piece.startswith("<svg")
    assert "a &amp; b" in piece
    assert "var(--first)" in piece
    assert not any(colour in piece for colour in PAGE_COLOURS)


def test_one_contender_alone_makes_a_card(tmp_path: Path) -> None:
    from training.card import write_card

    table = evaluation(0, 0.0).assign(p_extraction=np.nan, part="small").head(90)
    alone = replace(contenders()[2], labels=table, baseline=False)
    bare = replace(facts(), notes=(), learning_curve=None, strays=None)
    write_card([alone], bare, tmp_path / "alone.md", tmp_path / "alone.html")
    card = (tmp_path / "alone.md").read_text("utf-8")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS[:11]
    assert "extraction, unseen families: loose recall" in card
    assert "not measured" in card
    assert "(alone/recall.svg)" not in card  # no data set has a hundred rows


def test_a_card_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    from training.card import write_card

    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_card(contenders()[:1], facts(), tmp_path / "file" / "CARD.md", tmp_path / "card.html")
