"""Sixth stage: what honest conduct looks like in numbers -> the baselines that evidence is counted against, and their
certificate.

Honest accounts are applications, and people composed of conversations of one source. Each is judged by models that
never saw its source: `held_out` probabilities from heads fitted without it, matches from an index built without it.
(Tokenizer and encoder, which see no label, know all sources.) Half of the sources set the baselines, the other half
certify them (DESIGN.md section 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from classifier.bundle import Stratum
from classifier.evidence import Baselines
from classifier.text import normalise_text, scaffold_anchors
from classifier.types import LEVELS
from training.prepare import BENIGN, PROMPT

APPLICATIONS, PEOPLE, SOURCES = "applications", "people", "sources"
M1 = 1e-3
M2_MARGIN = 1.5
MOST_M2 = 0.9  # above this a bet could win nothing; the intent channel is then as good as off
PERSON_PROMPTS = 30
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Conduct:
    """An honest account: mean level x_c of its units for every target, [4], and its rate of exclusive
    matches."""

    stratum: str
    source: str
    fold: int
    means: NDArray[np.float64]
    match_rate: float


def honest_accounts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(stratum, rows) of every honest account: applications, and people of PERSON_PROMPTS prompts of one source."""
    for _, app in rows[rows["role"] == BENIGN].groupby("part", sort=True):
        yield APPLICATIONS, app
    for _, source in rows[(rows["role"] == PROMPT) & rows["organic"]].groupby("source", sort=True):
        ordered = source.sort_values("conversation", kind="stable")
        for start in range(0, len(ordered) - PERSON_PROMPTS + 1, PERSON_PROMPTS):
            yield PEOPLE, ordered.iloc[start : start + PERSON_PROMPTS]


def conduct(stratum: str, account: pd.DataFrame, held_out: NDArray[np.float64], matched: NDArray[np.bool_]) -> Conduct:
    """An account as the evidence sees it: intent once per scaffold, matches once per distinct prompt."""
    normalised = [normalise_text(text) for text in account["whole"]]
    scaffolds = pd.Series([scaffold_anchors(text)[0] for text in normalised])
    first = ~scaffolds.duplicated().to_numpy()
    p = held_out[account.index][first]
    targets = np.concatenate([p[:, :-1], 1 - p[:, :-1].max(axis=1, keepdims=True)], axis=1)
    means = (np.rint(LEVELS * p[:, -1:] * targets) / LEVELS).mean(axis=0)
    distinct = ~pd.Series(normalised).duplicated().to_numpy()
    return Conduct(
        stratum=stratum,
        source=str(account["source"].iloc[0]),
        fold=int(account["fold"].iloc[0]),
        means=means,
        match_rate=float(matched[account.index][distinct].mean()),
    )


def calibrate(conducts: list[Conduct]) -> tuple[Baselines, tuple[Stratum, ...]]:
    """Baselines from the even folds and their certificate from the odd ones, where `n` counts the accounts, and
    separately the sources that they come from: accounts of one source are alike, so only sources are independent."""
    largest = np.max([c.means for c in conducts if c.fold % 2 == 0], axis=0, initial=0.0)
    m2 = np.clip(M2_MARGIN * largest, 1 / LEVELS, MOST_M2)
    baselines = Baselines(M1, (float(m2[0]), float(m2[1]), float(m2[2]), float(m2[3])))
    tested = [c for c in conducts if c.fold % 2 == 1]
    strata = [_certify(name, [c for c in tested if c.stratum == name], baselines) for name in (APPLICATIONS, PEOPLE)]
    by_source: dict[str, list[Conduct]] = {}
    for c in tested:
        by_source.setdefault(c.source, []).append(c)
    worst = [max(group, key=lambda c: exceeds(c, baselines)) for group in by_source.values()]
    return baselines, (*strata, _certify(SOURCES, worst, baselines))


def _certify(stratum: str, conducts: list[Conduct], baselines: Baselines) -> Stratum:
    above = sum(exceeds(c, baselines) for c in conducts)
    return Stratum(stratum, len(conducts), above, clopper_pearson_upper(above, len(conducts)))


def exceeds(conduct: Conduct, baselines: Baselines) -> bool:
    """Whether an account's rates are above the baselines."""
    return bool((conduct.means > np.array(baselines.m2)).any()) or conduct.match_rate > baselines.m1


def clopper_pearson_upper(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper limit of a proportion of which k of n were seen (Clopper & Pearson 1934); 1 - (1 - confidence)^(1/n) for k
    = 0."""
    return 1.0 if k >= n else float(beta.ppf(confidence, k + 1, n - k))
