"""Composition root: a bundle's files, and a local catalogue's -> a working pipeline.

The only place that knows which file feeds which module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from classifier.bundle import Bundle, Decisions, Stratum, identify, open_bundle
from classifier.catalogue import Catalogue, Entry, open_catalogue
from classifier.certification import certify
from classifier.encoder import StaticEncoder
from classifier.errors import BundleError
from classifier.evidence import Baselines
from classifier.heads import Heads
from classifier.labeler import Cascade, Labeler, Labelled
from classifier.lexicon import Lexicon
from classifier.reachback import Approval
from classifier.rows import Rows, Sent
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
    """Labels events with one bundle, and a local catalogue over it if there is one.

    Immutable and thread-safe; an update loads a new one.
    """

    def __init__(self, bundle: Bundle, labeler: Labeler, hash_key: bytes, catalogue: Catalogue | None) -> None:
        self._bundle = bundle
        self.labeler = labeler
        self.hash_key = hash_key
        self.catalogue = catalogue

    @classmethod
    def load(
        cls,
        bundle_dir: Path,
        hash_key: bytes = DEFAULT_HASH_KEY,
        catalogue: Path | None = None,
        version: str | None = None,
    ) -> Pipeline:
        """Verify and load a bundle, and a version of the catalogue in a folder, the newest if None.

        Raises:
            BundleError: either is missing, damaged or of another format, or both have a signature of the same id.
        """
        bundle = open_bundle(bundle_dir)
        for name in (*MODEL_FILES, *(TRANSFORMER_FILES if (bundle.path / TRANSFORMER).exists() else ())):
            bundle.file(name)  # refuses a file that the manifest does not vouch for
        local = open_catalogue(catalogue, version).fitted(_encoder_digest(bundle)) if catalogue is not None else None
        labeler = load_labeler(bundle.path, bundle.manifest.facts.decisions, hash_key, local)
        return cls(bundle, labeler, hash_key, local)

    def label(self, events: pa.RecordBatch) -> Labelled:
        """Label events (EVENT_SCHEMA), in order."""
        return self.labeler.label(events)

    def label_few(self, events: Sequence[Sent]) -> Rows:
        """`label` of a few events, without the tables."""
        return self.labeler.label_few(events)

    @property
    def folder(self) -> Path:
        """Where the bundle lies: another process loads the same from there."""
        return self._bundle.path

    @property
    def bundle_id(self) -> str:
        return self._bundle.manifest.bundle_id

    @property
    def catalogue_id(self) -> str:
        return self.catalogue.id if self.catalogue is not None else EMPTY_CATALOGUE

    @property
    def tokenizer(self) -> str:
        """Library that cuts texts into tokens: one of two of very different speed (see `encoder.Tokenizer`)."""
        return self.labeler.encoder.tokenizer.run_by

    @property
    def encoder_digest(self) -> str:
        """Names the encoder: vectors of two encoders cannot be compared."""
        return _encoder_digest(self._bundle)

    @property
    def baselines(self) -> Baselines:
        return self._bundle.manifest.facts.baselines

    @property
    def certification(self) -> tuple[Stratum, ...]:
        """Of the bundle, and of each local exclusive family, which the bundle's accounts were not measured by."""
        local = {entry.signature.facts.family: entry.origin.n_certified for entry in self._exclusive}
        own = (certify(f"ordinary accounts, of {family}", [False] * n) for family, n in local.items())
        return (*self._bundle.manifest.facts.certification, *own)

    @property
    def approvals(self) -> dict[str, Approval]:
        """Of local exclusive families, by name."""
        ordered = sorted(self._exclusive, key=lambda entry: entry.origin.since_us)  # of two, the later one counts
        return {entry.signature.facts.family: _approval(entry) for entry in ordered}

    @property
    def _exclusive(self) -> list[Entry]:
        return self.catalogue.exclusive if self.catalogue is not None else []

    @property
    def public_families(self) -> list[str]:
        """Extraction families that never flag, sorted."""
        facts = [signature.facts for signature in self.labeler.templates.signatures]
        exclusive = {fact.family for fact in facts if fact.tier is Tier.EXCLUSIVE}
        return sorted({fact.family for fact in facts if fact.tier is Tier.PUBLIC} - exclusive)

    @property
    def n_families(self) -> int:
        """Extraction families in the index: the hypotheses among which campaigns are flagged."""
        facts = (signature.facts for signature in self.labeler.templates.signatures)
        return len({fact.family for fact in facts if fact.tier is not Tier.BENIGN})


def load_labeler(
    folder: Path, decisions: Decisions, hash_key: bytes = DEFAULT_HASH_KEY, local: Catalogue | None = None
) -> Labeler:
    """Put the models in a folder together, and those of a catalogue. Digests are the caller's concern."""
    encoder = StaticEncoder.load(folder / TOKENIZER, folder / TABLE)
    index = TemplateIndex.load(folder, Shingler(encoder.tokenizer.vocabulary()), encoder.dimensions)
    return Labeler(
        encoder=encoder,
        templates=_layered(index, local) if local is not None else index,
        lexicon=Lexicon.load(folder / LEXICON, encoder.tokenizer.vocab_size),
        heads=Heads(folder / CLASSIFIER),
        calibration=decisions.static,
        cascade=_cascade(folder, decisions),
        thresholds=np.array([decisions.thresholds[name] for name in CAPABILITIES], np.float32),
        hash_key=hash_key,
        approved_us={
            one.signature.facts.id: one.origin.since_us for one in (local.exclusive if local is not None else ())
        },
    )


def _approval(entry: Entry) -> Approval:
    return Approval(entry.origin.since_us, entry.signature.facts.target)


def _layered(index: TemplateIndex, local: Catalogue) -> TemplateIndex:
    """The index of a bundle with local signatures after its own. Raises BundleError if they do not go together."""
    signatures = [entry.signature for entry in local.entries]
    known = {signature.facts.id for signature in index.signatures}
    shared = [signature.facts.id for signature in signatures if signature.facts.id in known]
    if shared:
        raise BundleError(
            f"catalogue {local.path}: has a signature {shared[0]}, and so has the bundle; use the bundle it was made "
            "beside, or add its samples to a new catalogue under another family name."
        )
    try:
        return index.with_signatures(signatures)
    except ValueError as error:
        raise BundleError(
            f"catalogue {local.path}: its vectors have other dimensions than those of the bundle; copy it again, or "
            "add its samples to a new one."
        ) from error


def _encoder_digest(bundle: Bundle) -> str:
    return identify({name: bundle.manifest.files[name].sha256 for name in (TOKENIZER, TABLE)})


def _cascade(folder: Path, decisions: Decisions) -> Cascade | None:
    if not (folder / TRANSFORMER).is_file():
        return None
    transformer = Transformer(folder / TRANSFORMER, folder / TRANSFORMER_TOKENIZER)
    return Cascade(transformer, decisions.transformer, decisions.cascade_margin)
