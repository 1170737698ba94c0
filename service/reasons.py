"""Why an account was judged as it was, in sentences: the `reasons` of accounts.parquet. Pure functions on counts.

Used by `accounts`. They name families and numbers and never hold prompt text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from classifier.evidence import Baselines
from classifier.exceptions import AgreedException
from classifier.reachback import Link
from classifier.types import TARGETS, Decision
from service.report_words import counted, percent, title_of, visible
from service.timestamps import EARLIEST

MOST_EVENTS = 20
"""Events named as evidence of an account, the strongest."""
MOST_FAMILIES = 3
"""Families named, those with most units."""


@dataclass(frozen=True)
class FamilyUse:
    """Units of an account that match families of one tier, on how many days, and of each family, most first."""

    n_units: int
    n_days: int
    by_family: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class IntentUse:
    """Units of an account that no signature matched, and the mean of their extraction intent for each of TARGETS."""

    n_units: int
    means: tuple[float, ...]


@dataclass(frozen=True)
class Case:
    """An account as its reasons see it. `exclusive` matches count towards a flag, `public` ones do not;
    `n_campaign_accounts`: members of the campaign, 0 if it is none of them; `links`: what it sent of local families
    before they were approved."""

    decision: Decision
    capabilities: Sequence[str]
    n_units: int
    exclusive: FamilyUse | None = None
    public: FamilyUse | None = None
    intent: IntentUse | None = None
    campaign: str | None = None
    n_campaign_accounts: int = 0
    excused: Sequence[tuple[AgreedException, int]] = ()  # and how many of its units
    links: Sequence[Link] = ()


def reasons_of(case: Case, baselines: Baselines, least_units: int) -> list[str]:
    """Sentences, weightiest first; for `clear`, only what was excused. `least_units`: what it takes to be judged at
    all."""
    excused = [_excused(*pair) for pair in case.excused]
    if case.decision is Decision.CLEAR:
        return excused
    if case.decision is Decision.INSUFFICIENT_EVIDENCE:
        return [_too_few(case.n_units, least_units), *excused]
    said = []
    if case.exclusive is not None:
        rate = f"1 in {round(1 / baselines.m1):,}"
        said.append(f"{_matched(case.exclusive, case.n_units, 'known')}; within the baseline at most {rate} do")
    if case.public is not None:
        said.append(f"{_matched(case.public, case.n_units, 'public')}, which honest people send too")
    if case.intent is not None:
        said += _of_intent(case.intent, case.capabilities, baselines)
    said += [_linked(link) for link in case.links]
    if case.n_campaign_accounts:
        said.append(f"one of {case.n_campaign_accounts:,} accounts in {case.campaign}")
    return said + excused


def _excused(agreed: AgreedException, n_units: int) -> str:
    by = f"{visible(agreed.who)}, until {agreed.until}: {visible(agreed.why)}"
    return f"{counted(n_units, 'distinct prompt')} that match {visible(agreed.family)} count for nothing ({by})"


def _linked(link: Link) -> str:
    sent = f"sent {counted(link.n_units, 'distinct prompt')} of {visible(link.family)}"
    approved = f"{datetime.fromtimestamp(link.approval.us // 1_000_000, UTC):%Y-%m-%d}"
    if link.first_us < EARLIEST:
        return f"{sent}, its records without times; an analyst approved it on {approved}: linked, not evidence"
    return f"{sent} before an analyst approved it on {approved}: linked, not evidence"


def _matched(use: FamilyUse, n_units: int, kind: str) -> str:
    named = [f"{family} {n:,}" for family, n in use.by_family[:MOST_FAMILIES]]
    more = len(use.by_family) - len(named)
    families = ", ".join([*named, *([f"{more} more"] if more else [])])
    days = counted(use.n_days, "day")
    return f"{use.n_units:,} of {counted(n_units, 'distinct prompt')}, on {days}, match {kind} templates ({families})"


def _of_intent(use: IntentUse, capabilities: Sequence[str], baselines: Baselines) -> list[str]:
    """On the target, of those judged for, whose mean intent exceeds its baseline most; nothing if none does."""
    excess = [use.means[c] / baselines.m2[c] if name in capabilities else 0.0 for c, name in enumerate(TARGETS)]
    c = int(np.argmax(excess))
    if excess[c] <= 1:
        return []
    return [
        f"{counted(use.n_units, 'distinct prompt')} without a known template look made to harvest answers "
        f"({title_of(TARGETS[c])}): intent is {percent(use.means[c])} on average, within the baseline at most "
        f"{percent(baselines.m2[c])}"
    ]


def _too_few(n_units: int, least_units: int) -> str:
    if n_units == 0:
        return "known benign applications explain all that it sent"
    return (
        f"{counted(n_units, 'distinct prompt')}: it takes {least_units:,} to tell an account that extracts with every "
        "second one"
    )
