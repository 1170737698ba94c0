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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from classifier.bundle import Decisions, data_dir
from classifier.heads import LOGITS, UNCALIBRATED, calibrated_probabilities
from classifier.labeler import Labeler, cascaded, decide_capability, fused_extraction, undecided
from classifier.pipeline import load_labeler
from classifier.types import CAPABILITIES, EVENT_SCHEMA, TARGETS, Tier
from training.assemble import Log, Recipe, build_models, geometry
from training.baselines import AS_SOURCED, CURVE, MINILM, SHARES, baseline_labels, learning_curve
from training.calibrate import (
    CASCADE_MARGIN,
    Conduct,
    Findings,
    TierFindings,
    calibrate,
    conduct,
    decide,
    honest_accounts,
    measured,
    save_findings,
)
from training.card import write_card
from training.card_types import CardFacts, Contender
from training.costs import Costs, prompts_of_500_bytes, tier_costs
from training.heads import macro_f1
from training.lessons import intents
from training.prepare import BENIGN, EXTRACTION, FOLDS, LABELS, PROMPT, payload_buckets, source_weights
from training.tune import Tuned
from training.written import digest, readings

PAYLOAD_BUCKETS = 5
MOST_READ = {PROMPT: 400, EXTRACTION: 25, BENIGN: 8}  # rows of a part that the transformer is asked about
COSTED = 4096  # prompts that costs are measured on
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
    parts = [kept_labels(rows, recipe, groups.count, group, work, log) for group in range(groups.first)]
    labels, costs = pd.concat(parts, ignore_index=True), parts[0].attrs
    log("decisions, baselines to compare with, card")
    said = said_of_left_out(labels)
    findings = find(labels, said)
    save_findings(findings, folder / "findings.json")
    told = f"--groups {groups.count} --first {groups.first} --encoder {recipe.name}"
    facts = CardFacts(
        title="Report card",
        command=f"probewatch evaluate --data DIR {told}",
        seed=recipe.seed,
        seconds=time.monotonic() - started,
        machine=f"{platform.machine()}, {torch_threads()} cores",
        notes=_notes(groups, labels),
        learning_curve=curve(labels),
        strays=strays(rows),
    )
    card = folder / "CARD.md"
    compared = [*contenders(labels, said, costs), *baseline_contenders(labels)]
    write_card(compared, facts, card, folder / "card.html")
    print(card.read_text(encoding="utf-8"))


def _notes(groups: Groups, labels: pd.DataFrame) -> tuple[str, ...]:
    return (
        f"{FOLDS} folds were left out in {groups.count} groups, of which {groups.first} were measured:"
        f" {int((~labels['known']).sum())} rows were judged by builds without their source and its near-duplicates.",
        "Thresholds and calibration of a group were fitted on what was said of the other groups.",
        "Prompts written for training are in every build. Some were composed after earlier cards had shown which kinds"
        " of prompts are missed: kinds, not their texts, but figures on those kinds flatter.",
        "The transformer was run in bfloat16; parity of its int8 graph is a test.",
        "What these labels amount to, verdicts on accounts and campaigns, is in `training/card/accounts.md`, printed by"
        " `python -m tests.benchmarks.accounts --data DIR --out training/card`.",
        f"Stray labels set right by readers: {MINILM} has macro-F1 {_quality(labels, f'{CURVE}{SHARES[-1]}'):.3f} with"
        f" them and {_quality(labels, AS_SOURCED):.3f} with the labels of the sources.",
    )


def curve(labels: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1 of MiniLM + LR by the share of sources learnt from (see `CardFacts.learning_curve`)."""
    quality = [_quality(labels, f"{CURVE}{share}") for share in SHARES]
    return pd.DataFrame({"share": SHARES, "macro_f1": quality, "contender": MINILM})


def _quality(labels: pd.DataFrame, column: str) -> float:
    """Macro-F1 of what a column names (index into LABELS)."""
    rows = labels[measured(labels)]
    truth = rows["label"].map(LABELS.index).to_numpy()
    return macro_f1(truth, rows[column].to_numpy(), source_weights(rows["source"]))


def strays(rows: pd.DataFrame) -> pd.DataFrame:
    """What readers made of labelled sources (see `CardFacts.strays`)."""
    labelled = rows[measured(rows)]
    read = labelled[labelled["whole"].map(digest).isin(readings().keys())]
    wrong = read["lesson"] != read["label"]
    found = wrong.groupby(read["part"]).agg(["size", "sum"]).reset_index()
    return found.set_axis(["source", "read", "stray"], axis=1)


def torch_threads() -> int:
    """Cores that the builds used."""
    import torch

    return int(torch.get_num_threads())


# --- what is said of rows left out
# ---------------------------------------------------------------------------------------------


def kept_labels(rows: pd.DataFrame, recipe: Recipe, groups: int, group: int, work: Path, log: Log) -> pd.DataFrame:
    """The labels of a group, from the work folder if they are there."""
    path = work / f"left-out-{inputs_digest(rows, recipe)}-{group}-of-{groups}.parquet"
    if not path.is_file():
        log(f"group {group + 1} of {groups}")
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        left_out(rows, geometry(rows, work), recipe, groups, group, log).to_parquet(partial)
        partial.rename(path)
    return pd.read_parquet(path)


def inputs_digest(rows: pd.DataFrame, recipe: Recipe) -> str:
    """Names what a group is built from, but for the code: after a change of that, empty the work folder."""
    columns = sorted(set(rows.columns) - {"whole"})
    digests = pd.util.hash_pandas_object(rows[columns].astype(str), index=False).to_numpy().tobytes()
    files = sorted(path for folder in ("written", "templates") for path in (data_dir() / folder).glob("*.*"))
    return sha256(b"".join([digests, *(path.read_bytes() for path in files), repr(recipe).encode()])).hexdigest()[:12]


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
    known &= ~(out | kin)
    tested = (rows["learn"] & rows["measure"]).to_numpy(bool) & (out | known)
    learnt = ~(out | kin | known)
    with tempfile.TemporaryDirectory() as temporary:
        tuned = build_models(rows[learnt].reset_index(drop=True), embedded[learnt], Path(temporary), recipe, log)
        labeler = load_labeler(Path(temporary), RAW)
    log("labels of what was left out")
    test = rows[tested].assign(known=known[tested], group=group, length=rows["text"][tested].str.len())
    test = test.reset_index(drop=True)
    said = [_static_says(labeler, test["text"]), _transformer_says(tuned, test, recipe.seed)]
    said += _baselines_say(rows, embedded, learnt & rows["learn"].to_numpy(bool), tested, recipe.seed, log)
    labels = pd.concat([test.drop(columns="whole"), *said], axis=1)
    labels.attrs = tier_costs(labeler, tuned, prompts_of_500_bytes(rows["whole"], COSTED, recipe.seed))
    return labels


def _static_says(labeler: Labeler, texts: pd.Series) -> pd.DataFrame:
    """Logits of the heads (the intent's of what no benign signature excuses), and what was matched."""
    blocks = [texts.iloc[start : start + BLOCK].tolist() for start in range(0, len(texts), BLOCK)]
    logits = np.concatenate([to_logits(labeler.read(block).probabilities) for block in blocks])
    labels = labeler.label(_events(texts)).labels
    tiers = {signature.facts.id: signature.facts.tier for signature in labeler.templates.signatures}
    templates, apps = labels["template_id"].to_pylist(), labels["benign_app"].to_pylist()
    fused = labels["p_extraction"].to_numpy().astype(float)
    exclusive = np.array([tiers.get(template) is Tier.EXCLUSIVE for template in templates])
    explained = np.array([app is not None for app in apps]) & (fused == 0)
    matched = np.array([template is not None for template in templates])
    logits[:, -1] = np.where(matched | explained, logits[:, -1], logit(fused))
    facts = {"exclusive": exclusive, "matched": matched, "explained": explained}
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


def _transformer_says(tuned: Tuned, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Logits of the transformer, NaN for rows that it is not asked about: some of every part, and what was labelled by
    hand, suffice."""
    shuffled = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    rank = shuffled.groupby(["role", "part"]).cumcount().reindex(rows.index)
    few = (rank < rows["role"].map(MOST_READ)).to_numpy()
    asked = np.flatnonzero(few | (rows["gold"] != "").to_numpy())
    logits = np.full((len(rows), LOGITS), np.nan)
    logits[asked] = tuned.read(rows["text"].iloc[asked].tolist()).logits
    return pd.DataFrame(logits, columns=TRANSFORMER)


def _baselines_say(
    rows: pd.DataFrame, embedded: NDArray[np.float32], learnt: Bools, tested: Bools, seed: int, log: Log
) -> list[pd.DataFrame]:
    log("baselines to compare with")
    subset, asked = rows[learnt].reset_index(drop=True), rows[tested].reset_index(drop=True)
    return [
        baseline_labels(subset, intents(subset), asked, embedded[learnt], embedded[tested]),
        learning_curve(subset, asked, embedded[learnt], embedded[tested], seed),
    ]


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


@dataclass(frozen=True)
class Said:
    """Of every row, by the decisions of the other groups: probabilities [n, 4] of the static tier and of the
    transformer (NaN where it was not asked), and thresholds [n, 3] of the static tier and of the cascade."""

    static: NDArray[np.float32]
    transformer: NDArray[np.float32]
    static_thresholds: NDArray[np.float32]
    cascade_thresholds: NDArray[np.float32]


def said_of_left_out(labels: pd.DataFrame) -> Said:
    """Calibrate and decide each group by what was found on the others."""
    static, transformer = labels[STATIC].to_numpy(float), labels[TRANSFORMER].to_numpy(float)
    n, unseen = len(labels), ~labels["known"].to_numpy(bool)
    widths = (len(LABELS), len(LABELS), len(CAPABILITIES), len(CAPABILITIES))
    said = Said(*(np.zeros((n, width), np.float32) for width in widths))
    for group in labels["group"].unique():
        of_group = (labels["group"] == group).to_numpy()
        others = unseen & ~of_group
        alone, cascade = decide(labels[others].reset_index(drop=True), static[others], transformer[others])
        said.static[of_group] = calibrated_probabilities(static[of_group].astype(np.float32), alone.static)
        told = transformer[of_group].astype(np.float32)
        said.transformer[of_group] = calibrated_probabilities(told, cascade.transformer)
        said.static_thresholds[of_group] = [alone.thresholds[name] for name in CAPABILITIES]
        said.cascade_thresholds[of_group] = [cascade.thresholds[name] for name in CAPABILITIES]
    return said


def contenders(labels: pd.DataFrame, said: Said, costs: Costs) -> Iterator[Contender]:
    """The static tier; and on the rows that the transformer was asked about, both tiers and cascades of them."""
    first, second = costs["static"], costs["transformer"]
    yield _contender("static", labels, said.static, said.static_thresholds, first)
    asked = ~np.isnan(said.transformer[:, 0])
    rows, static, transformer = labels[asked], said.static[asked], said.transformer[asked]
    thresholds = said.cascade_thresholds[asked]
    yield _contender("static, rows of the transformer", rows, static, said.static_thresholds[asked], first)
    yield _contender("transformer", rows, transformer, thresholds, second)
    for margin in CASCADE_MARGINS:
        share = undecided(static, margin).mean()
        told = cascaded(static, transformer, margin)
        yield _contender(f"cascade {margin}, {share:.0%} asked", rows, told, thresholds, first + share * second)
    yield _contender("both tiers, always", rows, cascaded(static, transformer, 2.0), thresholds, first + second)


def _contender(
    name: str,
    labels: pd.DataFrame,
    p: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    microseconds: float | None = None,
) -> Contender:
    table = labels.assign(
        capability=[TARGETS[i] for i in decide_capability(p, thresholds)],
        **{f"p_{capability}": p[:, i].astype(float) for i, capability in enumerate(CAPABILITIES)},
        p_extraction=_fused(labels, p[:, -1]),
    )
    known = table["known"] | (table["role"] != EXTRACTION)
    return Contender(name, table[~table["known"]], table[known], microseconds)


def _fused(labels: pd.DataFrame, p: NDArray[np.float32]) -> Floats:
    """Extraction probability as the labeler gives it: certain for matches, none for what is explained."""
    exclusive, matched = labels["exclusive"].to_numpy(bool), labels["matched"].to_numpy(bool)
    fused = fused_extraction(p, exclusive, matched & ~exclusive).astype(float)
    return np.where(labels["explained"], 0.0, fused)


def baseline_contenders(labels: pd.DataFrame) -> Iterator[Contender]:
    """What was said by models that anyone would try first."""
    for name in sorted({column.split(":")[0] for column in labels.columns if column.endswith(":intent")}):
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
    """What the bundles of either tier need to know."""
    unseen = labels[~labels["known"]].reset_index(drop=True)
    alone, cascade = decide(unseen, unseen[STATIC].to_numpy(float), unseen[TRANSFORMER].to_numpy(float))
    asked = ~np.isnan(said.transformer[:, 0])
    together = cascaded(said.static[asked], said.transformer[asked], CASCADE_MARGIN)
    first = _contender("static", labels, said.static, said.static_thresholds).labels
    both = _contender("cascade", labels[asked], together, said.cascade_thresholds[asked]).labels
    return Findings(_tier_findings(alone, first, ()), _tier_findings(cascade, both, _conducts(first)))


def _conducts(table: pd.DataFrame) -> list[Conduct]:
    return [conduct(name, account) for name, account in honest_accounts(table)]


def _tier_findings(decisions: Decisions, table: pd.DataFrame, besides: Sequence[Conduct]) -> TierFindings:
    baselines, strata = calibrate(_conducts(table), besides)
    known = measured(table)
    truth = table["label"][known].map(LABELS.index).to_numpy()
    named = table["capability"][known].map(LABELS.index).to_numpy()
    quality = macro_f1(truth, named, source_weights(table["source"][known]))
    return TierFindings(decisions, baselines, strata, {"capability_macro_f1_sources_left_out": round(quality, 4)})
