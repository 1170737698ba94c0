"""Sixth stage: what was said of sources left out -> decisions, and the baselines that evidence is counted against.

    labels of rows that no model learnt from -> `Findings` -> training/findings.json -> the manifest

Thresholds, calibration and baselines must come from models that never saw the source, and those are what an evaluation
builds. So the evaluation writes findings; put where this module looks for them, they go into the bundles trained from
then on. All are a few numbers, and findings of one edition of the data serve the next.

Honest accounts are applications, and people composed of conversations of one source. Half of the sources set the
baselines, the other half certify them (DESIGN.md section 6).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from classifier.bundle import Decisions, Stratum, parse_baselines, parse_decisions
from classifier.certification import MOST_M2, certify, exceeds, expected_intent, intent_baselines
from classifier.evidence import Baselines
from classifier.heads import UNCALIBRATED, Calibration, calibrated_probabilities
from classifier.labeler import cascaded, decide_capability
from classifier.text import head_anchor, normal_form
from classifier.types import CAPABILITIES, LEVELS
from training.heads import macro_f1
from training.prepare import BENIGN, EXTRACTION, LABELS, PROMPT, source_weights

FINDINGS = Path(__file__).parent / "findings.json"
APPLICATIONS, PEOPLE, SOURCES = "applications", "people", "sources"
M1 = 1e-3
PERSON_PROMPTS = 30
THRESHOLDS = tuple(np.round(np.arange(0.2, 0.91, 0.02), 2).tolist())
MOST_FALSE_ALARMS = 0.02  # agentic or planning named on organic prompts that ask for neither
ALARM_PRICE = 0.5  # macro-F1 that a false-alarm rate above it costs, each per unit
CASCADE_MARGIN = 0.6  # asks for half of the prompts and is no worse than asking always, see the report card

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class TierFindings:
    """What an evaluation found of one tier on sources left out: what a bundle of that tier needs to know."""

    decisions: Decisions
    baselines: Baselines
    certification: tuple[Stratum, ...]
    quality: Mapping[str, float]


@dataclass(frozen=True)
class Findings:
    """Of the static tier alone, and of the cascade of both tiers."""

    static: TierFindings
    cascade: TierFindings


def save_findings(findings: Findings, path: Path) -> None:
    """Write findings as JSON, whole or not at all."""
    partial = path.with_suffix(".partial")
    document = {"targets": LABELS, **asdict(findings)}
    partial.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def load_findings(path: Path = FINDINGS) -> Findings:
    """Read what `save_findings` wrote. Of a capability that they were not made with it is taken that it is called as
    the others are, and intent is not bet on for it: that takes an evaluation."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Findings(*(_parse(content[tier], content["targets"]) for tier in ("static", "cascade")))


def _parse(content: dict[str, Any], targets: Sequence[str]) -> TierFindings:
    decisions, m2 = content["decisions"], dict(zip(targets, content["baselines"]["m2"], strict=True))
    content["baselines"]["m2"] = [m2.get(name, MOST_M2) for name in LABELS]
    thresholds = decisions["thresholds"]
    decisions["thresholds"] = {name: thresholds.get(name, max(thresholds.values())) for name in CAPABILITIES}
    for calibration in (decisions["static"], decisions["transformer"]):
        for name in ("scale", "shift"):
            *same, intent = calibration[name]
            calibration[name] = [*(same[:1] * len(LABELS)), intent]
    return TierFindings(
        decisions=parse_decisions(content["decisions"]),
        baselines=parse_baselines(content["baselines"]),
        certification=tuple(Stratum(**stratum) for stratum in content["certification"]),
        quality={name: float(value) for name, value in content["quality"].items()},
    )


# --- decisions
# ----------------------------------------------------------------------------------------------------------------


def measured(rows: pd.DataFrame) -> Bools:
    """Rows whose source has a capability label, but for those written for training."""
    return np.asarray((rows["role"] == PROMPT) & (rows["label"] != "") & ~rows["train_only"].astype(bool))


def fit_calibration(rows: pd.DataFrame, logits: Floats) -> Calibration:
    """What makes the logits [n, 5] of left-out rows likeliest: one temperature for TARGETS (Guo et al. 2017), slope and
    shift for the intent (Platt 1999). Sources weigh the same. Shifts of TARGETS would fit the sources at hand, as
    thresholds of their own would (see `choose_thresholds`)."""
    known = measured(rows)
    truth = rows["label"][known].map(LABELS.index).to_numpy()
    weights = source_weights(rows["source"][known])
    scale = float(minimize(_target_loss, [1], (logits[known][:, :-1], truth, weights)).x[0])
    asked = ((rows["role"] == EXTRACTION) & rows["has_template"].astype(bool)).to_numpy()
    honest = (rows["role"] == BENIGN).to_numpy() | rows["organic"].to_numpy(bool)
    balance = np.zeros(len(rows))
    for kind in (asked, honest):
        balance[kind] = source_weights(rows["source"][kind]) / max(kind.sum(), 1)
    told = asked | honest
    slope, shift = minimize(_intent_loss, [1, 0], (logits[told, -1], asked[told], balance[told])).x
    return Calibration((scale,) * len(LABELS) + (float(slope),), (0.0,) * len(LABELS) + (float(shift),))


def _target_loss(scale: Floats, logits: Floats, truth: NDArray[np.int64], weights: Floats) -> float:
    scores = logits * scale[0]
    scores = scores - scores.max(axis=1, keepdims=True)
    likelihoods = scores[np.arange(len(truth)), truth] - np.log(np.exp(scores).sum(axis=1))
    return float(-np.average(likelihoods, weights=weights))


def _intent_loss(line: Floats, logits: Floats, truth: Bools, weights: Floats) -> float:
    scores = np.where(truth, 1, -1) * (logits * line[0] + line[1])
    return float(np.average(np.logaddexp(0, -scores), weights=weights))


def choose_thresholds(rows: pd.DataFrame, probabilities: NDArray[np.float32]) -> dict[str, float]:
    """Least probability to name a capability, the same for each: best macro-F1 on left-out sources, weighted equally,
    less the price of false alarms on organic prompts. A threshold for each fits the sources at hand: on others, that
    cost the cascade 0.03 to 0.05 macro-F1."""
    known, gold = measured(rows), _gold(rows)
    truth = rows["label"][known].map(LABELS.index).to_numpy()
    weights = source_weights(rows["source"][known])
    innocent = gold & ~rows["gold"].isin(CAPABILITIES[1:]).to_numpy()

    def worth(threshold: float) -> float:
        same = np.full(len(CAPABILITIES), threshold, np.float32)
        alarms = np.isin(decide_capability(probabilities[innocent], same), (1, 2)).mean() if innocent.any() else 0.0
        quality = macro_f1(truth, decide_capability(probabilities[known], same), weights)
        return quality - ALARM_PRICE * max(float(alarms) - MOST_FALSE_ALARMS, 0.0)

    return dict.fromkeys(CAPABILITIES, max(THRESHOLDS, key=worth))


def _gold(rows: pd.DataFrame) -> Bools:
    return np.asarray(rows["gold"].isin(LABELS) & (rows["gold_sure"] == 1))


def decide(rows: pd.DataFrame, static: Floats, transformer: Floats) -> tuple[Decisions, Decisions]:
    """Decisions of the static tier and of the cascade from what both said of left-out rows, logits [n, 5] each (NaN
    where the transformer was not asked)."""
    asked = ~np.isnan(transformer[:, 0])
    first = fit_calibration(rows, static)
    second = fit_calibration(rows[asked], transformer[asked]) if asked.any() else UNCALIBRATED
    alone = calibrated_probabilities(static.astype(np.float32), first)
    told = calibrated_probabilities(transformer[asked].astype(np.float32), second)
    together = cascaded(alone[asked], told, CASCADE_MARGIN)
    return (
        Decisions(first, second, choose_thresholds(rows, alone), CASCADE_MARGIN),
        Decisions(first, second, choose_thresholds(rows[asked], together), CASCADE_MARGIN),
    )


# --- baselines
# ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conduct:
    """An honest account: mean level x_c of its `n_units` units of intent for every target, [4], and its rate of
    exclusive matches."""

    stratum: str
    source: str
    fold: int
    n_units: int
    means: Floats
    match_rate: float


def honest_accounts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(stratum, rows) of every honest account: applications, and people of PERSON_PROMPTS prompts of one source."""
    for _, app in rows[rows["role"] == BENIGN].groupby("part", sort=True):
        yield APPLICATIONS, app
    for _, source in rows[(rows["role"] == PROMPT) & rows["organic"]].groupby("source", sort=True):
        ordered = source.sort_values("conversation", kind="stable")
        for start in range(0, len(ordered) - PERSON_PROMPTS + 1, PERSON_PROMPTS):
            yield PEOPLE, ordered.iloc[start : start + PERSON_PROMPTS]


def conduct(stratum: str, account: pd.DataFrame) -> Conduct:
    """An account as the evidence sees it: intent once per scaffold of what nothing matched, matches once per distinct
    prompt. Columns read: `text`, `p_*`, `exclusive`, `matched`, `explained`."""
    normal = [normal_form(text) for text in account["text"]]
    open_ended = ~(account["matched"] | account["explained"]).to_numpy(bool)
    anchors = pd.Series([head_anchor(text) for text in normal])
    first = np.zeros(len(account), np.bool_)
    first[open_ended] = ~anchors[open_ended].duplicated().to_numpy()
    p = account[[f"p_{name}" for name in CAPABILITIES]].to_numpy(float)[first]
    targets = np.column_stack([p, (1 - p.sum(axis=1)).clip(0)])
    levels = np.rint(LEVELS * account["p_extraction"].to_numpy(float)[first][:, None] * targets) / LEVELS
    distinct = ~pd.Series(normal).duplicated().to_numpy()
    return Conduct(
        stratum=stratum,
        source=str(account["source"].iloc[0]),
        fold=int(account["fold"].iloc[0]),
        n_units=int(first.sum()),
        means=levels.mean(axis=0) if first.any() else np.zeros(len(LABELS)),
        match_rate=float(account["exclusive"].to_numpy(bool)[distinct].mean()),
    )


def calibrate(conducts: list[Conduct], besides: Sequence[Conduct] = ()) -> tuple[Baselines, tuple[Stratum, ...]]:
    """Baselines from the even folds and their certificate from the odd ones, where `n` counts the accounts, and
    separately the sources that they come from: accounts of one source are alike, so only sources are independent.

    `besides`: the same accounts as another tier sees them, of more of their rows; baselines allow for these too.
    """
    fitted = [_expected([c for c in seen if c.fold % 2 == 0]) for seen in (conducts, besides)]
    baselines = Baselines(M1, intent_baselines(np.concatenate(fitted)))
    tested = [c for c in conducts if c.fold % 2 == 1]
    expected = _expected(tested)
    above = {id(c): exceeds(c.match_rate, means, baselines) for c, means in zip(tested, expected, strict=True)}
    strata = [certify(name, [above[id(c)] for c in tested if c.stratum == name]) for name in (APPLICATIONS, PEOPLE)]
    by_source: dict[str, bool] = {}
    for c in tested:
        by_source[c.source] = by_source.get(c.source, False) or above[id(c)]
    return baselines, (*strata, certify(SOURCES, list(by_source.values())))


def _expected(conducts: Sequence[Conduct]) -> Floats:
    """[A, 4], accounts of a source being of one kind (see `expected_intent`)."""
    means = np.array([c.means for c in conducts]).reshape(-1, len(LABELS))
    return expected_intent(means, np.array([c.n_units for c in conducts], int), [c.source for c in conducts])
