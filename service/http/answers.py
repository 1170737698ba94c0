"""What `/v1/score` says of events that were labelled and recorded. Stands after `published`."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from classifier.pipeline import Pipeline
from classifier.rows import LabelRow
from classifier.types import CAPABILITIES
from service.http.problems import Problem
from service.http.published import Published
from service.store.recording import Account, Fate, Recorded

Answer = bytes | Problem
"""A JSON document, or why there is none."""


def say(labels: Sequence[LabelRow], recorded: Recorded, pipeline: Pipeline, published: Published) -> list[Answer]:
    """Answers to labelled and recorded events."""
    known: dict[int, Account] = {one.number: one for one in recorded.accounts if one is not None}
    standing = dict(zip(known, published.say(list(known.values())), strict=True))
    ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
    rows = zip(labels, recorded.fates, recorded.accounts, strict=True)
    return [
        json_of({"event_id": label.event_id, "prompt": _prompt(label), "account": standing[account.number], **ids})
        if fate is not Fate.FOREIGN and account is not None
        else _foreign()
        for label, fate, account in rows
    ]


def json_of(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _foreign() -> Problem:
    detail = "event_id was used for another account: give each event its own."
    return Problem(409, "event-id-of-another-account", detail)


def _prompt(label: LabelRow) -> dict[str, object]:
    """`prompt` of an answer. Its numbers stay of four bytes: so they are printed with the digits that they hold."""
    return {
        "capability": label.capability,
        "probabilities": dict(zip(CAPABILITIES, label.probabilities, strict=True)),
        "p_extraction": label.p_extraction,
        "template": label.match._asdict() if label.match is not None else None,
    }
