"""Last stage, and the order of the others: rows -> the files of a bundle -> its manifest.

    prepare -> lessons -> tune -> student -> heads; signatures; [findings of the last evaluation] -> **assemble** ->
    bundle

`build_models` is all that learns; the evaluation calls the same function for every group of sources that it leaves out.
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

from classifier.bundle import BundleFacts, Manifest, data_dir, write_manifest
from classifier.encoder import StaticEncoder, Tokenizer
from classifier.lexicon import count_features
from classifier.pipeline import TABLE, TOKENIZER
from classifier.shingles import Shingler
from classifier.signing import Family, Honest
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from classifier.transformer import TRANSFORMER
from classifier.types import Tier
from training import tune
from training.calibrate import load_findings
from training.encoder import (
    TAUGHT_CHARS,
    TEACHER_PACKAGE,
    TEACHER_TOKENS,
    Projection,
    distil,
    initial_table,
    packaged_teacher,
    teach,
    token_strings,
)
from training.heads import fit_intent, inverse_document_frequency, save_student, weighed_rows
from training.lessons import curriculum, intent_weights, intents, with_wordings
from training.places import check_replaceable, made
from training.prepare import BENIGN, EXTRACTION, PROMPT
from training.signatures import build, honest_texts, read_families, written_samples
from training.student import imitate, imitation
from training.tokenizer import train_tokenizer

WRITTEN_SAMPLES = 150  # prompts made of each family whose text is ours
LEAST_APP_ROWS = 5
MOST_READ = {PROMPT: 600, EXTRACTION: 40, BENIGN: 10}  # rows of a part that the teacher reads aloud to the student
MOST_CHARS = 8000
LIBRARIES = ("faiss-cpu", "numpy", "onnx", "scikit-learn", "sentence-transformers", "tokenizers", "torch")
DATA_FILES = ("prompts.parquet", "extraction_traffic.parquet", "benign_apps.parquet")

TOKEN_PIECES = 16  # word pieces of a token's spelling that the sentence transformer reads

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a build can be told: the sentence transformer to tune (its folder), steps, seed."""

    transformer: str
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """Of the sentence transformer, as `--encoder` takes it; a folder without the folders that it lies in."""
        packaged = Path(self.transformer) == packaged_teacher()
        return TEACHER_PACKAGE if packaged else Path(self.transformer).resolve().name


def default_recipe(seed: int) -> Recipe:
    """The recipe of the bundle that ships."""
    return Recipe(str(packaged_teacher()), tune.STEPS, seed)


def geometry(rows: pd.DataFrame, work: Path) -> Floats:
    """The packaged sentence transformer's embeddings of the rows to learn from, [n, d], NaN elsewhere; kept in `work`,
    since no fold changes them."""
    learnt = rows["learn"].to_numpy(bool)
    texts = rows["text"][learnt].str.slice(0, TAUGHT_CHARS).tolist()
    content = chr(0).join([*texts, version(TEACHER_PACKAGE), str(TEACHER_TOKENS)])
    path = work / f"lessons-{sha256(content.encode('utf-8', 'replace')).hexdigest()[:16]}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, teach(texts, packaged_teacher()).astype(np.float16))
        partial.rename(path)
    everything = np.full((len(rows), np.load(path, mmap_mode="r").shape[1]), np.nan, np.float32)
    everything[learnt] = np.load(path)
    return everything


def build_models(rows: pd.DataFrame, embedded: Floats, folder: Path, recipe: Recipe, log: Log) -> tune.Tuned:
    """Learn both tiers and the signatures from `rows` (index 0..n) and their `geometry`; write the static tier and
    signatures into `folder`."""
    learnt = rows["learn"].to_numpy(bool)
    log("tokenizer, and the geometry of texts")
    subset = rows[learnt].reset_index(drop=True)
    table = _build_table(subset, embedded[learnt], folder, recipe.seed)
    lessons = with_wordings(subset, recipe.seed)
    lesson = curriculum(lessons)
    log(f"tuning the transformer on {len(lessons)} texts")
    texts = lessons["text"].str.slice(0, MOST_CHARS)
    tuned = tune.tune(recipe.transformer, texts.tolist(), lesson, recipe.seed, log, recipe.steps)
    heard = _read_aloud(lessons, lesson)
    log(f"the transformer reads {len(heard)} texts to the student")
    told = tuned.read(texts.iloc[heard].tolist())
    log("the student learns")
    encoder = _build_student(lessons, heard, told, table, folder, recipe.seed)
    log("signatures")
    build_index(rows, encoder, recipe.seed).save(folder)
    return tuned


def _read_aloud(lessons: pd.DataFrame, lesson: tune.Lesson) -> Ints:
    """Rows that are drawn at all, the first few of every part."""
    rank = lessons.groupby(["role", "part"]).cumcount().to_numpy()
    return np.flatnonzero((lesson.draws > 0) & (rank < lessons["role"].map(MOST_READ).to_numpy()))


def _build_table(rows: pd.DataFrame, embedded: Floats, folder: Path, seed: int) -> Floats:
    train_tokenizer([normalise_text(text) for text in rows["text"]], folder / TOKENIZER)
    tokenizer = Tokenizer(folder / TOKENIZER)
    heads = tokenizer.encode([normalise_text(text[:TAUGHT_CHARS]) for text in rows["text"]])
    project = Projection(embedded, seed)
    spelt = teach(token_strings(tokenizer), packaged_teacher(), TOKEN_PIECES)
    return distil(heads, project(embedded), initial_table(spelt, heads, project), folder / TOKENIZER, seed)


def _build_student(
    lessons: pd.DataFrame, heard: Ints, told: tune.Told, table: Floats, folder: Path, seed: int
) -> StaticEncoder:
    """Write the static tier: capabilities by imitation, the intent from what is known of it."""
    tokenizer = Tokenizer(folder / TOKENIZER)
    tokens = tokenizer.encode([normalise_text(text) for text in lessons["text"]])
    counts = count_features(tokens, tokenizer.vocab_size)
    idf = inverse_document_frequency(counts)
    features = weighed_rows(counts, idf)
    taught = imitation(told, curriculum(lessons.iloc[heard].reset_index(drop=True)))
    student = imitate(tokens.take(heard), features[heard], taught, table, seed)
    intent = fit_intent(features, intents(lessons), intent_weights(lessons))
    save_student(student, intent, idf, folder)
    return StaticEncoder.load(folder / TOKENIZER, folder / TABLE)


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


def assemble(
    rows: pd.DataFrame, data: Path, out: Path, work: Path, recipe: Recipe, with_transformer: bool, log: Log
) -> Manifest:
    """Train on all rows and replace the bundle in `out` with what comes of it, the transformer in it or left out."""
    check_replaceable(out)
    with tempfile.TemporaryDirectory(dir=made(out.parent)) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        log("the sentence transformer reads")
        tuned = build_models(rows, geometry(rows, work), folder, recipe, log)
        if with_transformer:
            tune.export(tuned, folder)
        shutil.copy(data_dir() / "taxonomy.toml", folder / "taxonomy.toml")
        manifest = sign(folder, _provenance(rows, data, recipe))
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        folder.rename(out)
    return manifest


def _provenance(rows: pd.DataFrame, data: Path, recipe: Recipe) -> dict[str, object]:
    files = {name: _digest(data / name) for name in DATA_FILES}
    written = {path.name: _digest(path) for path in sorted((data_dir() / "written").iterdir())}
    told = {"seed": recipe.seed, "steps": recipe.steps, "transformer": recipe.name}
    return {**told, "data": files | written, "rows": len(rows)}


def sign(folder: Path, provenance: dict[str, object]) -> Manifest:
    """Write the manifest over the files in `folder`, with the findings of an evaluation of its tiers."""
    found = load_findings()
    findings = found.cascade if (folder / TRANSFORMER).exists() else found.static
    facts = BundleFacts(
        decisions=findings.decisions,
        baselines=findings.baselines,
        certification=findings.certification,
        provenance=provenance,
        quality=findings.quality,
        versions={name: version(name) for name in LIBRARIES},
    )
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone
    return write_manifest(folder, facts)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
