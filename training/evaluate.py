"""The report card: what the product says of sources, families and applications that were left out of everything it
learnt.

    rows -> for every group of folds: a build without it, labels of its rows -> decisions, contenders -> card, findings

Left out are whole sources and their near-duplicates, and of the families that stay one bucket of payloads, so that
known families are measured on unseen payloads by the same builds. Calibration and thresholds of a group are fitted on
what was said of the other groups. Groups are kept in the work folder as they are done, so a stopped evaluation goes on.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from classifier.bundle import Decisions
from classifier.heads import LOGITS, UNCALIBRATED, calibrated_probabilities
from classifier.labeler import MATCH_CERTAINTY, Labeler, decide_capability, undecided
from classifier.pipeline import load_labeler
from classifier.types import CAPABILITIES, EVENT_SCHEMA, TARGETS, Tier
from training.assemble import Log, Models, Recipe, build_models, geometry
from training.baselines import baseline_labels
from training.calibrate import Findings, calibrate, conduct, decide, honest_accounts, measured, save_findings
from training.card import write_card
from training.card_types import CardFacts, Contender
from training.heads import macro_f1
from training.lessons import intents
from training.prepare import BENIGN, EXTRACTION, FOLDS, LABELS, PROMPT, payload_buckets, source_weights

PAYLOAD_BUCKETS = 5
MOST_READ = {PROMPT: 400, EXTRACTION: 25, BENIGN: 8}  # rows of a part that the transformer is asked about
CASCADE_MARGINS = (0.3, 0.6, 0.9)
RAW = Decisions(UNCALIBRATED, UNCALIBRATED, dict.fromkeys(CAPABILITIES, 0.4), 0.0)
STATIC = [f"static_{i}" for i in range(LOGITS)]
TRANSFORMER = [f"transformer_{i}" for i in range(LOGITS)]
BLOCK = 4096

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Groups:
    """The folds are left out in `count` groups, of which the `first` few are measured."""

    count: int
    first: int


def evaluate(rows: pd.DataFrame, recipe: Recipe, groups: Groups, work: Path, folder: Path, log: Log) -> None:
    """Write `CARD.md`, `card.html` and `findings.json` into `folder`."""
    started = time.monotonic()
    parts = [_kept(rows, recipe, groups.count, group, work, log) for group in range(groups.first)]
    labels = pd.concat(parts, ignore_index=True)
    log("decisions, baselines to compare with, card")
    said = said_of_left_out(labels)
    findings = find(labels, said)
    save_findings(findings, folder / "findings.json")
    facts = CardFacts(
        title="Report card",
        command=f"probewatch evaluate --data DIR --groups {groups.count} --first {groups.first}",
        seed=recipe.seed,
        seconds=time.monotonic() - started,
        machine=f"{platform.machine()}, {torch_threads()} cores",
        notes=_notes(groups, labels),
    )
    card = folder / "CARD.md"
    write_card([*contenders(labels, said), *baseline_contenders(labels)], facts, card, folder / "card.html")
    print(card.read_text(encoding="utf-8"))


def _notes(groups: Groups, labels: pd.DataFrame) -> tuple[str, ...]:
    return (
        f"{FOLDS} folds were left out in {groups.count} groups, of which {groups.first} were measured:"
        f" {int((~labels['known']).sum())} rows were judged by builds without their source and its near-duplicates.",
        "Thresholds and calibration of a group were fitted on what was said of the other groups.",
        "The transformer was run in bfloat16; parity of its int8 graph is a test.",
    )


def torch_threads() -> int:
    """Cores that the builds used."""
    import torch

    return int(torch.get_num_threads())


# --- what is said of rows left out
# ---------------------------------------------------------------------------------------------


def _kept(rows: pd.DataFrame, recipe: Recipe, groups: int, group: int, work: Path, log: Log) -> pd.DataFrame:
    """The labels of a group, from the work folder if they are there."""
    texts = sha256("\0".join([*rows["text"], *rows["lesson"], repr(recipe)]).encode("utf-8", "replace")).hexdigest()[
        :12
    ]
    path = work / f"left-out-{texts}-{group}-of-{groups}.parquet"
    if not path.is_file():
        log(f"group {group + 1} of {groups}")
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        left_out(rows, geometry(rows, work), recipe, groups, group, log).to_parquet(partial)
        partial.rename(path)
    return pd.read_parquet(path)


def left_out(
    rows: pd.DataFrame, embedded: NDArray[np.float32], recipe: Recipe, groups: int, group: int, log: Log
) -> pd.DataFrame:
    """The rows of a group of folds (`known` False) and the unseen payloads of known families (`known` True), with what
    a build without them says: logits of both tiers, matches, and what the fusion makes of the intent."""
    folds = rows["fold"].to_numpy()
    out = (folds >= 0) & (folds % groups == group)
    kin = rows["lineage"].isin(set(rows["lineage"][out])).to_numpy()
    extraction = ((rows["role"] == EXTRACTION) & rows["has_template"].astype(bool)).to_numpy()
    known = extraction.copy()
    known[extraction] = payload_buckets(rows[extraction].reset_index(drop=True), PAYLOAD_BUCKETS) == 0
    known &= ~out
    tested = rows["learn"].to_numpy(bool) & (out | known)
    learnt = ~(out | kin | known)
    with tempfile.TemporaryDirectory() as temporary:
        models = build_models(rows[learnt].reset_index(drop=True), embedded[learnt], Path(temporary), recipe, log)
        labeler = load_labeler(Path(temporary), RAW)
    log("labels of what was left out")
    test = rows[tested].assign(known=known[tested], group=group, length=rows["text"][tested].str.len())
    test = test.reset_index(drop=True)
    said = [_static_says(labeler, test["text"]), _transformer_says(models, test)]
    said.append(_baselines_say(rows, embedded, learnt & rows["learn"].to_numpy(bool), tested, log))
    return pd.concat([test.drop(columns="whole"), *said], axis=1)


def _static_says(labeler: Labeler, texts: pd.Series) -> pd.DataFrame:
    """Logits of the heads, and what the fusion makes of them."""
    blocks = [texts.iloc[start : start + BLOCK].tolist() for start in range(0, len(texts), BLOCK)]
    logits = np.concatenate([to_logits(labeler.read(block).probabilities) for block in blocks])
    labels = labeler.label(_events(texts)).labels
    tiers = {signature.facts.family: signature.facts.tier for signature in labeler.templates.signatures}
    families, apps = labels["template_family"].to_pylist(), labels["benign_app"].to_pylist()
    fused = labels["p_extraction"].to_numpy()
    facts = {
        "exclusive": [tiers.get(family) is Tier.EXCLUSIVE for family in families],
        "matched": [family is not None for family in families],
        "explained": [app is not None and p == 0 for app, p in zip(apps, fused, strict=True)],
        "fused": fused,
    }
    return pd.DataFrame(facts | dict(zip(STATIC, logits.T, strict=True)))


def to_logits(probabilities: NDArray[np.float32]) -> Floats:
    """Logits [n, LOGITS] that `calibrated_probabilities` would turn into these, uncalibrated."""
    p = probabilities.astype(float)
    shares = np.column_stack([p[:, :-1], 1 - p[:, :-1].sum(axis=1)]).clip(1e-7, 1)
    return np.column_stack([np.log(shares), logit(p[:, -1])])


def logit(p: Floats) -> Floats:
    """log(p / (1 - p)), within +-16."""
    bounded = np.clip(p, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))


def _transformer_says(models: Models, rows: pd.DataFrame) -> pd.DataFrame:
    """Logits of the transformer, NaN for rows that it is not asked about: the first few of every part, and what was
    labelled by hand, suffice."""
    few = (rows.groupby(["role", "part"]).cumcount() < rows["role"].map(MOST_READ)).to_numpy()
    asked = np.flatnonzero(few | (rows["gold"] != "").to_numpy())
    logits = np.full((len(rows), LOGITS), np.nan)
    logits[asked] = models.transformer.read(rows["text"].iloc[asked].tolist()).logits
    return pd.DataFrame(logits, columns=TRANSFORMER)


def _baselines_say(
    rows: pd.DataFrame, embedded: NDArray[np.float32], learnt: Bools, tested: Bools, log: Log
) -> pd.DataFrame:
    log("baselines to compare with")
    subset = rows[learnt].reset_index(drop=True)
    return baseline_labels(
        subset, intents(subset), rows[tested].reset_index(drop=True), embedded[learnt], embedded[tested]
    )


def _events(texts: pd.Series) -> pa.RecordBatch:
    n = len(texts)
    columns = [
        pa.array([str(i) for i in range(n)]),
        pa.array(["evaluation"] * n),
        pa.array(np.arange(n), pa.int64()).cast(EVENT_SCHEMA.field("timestamp").type),
        pa.nulls(n, pa.string()),
        pa.array(texts, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


# --- decisions, and who is compared
# ------------------------------------------------------------------------------------------


Said = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Probabilities [n, 4] of the static tier and of the transformer (NaN where it was not asked), and thresholds [n,
3]."""


def said_of_left_out(labels: pd.DataFrame) -> Said:
    """Every row by the decisions of the other groups."""
    static, transformer = labels[STATIC].to_numpy(float), labels[TRANSFORMER].to_numpy(float)
    p_static, p_transformer = (np.zeros((len(labels), LOGITS - 1), np.float32) for _ in range(2))
    thresholds = np.zeros((len(labels), len(CAPABILITIES)), np.float32)
    unseen = ~labels["known"].to_numpy(bool)
    for group in labels["group"].unique():
        of_group = (labels["group"] == group).to_numpy()
        others = unseen & ~of_group
        decisions = decide(labels[others], static[others], transformer[others])
        p_static[of_group] = calibrated_probabilities(static[of_group].astype(np.float32), decisions.static)
        told = transformer[of_group].astype(np.float32)
        p_transformer[of_group] = calibrated_probabilities(told, decisions.transformer)
        thresholds[of_group] = [decisions.thresholds[name] for name in CAPABILITIES]
    return p_static, p_transformer, thresholds


def contenders(labels: pd.DataFrame, said: Said) -> Iterator[Contender]:
    """The static tier, the transformer, and cascades of both."""
    static, transformer, thresholds = said
    asked = ~np.isnan(transformer[:, 0])
    yield _contender("static", labels, static, thresholds)
    yield _contender("transformer", labels[asked], transformer[asked], thresholds[asked])
    for margin in (*CASCADE_MARGINS, 2.0):
        rows = undecided(static[asked], margin)[:, None]
        p = np.where(rows, (static[asked] + transformer[asked]) / 2, static[asked])
        name = f"cascade {margin}, {rows.mean():.0%} asked" if margin <= 1 else "both tiers averaged"
        yield _contender(name, labels[asked], p, thresholds[asked])


def _contender(name: str, labels: pd.DataFrame, p: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Contender:
    table = labels.assign(
        capability=[TARGETS[i] for i in decide_capability(p, thresholds)],
        **{f"p_{capability}": p[:, i].astype(float) for i, capability in enumerate(CAPABILITIES)},
        p_extraction=_fused(labels, p[:, -1]),
    )
    known = table["known"] | (table["role"] != EXTRACTION)
    return Contender(name, table[~table["known"]], table[known], microseconds=None)


def _fused(labels: pd.DataFrame, p: NDArray[np.float32]) -> Floats:
    """Extraction probability as the labeler gives it: certain for exclusive matches, none for what is explained."""
    certain = np.where(labels["exclusive"], np.maximum(p, MATCH_CERTAINTY), p)
    return np.where(labels["explained"], 0.0, certain)


def baseline_contenders(labels: pd.DataFrame) -> Iterator[Contender]:
    """What was said by models that anyone would try first."""
    for name in sorted({column.split(":")[0] for column in labels.columns if ":" in column}):
        p = labels[[f"{name}:{i}" for i in range(len(LABELS))]].to_numpy(float)
        asked = ~np.isnan(p[:, 0])
        table = labels[asked].assign(
            capability=[LABELS[i] for i in p[asked].argmax(axis=1)],
            **{f"p_{capability}": p[asked, i] for i, capability in enumerate(CAPABILITIES)},
            p_extraction=labels[f"{name}:intent"][asked].to_numpy(float),
        )
        known = table[table["known"] | (table["role"] != EXTRACTION)] if table["p_extraction"].notna().all() else None
        yield Contender(name, table[~table["known"]], known, microseconds=None, baseline=True)


def find(labels: pd.DataFrame, said: Said) -> Findings:
    """Decisions and baselines of the next bundle."""
    unseen = labels[~labels["known"]].reset_index(drop=True)
    decisions = decide(unseen, unseen[STATIC].to_numpy(float), unseen[TRANSFORMER].to_numpy(float))
    static, _, thresholds = said
    table = _contender("static", labels, static, thresholds).labels
    baselines, strata = calibrate([conduct(name, account) for name, account in honest_accounts(table)])
    known = measured(table)
    truth = table["label"][known].map(LABELS.index).to_numpy()
    named = table["capability"][known].map(LABELS.index).to_numpy()
    quality = macro_f1(truth, named, source_weights(table["source"][known]))
    return Findings(decisions, baselines, strata, {"capability_macro_f1_sources_left_out": round(quality, 4)})
