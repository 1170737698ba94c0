"""The fusion: a batch of events in, labels and evidence units out.

    events -> reveal -> text -> encoder -> [templates, lexicon + heads, transformer] -> **labeler** -> tables, rows

One prompt is a batch of one. Work goes through in blocks; nothing depends on how events are batched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.encoder import Encoded, StaticEncoder
from classifier.heads import Calibration, Heads, calibrated_probabilities
from classifier.lexicon import Lexicon
from classifier.observations import Judged, Judgement
from classifier.reveal import Revealed, reveal_all
from classifier.rows import RowMaker, Rows, Sent
from classifier.tables import Tables
from classifier.templates import Matches, TemplateIndex
from classifier.text import head_anchor, keyed_hashes, normal_forms, original_span, scored_text, tail_anchor
from classifier.transformer import Transformer
from classifier.types import CAPABILITIES, LABEL_SCHEMA, TARGETS, UNIT_SCHEMA, Tier

BLOCK = 4096
"""Events that go through together: so many that a stage has its tables in the processor's cache for most of its time,
so few that what it makes of them is not out of it when the next stage reads that."""
EXTRACTION = len(CAPABILITIES)
"""Column of the heads' output that holds the extraction probability."""
LEAST_LETTERS = 20
"""Letters that must stand outside of a span to be read apart: a stray full stop says nothing of what is asked for."""
MATCH_CERTAINTY = np.float32(0.999)
"""`p_extraction` of a verified match of an exclusive family is at least this, so that no prompt is matched and
thought harmless."""
PUBLIC_CERTAINTY = np.float32(0.998)
"""`p_extraction` of a verified match of a public family: the wording is known, its tier leaves open who sends it. No
evidence hangs on it, since a matched prompt is no unit of the intent channel."""
MOST_CERTAIN_OPINION = np.float32(0.997)
"""`p_extraction` of any other prompt is at most this: an opinion does not outweigh a match."""
_LESS_THAN_ANY = np.float32(-1)  # probability
_LEAST_OPINION = 1e-6  # keeps log-odds finite: certain of both would be no number

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """What becomes of a batch: one row an event (LABEL_SCHEMA), and its observations, not yet merged (UNIT_SCHEMA)."""

    labels: pa.Table
    units: pa.Table


@dataclass(frozen=True)
class Reading:
    """Texts as the models see them: what n scored texts mean, their normal forms in UTF-8, encodings, and probabilities
    [n, 4] (see `heads`)."""

    texts: Sequence[str]
    normal: Sequence[bytes]
    encoded: Encoded
    probabilities: Floats


def head_features(encoded: Encoded, lexicon_scores: Floats) -> Floats:
    """What the heads see, [n, len(VIEWS) * d + LOGITS]: embeddings of all views, scaled to unit variance, and lexicon
    scores."""
    n, views, d = encoded.views.shape
    scaled = encoded.views.reshape(n, views * d) * np.float32(math.sqrt(d))
    return np.concatenate([scaled, lexicon_scores], axis=1)


def undecided(probabilities: Floats, margin: float) -> Bools:
    """Rows whose two most probable of TARGETS lie less than `margin` apart, [n]; all where it is above 1."""
    capabilities = probabilities[:, : len(CAPABILITIES)]
    shares = np.sort(np.column_stack([capabilities, 1 - capabilities.sum(axis=1)]), axis=1)
    return np.asarray(shares[:, -1] - shares[:, -2] < margin)


def decide_capability(probabilities: Floats, thresholds: Floats) -> Ints:
    """Index into TARGETS of each row: the most probable capability among those above their threshold, else `other`."""
    capabilities = probabilities[:, : len(CAPABILITIES)]
    named = np.full((len(probabilities), len(TARGETS)), _LESS_THAN_ANY)
    np.copyto(named[:, :-1], capabilities, where=capabilities >= thresholds)
    named[:, -1] = _LESS_THAN_ANY / 2
    return np.asarray(named.argmax(axis=1))


def over_targets(probabilities: Floats) -> Floats:
    """Probabilities of each of TARGETS, [n, 4]: what the capabilities leave is that of `other`."""
    shares = probabilities.copy()
    shares[:, -1] = np.maximum(1 - np.add.reduce(probabilities[:, : len(CAPABILITIES)], axis=1), 0)
    return shares


def cascaded(static: Floats, transformer: Floats, margin: float) -> Floats:
    """Probabilities [n, 4] of the cascade. Where the static tier is undecided, the transformer names the capability,
    and the intent is the mean of both in log-odds: measured on sources left out, each does better so than the other
    way."""
    opinions = np.stack([static[:, -1], transformer[:, -1]]).astype(np.float64)
    both = np.clip(opinions, _LEAST_OPINION, 1 - _LEAST_OPINION)
    intent = 1 / (1 + np.exp(-np.log(both / (1 - both)).mean(axis=0)))
    told = np.concatenate([transformer[:, :-1], intent[:, None]], axis=1)
    return np.where(undecided(static, margin)[:, None], told, static).astype(np.float32)


@dataclass(frozen=True)
class Cascade:
    """The transformer tier, asked where the static tier is undecided (see `cascaded`)."""

    transformer: Transformer
    calibration: Calibration
    margin: float


def fused_extraction(opinion: Floats, exclusive: Bools, public: Bools) -> Floats:
    """`p_extraction` of prompts: those with a verified match of an exclusive family above those of a public one, and
    these above all others."""
    fused = np.minimum(opinion, MOST_CERTAIN_OPINION)
    fused[public] = PUBLIC_CERTAINTY
    fused[exclusive] = np.maximum(opinion[exclusive], MATCH_CERTAINTY)
    return fused


class Labeler:
    """The models of a bundle, put together. `thresholds` [3]: least probability to name each capability. `cascade`:
    None in a bundle of the static tier alone. `approved_us`: when local exclusive signatures were approved, by id."""

    def __init__(
        self,
        encoder: StaticEncoder,
        templates: TemplateIndex,
        lexicon: Lexicon,
        heads: Heads,
        calibration: Calibration,
        cascade: Cascade | None,
        thresholds: Floats,
        hash_key: bytes,
        approved_us: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.encoder, self.templates, self.lexicon, self.heads = encoder, templates, lexicon, heads
        self._calibration, self.cascade = calibration, cascade
        self.thresholds, self._hash_key = thresholds, hash_key
        facts = [signature.facts for signature in templates.signatures]
        self._exclusive = np.array([fact.tier is Tier.EXCLUSIVE for fact in facts] + [False])  # index -1: no match
        self._target = np.array([TARGETS.index(fact.target) if fact.target else -1 for fact in facts] + [-1])
        self._tables, self._rows = Tables(facts, approved_us), RowMaker(facts, approved_us)

    def label(self, events: pa.RecordBatch) -> Labelled:
        """Label events (EVENT_SCHEMA), in order."""
        blocks = [self._label_block(events.slice(start, BLOCK)) for start in range(0, events.num_rows, BLOCK)]
        return Labelled(
            pa.Table.from_batches([labels for labels, _ in blocks], LABEL_SCHEMA),
            pa.Table.from_batches([units for _, units in blocks], UNIT_SCHEMA),
        )

    def label_few(self, events: Sequence[Sent]) -> Rows:
        """`label` of no more events than are judged at once, in rows."""
        return self._rows.rows(events, self.judge([scored_text(event.system, event.prompt) for event in events]))

    def read(self, texts: Sequence[str]) -> Reading:
        """Encode and classify scored texts."""
        normal = normal_forms(texts)
        encoded = self.encoder.encode(normal)
        logits = self.heads.logits(head_features(encoded, self.lexicon.scores(encoded.tokens)))
        probabilities = calibrated_probabilities(logits, self._calibration)
        if self.cascade is not None:
            probabilities = _second_opinion(probabilities, normal, self.cascade)
        return Reading(texts, normal, encoded, probabilities)

    def judge(self, sent_texts: Sequence[str]) -> Judged:
        """Judge scored texts as they were sent. `label` says the same in tables."""
        revealed = reveal_all(sent_texts)
        reading = self.read([one.text for one in revealed])
        matches = self.templates.match(reading.encoded)
        judgement = self._judge(reading, matches)
        hashed = (reading.normal, map(head_anchor, reading.normal), map(tail_anchor, reading.normal))
        keys, heads, tails = keyed_hashes(chain(*hashed), self._hash_key).reshape(3, -1)
        spans = _sent_spans(revealed, judgement.spans, matches.index >= 0)
        return Judged(matches, reading.probabilities, judgement, spans, keys, heads, tails)

    def _label_block(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """(labels, units)."""
        sent = zip(events.column("system").to_pylist(), events.column("prompt").to_pylist(), strict=True)
        judged = self.judge([scored_text(system, prompt) for system, prompt in sent])
        return self._tables.labels(events, judged), self._tables.units(events, judged)

    def _judge(self, reading: Reading, matches: Matches) -> Judgement:
        """Put classifier and matches together: what a benign signature covers is excused, and what a match leaves open
        its payload tells."""
        n = len(reading.texts)
        matched, benign = matches.index >= 0, matches.benign >= 0
        if not np.count_nonzero(matched | benign):
            return self._judge_unmatched(reading)
        spans = _spans(reading, self.encoder, matched, matches.token_start, matches.token_end)
        benign_spans = _spans(reading, self.encoder, benign, matches.benign_start, matches.benign_end)
        capability = decide_capability(reading.probabilities, self.thresholds)
        outside, leftover = self._read_outside(reading, benign_spans, benign)
        exclusive = self._exclusive[matches.index]
        public = matched & ~exclusive
        explained = benign & ~leftover
        extraction = np.where(explained & ~matched, np.float32(0), outside[:, EXTRACTION])
        named = self._target[matches.index]
        payload, _ = self._read_outside(reading, spans, matched & (named < 0))
        target = np.where(named >= 0, named, decide_capability(payload, self.thresholds))
        return Judgement(
            capability=capability,
            target=target,
            p_capability=over_targets(outside),
            p_extraction=fused_extraction(extraction, exclusive, public),
            opinion=np.minimum(extraction, MOST_CERTAIN_OPINION),
            exclusive=exclusive,
            public=public,
            explained=explained,
            spans=spans.reshape(n, 2),
        )

    def _judge_unmatched(self, reading: Reading) -> Judgement:
        """The same where no signature is found in any text, as in nearly every one that comes by itself."""
        n, probabilities = len(reading.texts), reading.probabilities
        capability = decide_capability(probabilities, self.thresholds)
        opinion = np.minimum(probabilities[:, EXTRACTION], MOST_CERTAIN_OPINION)
        none = np.zeros(n, np.bool_)
        return Judgement(
            capability=capability,
            target=capability,
            p_capability=over_targets(probabilities),
            p_extraction=opinion,
            opinion=opinion,
            exclusive=none,
            public=none,
            explained=none,
            spans=np.zeros((n, 2), np.int64),
        )

    def _read_outside(self, reading: Reading, spans: Ints, rows: Bools) -> tuple[Floats, Bools]:
        """Probabilities of what stands outside of `spans`, for `rows` [n] in which that says anything (second
        array); of the whole elsewhere."""
        chosen = rows.nonzero()[0].tolist()
        if not chosen:
            return reading.probabilities, rows
        rests = [_outside(reading.texts[i], *spans[i]) for i in chosen]
        left = np.array([sum(map(str.isalpha, rest)) >= LEAST_LETTERS for rest in rests], np.bool_)
        probabilities, has_rest = reading.probabilities.copy(), np.zeros(len(rows), np.bool_)
        if left.any():
            has_rest[chosen] = left
            told = [rest for rest, tells in zip(rests, left.tolist(), strict=True) if tells]
            probabilities[has_rest] = self.read(told).probabilities
        return probabilities, has_rest


def _second_opinion(probabilities: Floats, normal: Sequence[bytes], cascade: Cascade) -> Floats:
    """Probabilities, those of undecided rows with what the transformer says of them."""
    rows = np.flatnonzero(undecided(probabilities, cascade.margin))
    told = probabilities.copy()
    logits = cascade.transformer.logits([normal[row].decode() for row in rows.tolist()])
    told[rows] = calibrated_probabilities(logits, cascade.calibration)
    return cascaded(probabilities, told, cascade.margin)


def _spans(
    reading: Reading, encoder: StaticEncoder, rows: Bools, starts: NDArray[np.int32], ends: NDArray[np.int32]
) -> Ints:
    """Token spans of `rows` [n] as characters of their scored texts, [n, 2]; (0, 0) for the other rows."""
    spans = np.zeros((len(reading.texts), 2), np.int64)
    for row in rows.nonzero()[0].tolist():
        ids, normal = reading.encoded.tokens.of(row), reading.normal[row]
        first = encoder.tokenizer.n_bytes(ids[: starts[row]])
        last = first + encoder.tokenizer.n_bytes(ids[starts[row] : ends[row]])
        start = _n_chars(normal[:first])
        spans[row] = original_span(reading.texts[row], normal, start, start + _n_chars(normal[first:last]))
    return spans


def _n_chars(part: bytes) -> int:
    """Characters of a part of a normal form, without those cut at either end."""
    return len(part.decode("utf-8", "ignore"))


def _sent_spans(sent: Sequence[Revealed], spans: Ints, rows: Bools) -> Ints:
    """Spans of what was meant as spans of what was sent, [n, 2], for `rows` [n]; (0, 0) for the other rows."""
    found = np.zeros(spans.shape, np.int64)
    for row in rows.nonzero()[0].tolist():
        found[row] = sent[row].sent_span(*spans[row].tolist())
    return found


def _outside(text: str, start: int, end: int) -> str:
    """What stands before and after a span."""
    return f"{text[:start]} {text[end:]}".strip()
