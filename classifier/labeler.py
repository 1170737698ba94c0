"""The fusion: a batch of events in, labels and evidence units out.

    events -> reveal -> text -> encoder -> [templates, lexicon + heads, transformer] -> **labeler** -> labels, units

One prompt is a batch of one. Work goes through in blocks; nothing depends on how events are batched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.encoder import Encoded, StaticEncoder
from classifier.heads import Calibration, Heads, calibrated_probabilities
from classifier.lexicon import Lexicon
from classifier.reveal import Revealed, reveal_all
from classifier.templates import Matches, TemplateIndex
from classifier.text import head_anchor, keyed_hashes, normal_forms, original_span, scored_text, tail_anchor
from classifier.transformer import Transformer
from classifier.types import CAPABILITIES, LABEL_SCHEMA, LEVELS, TARGETS, UNIT_SCHEMA, Channel, Tier

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
ALWAYS = np.iinfo(np.int64).min
"""When signatures were approved that are in force at any time, such as those of a bundle."""
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


@dataclass(frozen=True)
class Judgement:
    """What is concluded of n prompts, all arrays of n rows.

    `capability`, `target`: index into TARGETS of what the prompt asks for, and of what a match in it aims at.
    `p_capability` [n, 4] over TARGETS, `p_extraction` and `opinion`, which is it without any match: of what no benign
    signature excuses. `exclusive`, `public`: a verified match of that tier.
    `explained`: a benign signature accounts for all but a match. `spans` [n, 2]: characters of what the scored text
    means, from the first to past the last shingle of the match; what stands between is taken for part of it.
    """

    capability: Ints
    target: Ints
    p_capability: Floats
    p_extraction: Floats
    opinion: Floats
    exclusive: Bools
    public: Bools
    explained: Bools
    spans: Ints


def head_features(encoded: Encoded, lexicon_scores: Floats) -> Floats:
    """What the heads see, [n, len(VIEWS) * d + LOGITS]: embeddings of all views, scaled to unit variance, and lexicon
    scores."""
    n, views, d = encoded.views.shape
    return np.concatenate([(encoded.views * np.float32(np.sqrt(d))).reshape(n, views * d), lexicon_scores], axis=1)


def undecided(probabilities: Floats, margin: float) -> Bools:
    """Rows whose two most probable of TARGETS lie less than `margin` apart, [n]; all where it is above 1."""
    capabilities = probabilities[:, : len(CAPABILITIES)]
    shares = np.sort(np.column_stack([capabilities, 1 - capabilities.sum(axis=1)]), axis=1)
    return np.asarray(shares[:, -1] - shares[:, -2] < margin)


def decide_capability(probabilities: Floats, thresholds: Floats) -> Ints:
    """Index into TARGETS of each row: the most probable capability among those above their threshold, else `other`."""
    capabilities = probabilities[:, : len(CAPABILITIES)]
    named = np.where(capabilities >= thresholds, capabilities, -1)
    return np.where(named.max(axis=1) >= 0, named.argmax(axis=1), len(CAPABILITIES))


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
    matched = [np.maximum(opinion, MATCH_CERTAINTY), np.full_like(opinion, PUBLIC_CERTAINTY)]
    return np.select([exclusive, public], matched, np.minimum(opinion, MOST_CERTAIN_OPINION)).astype(np.float32)


class Labeler:
    """The models of a bundle, put together. `thresholds` [3]: least probability to name each capability. `cascade`:
    None in
    a bundle of the static tier alone. `approved_us`: when local exclusive signatures were approved, by id."""

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
        self._thresholds, self._hash_key = thresholds, hash_key
        facts = [signature.facts for signature in templates.signatures]
        self._exclusive = np.array([fact.tier is Tier.EXCLUSIVE for fact in facts] + [False])  # index -1: no match
        self._approved_us = np.array([approved_us.get(fact.id, ALWAYS) for fact in facts] + [ALWAYS])
        self._target = np.array([TARGETS.index(fact.target) if fact.target else -1 for fact in facts] + [-1])
        self._ids = pa.array([*(fact.id for fact in facts), None], pa.string())
        self._families = pa.array([*(fact.family for fact in facts), None], pa.string())
        self._techniques = pa.array([*(fact.technique for fact in facts), None], pa.string())

    def label(self, events: pa.RecordBatch) -> Labelled:
        """Label events (EVENT_SCHEMA), in order."""
        blocks = [self._label_block(events.slice(start, BLOCK)) for start in range(0, events.num_rows, BLOCK)]
        return Labelled(
            pa.Table.from_batches([labels for labels, _ in blocks], LABEL_SCHEMA),
            pa.Table.from_batches([batch for _, units in blocks for batch in units], UNIT_SCHEMA),
        )

    def read(self, texts: Sequence[str]) -> Reading:
        """Encode and classify scored texts."""
        normal = normal_forms(texts)
        encoded = self.encoder.encode(normal)
        logits = self.heads.logits(head_features(encoded, self.lexicon.scores(encoded.tokens)))
        probabilities = calibrated_probabilities(logits, self._calibration)
        if self.cascade is not None:
            probabilities = _second_opinion(probabilities, normal, self.cascade)
        return Reading(texts, normal, encoded, probabilities)

    def _label_block(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
        sent = zip(events.column("system").to_pylist(), events.column("prompt").to_pylist(), strict=True)
        sent_texts = reveal_all([scored_text(system, prompt) for system, prompt in sent])
        reading = self.read([revealed.text for revealed in sent_texts])
        matches = self.templates.match(reading.encoded)
        judgement = self._judge(reading, matches)
        keys = keyed_hashes(reading.normal, self._hash_key)
        scaffolds = self._scaffolds(reading.normal)
        spans = _sent_spans(sent_texts, judgement.spans, matches.index >= 0)
        labels = self._labels(events, reading, matches, judgement, spans, keys, scaffolds)
        primary = pc.list_element(scaffolds, 0).to_numpy()
        return labels, self._units(events, matches, judgement, keys, primary)

    def _scaffolds(self, normal: Sequence[bytes]) -> pa.ListArray:
        """Hashes of the anchors of each text, its head's first; one where both are the same."""
        sides = [keyed_hashes(map(anchor, normal), self._hash_key) for anchor in (head_anchor, tail_anchor)]
        hashes = np.stack(sides, axis=1)
        listed = np.ones_like(hashes, np.bool_)
        listed[:, 1] = sides[0] != sides[1]
        return pa.ListArray.from_arrays(np.append(0, listed.sum(axis=1).cumsum()).astype(np.int32), hashes[listed])

    def _judge(self, reading: Reading, matches: Matches) -> Judgement:
        """Put classifier and matches together: what a benign signature covers is excused, and what a match leaves open
        its payload tells."""
        n = len(reading.texts)
        matched, benign = matches.index >= 0, matches.benign >= 0
        spans = _spans(reading, self.encoder, np.flatnonzero(matched), matches.token_start, matches.token_end)
        benign_spans = _spans(reading, self.encoder, np.flatnonzero(benign), matches.benign_start, matches.benign_end)
        capability = decide_capability(reading.probabilities, self._thresholds)
        outside, leftover = self._read_outside(reading, benign_spans, benign)
        exclusive = self._exclusive[matches.index]
        public = matched & ~exclusive
        explained = benign & ~leftover
        extraction = np.where(explained & ~matched, np.float32(0), outside[:, EXTRACTION])
        named = self._target[matches.index]
        payload, _ = self._read_outside(reading, spans, matched & (named < 0))
        target = np.where(named >= 0, named, decide_capability(payload, self._thresholds))
        capabilities = outside[:, : len(CAPABILITIES)]
        other = 1 - capabilities.sum(axis=1)
        return Judgement(
            capability=capability,
            target=target,
            p_capability=np.concatenate([capabilities, other.clip(0)[:, None]], axis=1),
            p_extraction=fused_extraction(extraction, exclusive, public),
            opinion=np.minimum(extraction, MOST_CERTAIN_OPINION),
            exclusive=exclusive,
            public=public,
            explained=explained,
            spans=spans.reshape(n, 2),
        )

    def _read_outside(self, reading: Reading, spans: Ints, rows: Bools) -> tuple[Floats, Bools]:
        """Probabilities of what stands outside of `spans`, for `rows` [n] in which that says anything (second
        array); of the whole elsewhere."""
        chosen = np.flatnonzero(rows).tolist()
        rests = [_outside(reading.texts[i], *spans[i]) for i in chosen]
        left = np.array([sum(map(str.isalpha, rest)) >= LEAST_LETTERS for rest in rests], np.bool_)
        probabilities, has_rest = reading.probabilities.copy(), np.zeros(len(rows), np.bool_)
        if left.any():
            has_rest[chosen] = left
            told = [rest for rest, tells in zip(rests, left.tolist(), strict=True) if tells]
            probabilities[has_rest] = self.read(told).probabilities
        return probabilities, has_rest

    def _labels(
        self,
        events: pa.RecordBatch,
        reading: Reading,
        matches: Matches,
        judgement: Judgement,
        spans: Ints,
        keys: NDArray[np.uint64],
        scaffolds: pa.ListArray,
    ) -> pa.RecordBatch:
        none = matches.index < 0
        benign = pa.array(np.where(matches.benign < 0, len(self._ids) - 1, matches.benign))
        matched = pa.array(np.where(none, len(self._ids) - 1, matches.index))
        columns = {
            "event_id": events.column("event_id"),
            "account_id": events.column("account_id"),
            "timestamp": events.column("timestamp"),
            "capability": pa.array(TARGETS).take(pa.array(judgement.capability)),
            **{f"p_{name}": pa.array(reading.probabilities[:, i]) for i, name in enumerate(CAPABILITIES)},
            "p_extraction": pa.array(judgement.p_extraction),
            "template_id": self._ids.take(matched),
            "template_family": self._families.take(matched),
            "technique": self._techniques.take(matched),
            "similarity": pa.array(matches.similarity, mask=np.isnan(matches.similarity)),
            "coverage": pa.array(matches.coverage, mask=none),
            "match_start": pa.array(spans[:, 0], pa.int32(), mask=none),
            "match_end": pa.array(spans[:, 1], pa.int32(), mask=none),
            "benign_app": self._families.take(benign),
            "unit": pa.array(keys),
            "scaffolds": scaffolds,
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in LABEL_SCHEMA.names], schema=LABEL_SCHEMA)

    def _units(
        self,
        events: pa.RecordBatch,
        matches: Matches,
        judgement: Judgement,
        keys: NDArray[np.uint64],
        scaffolds: NDArray[np.uint64],
    ) -> list[pa.RecordBatch]:
        """One signature-channel row an event, and one intent-channel row where nothing matched and something is
        unexplained.

        A local exclusive signature may have been learnt from what was sent up to its approval. There its match is no
        hit, and intent is bet on as if it were not known: else an honest account's own prompts would be picked out of
        its past by what it sent, which no null allows.
        """
        n = len(keys)
        early = _microseconds(events) <= self._approved_us[matches.index]
        bits = (1 << judgement.target).astype(np.uint8)
        matched = matches.index >= 0
        family = self._families.take(pa.array(np.where(matched, matches.index, len(self._families) - 1)))
        signature = {
            "channel": np.full(n, Channel.SIGNATURE, np.uint8),
            "key": keys,
            "y": np.where(judgement.exclusive & ~early, bits, 0).astype(np.uint8),
            "y_public": np.where(judgement.public, bits, 0).astype(np.uint8),
            "matched": matched.astype(np.uint8),
            **{f"level_{name}": np.zeros(n, np.uint8) for name in TARGETS},
            "family": family,
        }
        levels = np.rint(LEVELS * judgement.opinion[:, None] * judgement.p_capability).astype(np.uint8)
        nothing = np.zeros(n, np.uint8)
        intent = {
            "channel": np.full(n, Channel.INTENT, np.uint8),
            "key": scaffolds,
            "y": nothing,
            "y_public": nothing,
            "matched": nothing,
            **{f"level_{name}": levels[:, c] for c, name in enumerate(TARGETS)},
            "family": pa.nulls(n, pa.string()),
        }
        counted = pa.array((~matched | early) & ~judgement.explained)
        return [_unit_rows(events, signature), _unit_rows(events, intent).filter(counted)]


def _second_opinion(probabilities: Floats, normal: Sequence[bytes], cascade: Cascade) -> Floats:
    """Probabilities, those of undecided rows with what the transformer says of them."""
    rows = np.flatnonzero(undecided(probabilities, cascade.margin))
    told = probabilities.copy()
    logits = cascade.transformer.logits([normal[row].decode() for row in rows.tolist()])
    told[rows] = calibrated_probabilities(logits, cascade.calibration)
    return cascaded(probabilities, told, cascade.margin)


def _microseconds(events: pa.RecordBatch) -> Ints:
    return np.asarray(events.column("timestamp").cast(pa.int64()).to_numpy())


def _unit_rows(
    events: pa.RecordBatch, columns: dict[str, NDArray[np.uint8] | NDArray[np.uint64] | pa.Array]
) -> pa.RecordBatch:
    """Rows of UNIT_SCHEMA: who and when from the events, the rest given."""
    given = [pa.array(columns[name]) if name in columns else events.column(name) for name in UNIT_SCHEMA.names]
    return pa.RecordBatch.from_arrays(given, schema=UNIT_SCHEMA)


def _spans(
    reading: Reading, encoder: StaticEncoder, rows: Iterable[int], starts: NDArray[np.int32], ends: NDArray[np.int32]
) -> Ints:
    """Token spans of some rows as characters of their scored texts, [n, 2]; (0, 0) for the other rows."""
    spans = np.zeros((len(reading.texts), 2), np.int64)
    for row in rows:
        ids = reading.encoded.tokens.of(row)
        start = len(encoder.tokenizer.decode(ids[: starts[row]]))
        end = start + len(encoder.tokenizer.decode(ids[starts[row] : ends[row]]))
        spans[row] = original_span(reading.texts[row], start, end)
    return spans


def _sent_spans(sent: Sequence[Revealed], spans: Ints, rows: Bools) -> Ints:
    """Spans of what was meant as spans of what was sent, [n, 2], for `rows` [n]; (0, 0) for the other rows."""
    found = np.zeros_like(spans)
    for row in np.flatnonzero(rows).tolist():
        found[row] = sent[row].sent_span(*spans[row].tolist())
    return found


def _outside(text: str, start: int, end: int) -> str:
    """What stands before and after a span."""
    return f"{text[:start]} {text[end:]}".strip()
