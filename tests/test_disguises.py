"""Known templates are found under every disguise that a model would see through, and named where they stand."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.disguises import EXACT, LOSSY, Disguise
from tests.test_parity import events_of, pipeline, sample

ENCODED = {"in_base64", "in_hex", "in_url"}
TRACELESS = ENCODED | {"homoglyphs", "zero_width", "full_width", "upper_case", "mixed_case", "whitespace", "in_rot13"}


@cache
def uses() -> tuple[list[str], list[str]]:
    """Prompts of the sample's campaigns, one of each template, and their families."""
    rows = pipeline().label(sample()).labels.select(["template_id", "template_family", "coverage"]).to_pylist()
    found: dict[str, tuple[str, str]] = {}
    for row, prompt in zip(rows, sample()["prompt"].to_pylist(), strict=True):
        if row["template_id"] is not None and row["coverage"] > 0.9:
            found.setdefault(row["template_id"], (prompt, row["template_family"]))
    return [prompt for prompt, _ in found.values()], [family for _, family in found.values()]


def disguised(disguise: Disguise) -> list[str]:
    rng = np.random.default_rng(0)
    return [disguise(prompt, rng) for prompt in uses()[0]]


def test_there_are_templates_to_disguise() -> None:
    assert len(set(uses()[1])) >= 2


@pytest.mark.parametrize("name", [*EXACT, "typos", "dropped_words"])
def test_a_known_template_is_found_under_a_disguise(name: str) -> None:
    labels = pipeline().label(events_of(disguised({**EXACT, **LOSSY}[name]))).labels
    assert labels["template_family"].to_pylist() == uses()[1]


@pytest.mark.parametrize("name", sorted(TRACELESS))
def test_a_disguise_makes_no_new_unit_and_no_other_probability(name: str) -> None:
    rows = [i for i, prompt in enumerate(uses()[0]) if "<" not in prompt]  # a disguised tag is no tag
    plain = pipeline().label(events_of([uses()[0][i] for i in rows]))
    other = pipeline().label(events_of([disguised(EXACT[name])[i] for i in rows]))
    for column in ("unit", "scaffolds", "p_coding", "p_extraction", "coverage"):
        assert other.labels[column].to_pylist() == plain.labels[column].to_pylist()


@pytest.mark.parametrize("name", sorted(ENCODED))
def test_the_span_of_what_is_encoded_is_the_encoded_run(name: str) -> None:
    prompts = [f"Please follow this: {text} Thank you" for text in disguised(EXACT[name])]
    labels = pipeline().label(events_of(prompts)).labels
    for prompt, start, end in zip(
        prompts, labels["match_start"].to_pylist(), labels["match_end"].to_pylist(), strict=True
    ):
        assert (start, end) == (len("Please follow this: "), len(prompt) - len(" Thank you"))


def test_what_stands_between_paragraphs_of_padding_is_named_where_it_stands() -> None:
    prompts = disguised(EXACT["padding"])
    labels = pipeline().label(events_of(prompts)).labels
    for plain, prompt, start, end in zip(
        uses()[0], prompts, labels["match_start"].to_pylist(), labels["match_end"].to_pylist(), strict=True
    ):
        head = prompt.index(plain)
        assert head <= start < end <= head + len(f"{plain}\n\nThe")  # a shingle may take in a word that follows
