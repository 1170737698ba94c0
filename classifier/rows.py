"""What was judged of a few events, as plain rows: what `tables` says, without Arrow, which takes longest for few.

labeler, observations -> **rows** -> the service's store and its answers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from classifier.observations import Judged, Observer
from classifier.signatures import Facts
from classifier.types import CAPABILITIES, TARGETS, Channel

_NO_LEVELS = (0,) * len(TARGETS)


class Sent(NamedTuple):
    """An event as it came; `us` since 1970."""

    event_id: str
    account_id: str
    us: int
    system: str | None
    prompt: str


class Match(NamedTuple):
    """`template_id`, `template_family` and so on of LABEL_SCHEMA."""

    id: str
    family: str
    technique: str | None
    similarity: np.float32 | None
    coverage: np.float32


class LabelRow(NamedTuple):
    """An event of LABEL_SCHEMA, as far as it is recorded and answered: `probabilities` over CAPABILITIES, `match` None
    without a template, `scaffold` the first of its `scaffolds`."""

    event_id: str
    account_id: str
    us: int
    capability: str
    probabilities: tuple[np.float32, ...]
    p_extraction: np.float32
    match: Match | None
    scaffold: int


class UnitRow(NamedTuple):
    """A row of UNIT_SCHEMA; `levels` over TARGETS."""

    event_id: str
    account_id: str
    us: int
    channel: int
    key: int
    y: int
    y_public: int
    matched: int
    levels: tuple[int, ...]
    family: str | None


class Rows(NamedTuple):
    """What becomes of a few events: a label each, and their observations, not yet merged."""

    labels: Sequence[LabelRow]
    units: Sequence[UnitRow]


class RowMaker:
    """Rows of labels and units. `facts`, `approved_us`: see `Observer`."""

    def __init__(self, facts: Sequence[Facts], approved_us: Mapping[str, int]) -> None:
        self._observer = Observer(facts, approved_us)
        self._facts = tuple(facts)

    def rows(self, events: Sequence[Sent], judged: Judged) -> Rows:
        """Of events, in order, the rows that `Tables` has of them."""
        return Rows(self._labels(events, judged), self._units(events, judged))

    def _labels(self, events: Sequence[Sent], judged: Judged) -> list[LabelRow]:
        judgement, matches = judged.judgement, judged.matches
        columns = (
            (TARGETS[i] for i in judgement.capability.tolist()),
            map(tuple, judged.probabilities[:, : len(CAPABILITIES)]),
            judgement.p_extraction,
            (self._match(judged, row) if i >= 0 else None for row, i in enumerate(matches.index.tolist())),
            judged.heads.tolist(),
        )
        return [
            LabelRow._make((*event[:3], *row)) for event, row in zip(events, zip(*columns, strict=True), strict=True)
        ]

    def _match(self, judged: Judged, row: int) -> Match:
        fact, similarity = self._facts[judged.matches.index[row]], judged.matches.similarity[row]
        return Match(
            fact.id,
            fact.family,
            fact.technique,
            None if np.isnan(similarity) else similarity,
            judged.matches.coverage[row],
        )

    def _units(self, events: Sequence[Sent], judged: Judged) -> list[UnitRow]:
        """One signature-channel row an event, then the intent-channel rows (see `Observed`)."""
        observed = self._observer.observe(judged, np.array([event.us for event in events], np.int64))
        families = [self._facts[i].family if i >= 0 else None for i in judged.matches.index.tolist()]
        marks = zip(judged.keys.tolist(), *observed.hits.tolist(), repeat(_NO_LEVELS), families)
        units = [UnitRow(*event[:3], Channel.SIGNATURE, *mark) for event, mark in zip(events, marks, strict=True)]
        rows = observed.counted.nonzero()[0]
        keys = judged.heads[rows].tolist()
        for row, key, levels in zip(rows.tolist(), keys, observed.levels.tolist(), strict=True):
            units.append(UnitRow(*events[row][:3], Channel.INTENT, key, 0, 0, 0, tuple(levels), None))
        return units


def rows_of(labels: pa.Table, units: pa.Table) -> Rows:
    """The rows of tables (LABEL_SCHEMA, UNIT_SCHEMA), in order."""
    return Rows(_label_rows(labels), _unit_rows(units))


def _label_rows(labels: pa.Table) -> list[LabelRow]:
    names = ("template_id", "template_family", "technique", "similarity", "coverage")
    matches = zip(*(labels[name].to_pylist() for name in names), strict=True)
    columns = (
        *_who(labels),
        labels["capability"].to_pylist(),
        zip(*(labels[f"p_{name}"].to_numpy() for name in CAPABILITIES), strict=True),
        labels["p_extraction"].to_numpy(),
        (_match(*match) if match[0] is not None else None for match in matches),
        (scaffolds[0] for scaffolds in labels["scaffolds"].to_pylist()),
    )
    return [LabelRow(*row) for row in zip(*columns, strict=True)]


def _match(name: str, family: str, technique: str | None, similarity: float | None, coverage: float) -> Match:
    return Match(
        name, family, technique, np.float32(similarity) if similarity is not None else None, np.float32(coverage)
    )


def _unit_rows(units: pa.Table) -> list[UnitRow]:
    levels = zip(*(units[f"level_{name}"].to_pylist() for name in TARGETS), strict=True)
    plain = (units[name].to_pylist() for name in ("channel", "key", "y", "y_public", "matched"))
    return [UnitRow(*row) for row in zip(*_who(units), *plain, levels, units["family"].to_pylist(), strict=True)]


def _who(table: pa.Table) -> list[list[object]]:
    """Event ids, account ids and times."""
    us = table["timestamp"].cast(pa.int64())
    return [table["event_id"].to_pylist(), table["account_id"].to_pylist(), us.to_pylist()]
