"""Composition root: a bundle's files -> a working pipeline. The only place that knows which file feeds which module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from classifier.bundle import Bundle, Decisions, Stratum, open_bundle
from classifier.encoder import StaticEncoder
from classifier.evidence import Baselines
from classifier.heads import Heads
from classifier.labeler import Cascade, Labeler, Labelled
from classifier.lexicon import Lexicon
from classifier.shingles import Shingler
from classifier.templates import FACTS_FILE, SHINGLES_FILE, VECTORS_FILE, TemplateIndex
from classifier.transformer import TRANSFORMER, TRANSFORMER_TOKENIZER, Transformer
from classifier.types import CAPABILITIES, Tier

TOKENIZER, TABLE, LEXICON, CLASSIFIER = (
    "tokenizer.json",
    "embeddings.safetensors",
    "lexicon.safetensors",
    "classifier.onnx",
)
MODEL_FILES = (TOKENIZER, TABLE, LEXICON, CLASSIFIER, VECTORS_FILE, FACTS_FILE, SHINGLES_FILE)
TRANSFORMER_FILES = (TRANSFORMER, TRANSFORMER_TOKENIZER)
EMPTY_CATALOGUE = "none"
DEFAULT_HASH_KEY = b"probewatch"
"""Key of unit and scaffold hashes where the caller gives none. Public: whoever shares labels gives one of his own."""


class Pipeline:
    """Labels events with one bundle. Immutable and thread-safe; an update loads a new one."""

    def __init__(self, bundle: Bundle, labeler: Labeler, hash_key: bytes) -> None:
        self._bundle = bundle
        self.labeler = labeler
        self.hash_key = hash_key

    @classmethod
    def load(cls, bundle_dir: Path, hash_key: bytes = DEFAULT_HASH_KEY) -> Pipeline:
        """Verify and load a bundle. Raises BundleError if it is missing, damaged or of another format."""
        bundle = open_bundle(bundle_dir)
        for name in (*MODEL_FILES, *(TRANSFORMER_FILES if (bundle.path / TRANSFORMER).exists() else ())):
            bundle.file(name)  # refuses a file that the manifest does not vouch for
        return cls(bundle, load_labeler(bundle.path, bundle.manifest.facts.decisions, hash_key), hash_key)

    def label(self, events: pa.RecordBatch) -> Labelled:
        """Label events (EVENT_SCHEMA), in order."""
        return self.labeler.label(events)

    @property
    def folder(self) -> Path:
        """Where the bundle lies: another process loads the same from there."""
        return self._bundle.path

    @property
    def bundle_id(self) -> str:
        return self._bundle.manifest.bundle_id

    @property
    def catalogue_id(self) -> str:
        return EMPTY_CATALOGUE

    @property
    def baselines(self) -> Baselines:
        return self._bundle.manifest.facts.baselines

    @property
    def certification(self) -> tuple[Stratum, ...]:
        return self._bundle.manifest.facts.certification

    @property
    def n_families(self) -> int:
        """Extraction families in the index: the hypotheses among which campaigns are flagged."""
        facts = (signature.facts for signature in self.labeler.templates.signatures)
        return len({fact.family for fact in facts if fact.tier is not Tier.BENIGN})


def load_labeler(folder: Path, decisions: Decisions, hash_key: bytes = DEFAULT_HASH_KEY) -> Labeler:
    """Put the models in a folder together. Digests are the caller's concern."""
    encoder = StaticEncoder.load(folder / TOKENIZER, folder / TABLE)
    return Labeler(
        encoder=encoder,
        templates=TemplateIndex.load(folder, Shingler(encoder.tokenizer.vocabulary()), encoder.dimensions),
        lexicon=Lexicon.load(folder / LEXICON, encoder.tokenizer.vocab_size),
        heads=Heads(folder / CLASSIFIER),
        calibration=decisions.static,
        cascade=_cascade(folder, decisions),
        thresholds=np.array([decisions.thresholds[name] for name in CAPABILITIES], np.float32),
        hash_key=hash_key,
    )


def _cascade(folder: Path, decisions: Decisions) -> Cascade | None:
    if not (folder / TRANSFORMER).is_file():
        return None
    transformer = Transformer(folder / TRANSFORMER, folder / TRANSFORMER_TOKENIZER)
    return Cascade(transformer, decisions.transformer, decisions.cascade_margin)
