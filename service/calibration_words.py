"""What the vetted accounts say, in lines for reading: `probewatch calibrate`. Pure functions on a `Calibrated`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from classifier.bundle import largest_epsilon
from classifier.certification import FAMILY_PART, LEAST_UNITS, M2_MARGIN
from classifier.evidence import Baselines
from classifier.types import TARGETS, Decision
from service.calibration import Calibrated, Conduct
from service.report_words import counted, joined, percent, title_of, visible

MOST_ACCOUNTS = 20
"""Accounts above the baselines that are named; the file holds all."""
MOST_NAMED = 5


def calibration_lines(found: Calibrated) -> Iterator[str]:
    """Who was measured, how many are above the baselines and why, and what may be promised."""
    conducts, run = found.conducts, found.run
    median = int(np.median([c.n_units for c in conducts]))
    absent = f"; {len(found.absent):,} on the list are not" if found.absent else ""
    yield (
        f"{counted(len(conducts), 'vetted account')} in this run, with {counted(median, 'distinct prompt')} in the "
        f"median{absent}."
    )
    if found.n_excused:
        yield f"Agreed exceptions excuse {counted(found.n_excused, 'distinct prompt')} of theirs."
    width = max(len(s.stratum) for s in found.strata) + 2
    yield f"\n{'stratum':{width}}{'accounts':>9}{'above':>7}   of all such, at most (95 %)"
    for s in found.strata:
        yield f"{visible(s.stratum):{width}}{s.n:9,}{s.k:7,}   {percent(s.epsilon, up=True)}"
    yield from _above(found)
    yield from _families(found)
    yield from _judged(found)
    yield from _own(found)
    yield (
        f"fdr_bound for this run, {counted(run.n_flagged, 'flag')} of {counted(run.population, 'registered account')}: "
        f"{percent(found.fdr_bound, up=True)} with at most {percent(largest_epsilon(found.strata), up=True)} of them "
        f"above the baselines; {percent(run.fdr_bound, up=True)} by the bundle's own certificate."
    )


def _own(found: Calibrated) -> Iterator[str]:
    """What `label --calibration` holds evidence against."""
    m2 = found.own.baselines.m2
    means = joined([f"{title_of(name)} {percent(m)}" for name, m in zip(TARGETS, m2, strict=True)])
    said = [
        f"{visible(s.stratum)} {s.k:,} of {s.n:,} above, so at most {percent(s.epsilon, up=True)} of all such"
        for s in found.own.strata
    ]
    yield f"\nHalf of these accounts would allow mean intent, at {M2_MARGIN} times their largest: {means}."
    yield f"The other half certifies that for `label --calibration`: {joined(said) if said else 'nobody is left'}."


def _above(found: Calibrated) -> Iterator[str]:
    if found.above:
        yield "\nAbove the baselines:"
    for c in sorted(found.above, key=lambda c: (-c.match_rate, c.account_id))[:MOST_ACCOUNTS]:
        yield f"  {visible(c.account_id, 40)}: {joined(list(_why(c, found.run.baselines)))}"
    if len(found.above) > MOST_ACCOUNTS:
        yield f"  and {counted(len(found.above) - MOST_ACCOUNTS, 'more account')}"


def _why(c: Conduct, baselines: Baselines) -> Iterator[str]:
    if c.match_rate > baselines.m1:
        names = ", ".join(visible(name) for name in list(c.by_family)[:MOST_NAMED])
        yield (
            f"{percent(c.match_rate)} of {counted(c.n_units, 'distinct prompt')} match known templates ({names}), "
            f"allowed is {percent(baselines.m1)}"
        )
    whose = "" if c.n_intent >= LEAST_UNITS else f"of those of its stratum with fewer than {LEAST_UNITS} units, "
    for name, mean, most in zip(TARGETS, c.intent, baselines.m2, strict=True):
        if mean > most:
            yield f"{whose}mean intent for {title_of(name)} is {percent(mean)}, allowed is {percent(most)}"


def _families(found: Calibrated) -> Iterator[str]:
    if found.families:
        yield (
            f"\nFamilies that put vetted accounts above 1/{FAMILY_PART} of what is allowed; tighten them, "
            "make them public, or agree on exceptions:"
        )
    for family in found.families:
        names = ", ".join(visible(name, 40) for name in family.accounts[:MOST_NAMED])
        more = ", ..." if len(family.accounts) > MOST_NAMED else ""
        said = f"{counted(len(family.accounts), 'account')}, at most {percent(family.rate)} of its prompts"
        yield f"  {visible(family.family)}: {said} ({names}{more})"


def _judged(found: Calibrated) -> Iterator[str]:
    for decision, words in ((Decision.FLAG, "flagged"), (Decision.REVIEW, "up for review")):
        names = [visible(c.account_id, 40) for c in found.conducts if c.decision is decision]
        if names:
            more = ", ..." if len(names) > MOST_NAMED else ""
            yield f"\nThis run has {len(names):,} of them {words}: {', '.join(names[:MOST_NAMED])}{more}."
