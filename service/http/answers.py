"""What `/v1/score` says of events that were labelled and recorded. Stands after `published`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa

from classifier.pipeline import Pipeline
from classifier.types import CAPABILITIES
from service.http.problems import Problem
from service.http.published import Published
from service.store.recording import Account, Fate, Recorded

Answer = bytes | Problem
"""A JSON document, or why there is none."""


def say(labels: pa.Table, recorded: Recorded, pipeline: Pipeline, published: Published) -> list[Answer]:
    """Answers to labelled and recorded events."""
    known: dict[int, Account] = {one.number: one for one in recorded.accounts if one is not None}
    standing = dict(zip(known, published.say(list(known.values())), strict=True))
    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    rows = zip(labels["event_id"].to_pylist(), _prompts(labels), recorded.fates, recorded.accounts, strict=True)
    return [
        json_of({"event_id": event_id, "prompt": prompt, "account": standing[account.number], **ids})
        if fate is not Fate.FOREIGN and account is not None
        else _foreign()
        for event_id, prompt, fate, account in rows
    ]


def json_of(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _foreign() -> Problem:
    detail = "event_id was used for another account: give each event its own."
    return Problem(409, "event-id-of-another-account", detail)


def _prompts(labels: pa.Table) -> Iterator[dict[str, object]]:
    """`prompt` of each answer."""
    probabilities = np.stack([labels[f"p_{name}"].to_numpy() for name in CAPABILITIES], axis=1)
    templates = labels.select(["template_id", "template_family", "technique", "similarity", "coverage"])
    matched = labels["template_id"].is_valid().to_pylist()
    rows = zip(labels["capability"].to_pylist(), probabilities, labels["p_extraction"].to_numpy(), matched, strict=True)
    for i, (capability, chances, extraction, has_match) in enumerate(rows):
        yield {
            "capability": capability,
            "probabilities": dict(zip(CAPABILITIES, chances, strict=True)),
            "p_extraction": extraction,
            "template": _template(templates.slice(i, 1).to_pylist()[0]) if has_match else None,
        }


def _template(row: dict[str, object]) -> dict[str, object]:
    def short(value: object) -> object:
        return np.float32(value) if isinstance(value, float) else None  # prints the digits that it holds

    return {
        "id": row["template_id"],
        "family": row["template_family"],
        "technique": row["technique"],
        "similarity": short(row["similarity"]),
        "coverage": short(row["coverage"]),
    }
