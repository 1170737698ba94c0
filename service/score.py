"""One prompt: labelled by the same path as millions, and said in JSON or in words. Used by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from classifier.errors import InputError
from classifier.labeler import LEAST_LETTERS
from classifier.reveal import reveal
from classifier.types import CAPABILITIES, EVENT_SCHEMA
from service.fields import BadRecordError, prompt_text
from service.report_words import percent, title_of

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

_BAR = 20
_NEAR = 0.5  # cosine below which a signature is like a prompt in nothing but language
_WORD_BYTES = 2.25
"""Bytes a token below which a text in ASCII is hardly words: keyboard noise has 1.6 to 2.2, of the sample's prompts all
but 3 in 1,000 have more."""


def score(prompt: str, pipeline: Pipeline) -> dict[str, Any]:
    """What `/v1/score` says of a prompt under "prompt", with `start` and `end` of a match in characters.

    Raises:
        InputError: the prompt is empty or too long.
    """
    try:
        text = prompt_text("the prompt", prompt)
    except BadRecordError as bad:
        raise InputError(f"{str(bad)[0].upper()}{str(bad)[1:]}.") from None
    event = {"event_id": "prompt", "account_id": "prompt", "timestamp": datetime.now(UTC), "prompt": text}
    row = pipeline.label(pa.RecordBatch.from_pylist([event], EVENT_SCHEMA)).labels.to_pylist()[0]
    return {
        "capability": row["capability"],
        "probabilities": {name: _short(row[f"p_{name}"]) for name in CAPABILITIES},
        "p_extraction": _short(row["p_extraction"]),
        "template": _template(row) if row["template_id"] is not None else None,
        "nearest": _nearest(text, pipeline),
        "benign_app": row["benign_app"],
        "caveat": _caveat(text, pipeline) if row["template_id"] is None else None,
    }


def nearest_signatures(text: str, pipeline: Pipeline, n: int) -> list[dict[str, Any]]:
    """The n signatures whose vectors are nearest to a window of the prompt, nearest first; fewer where fewer have any.

    For an analyst who asks what a reworded prompt is like. A cosine alone is never a match.
    """
    encoded = pipeline.labeler.read([reveal(text).text]).encoded
    similarities, owners = pipeline.labeler.templates.vectors.nearest(encoded.windows, 2 * n)  # it has up to two each
    best: dict[int, float] = {}
    for owner, similarity in zip(owners.ravel().tolist(), similarities.ravel().tolist(), strict=True):
        if owner >= 0:
            best[owner] = max(similarity, best.get(owner, -1.0))
    signatures = pipeline.labeler.templates.signatures
    ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
    facts = [(signatures[owner].facts, similarity) for owner, similarity in ranked]
    return [{"id": one.id, "tier": one.tier.value, "similarity": _short(value)} for one, value in facts]


def _caveat(text: str, pipeline: Pipeline) -> str | None:
    """Why the probabilities say little, in one sentence; None if nothing speaks against them."""
    reading = pipeline.labeler.read([reveal(text).text])
    normal = reading.normal[0]
    if sum(map(str.isalpha, normal.decode())) < LEAST_LETTERS:
        return (
            f"Fewer than {LEAST_LETTERS} letters are too few to tell what is asked for: the probabilities are a guess."
        )
    if normal.isascii() and len(normal) < _WORD_BYTES * len(reading.encoded.tokens.ids):
        return "Hardly any of it is in words that the model has learnt: the probabilities are a guess."
    return None


def _nearest(text: str, pipeline: Pipeline) -> dict[str, Any] | None:
    return next(iter(nearest_signatures(text, pipeline, 1)), None)


def _template(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["template_id"],
        "family": row["template_family"],
        "technique": row["technique"],
        "similarity": _short(row["similarity"]),
        "coverage": _short(row["coverage"]),
        "start": row["match_start"],
        "end": row["match_end"],
    }


def _short(value: float | None) -> float | None:
    """To the digits that a float32 holds."""
    return None if value is None else float(f"{value:.6g}")


def score_lines(found: dict[str, Any]) -> Iterator[str]:
    """The same in words, for a terminal."""
    chances = {title_of(name): value for name, value in found["probabilities"].items()}
    for name, value in {**chances, "made to harvest answers": found["p_extraction"]}.items():
        yield f"{name:<24}{value:6.3f}  {'█' * round(value * _BAR)}".rstrip()
    yield f"{'capability':<24}{title_of(found['capability'])}"
    if found["caveat"] is not None:
        yield f"{'caveat':<24}{found['caveat']}"
    template, nearest = found["template"], found["nearest"]
    if template is None:
        yield f"{'known template':<24}none"
        if nearest is not None and nearest["similarity"] >= _NEAR:
            yield f"{'':<24}nearest: {nearest['id']} ({nearest['tier']}), cosine {nearest['similarity']:.3f}; no match"
    else:
        technique = f" ({title_of(template['technique'])})" if template["technique"] is not None else ""
        yield f"{'known template':<24}{template['family']}{technique}, signature {template['id']}"
        yield (
            f"{'':<24}{percent(template['coverage'])} of its fixed text stands in order at characters "
            f"{template['start']:,} to {template['end']:,}"
        )
        if template["similarity"] is not None:
            yield f"{'':<24}cosine with its nearest vector {template['similarity']:.3f}"
    if found["benign_app"] is not None:
        yield f"{'known application':<24}{found['benign_app']} (what it explains is not held against the account)"
