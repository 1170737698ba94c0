"""Honest senders of the pool against the baselines: which applications, data sets and people are above m1 or m2.

Beside the worlds, whose false flags these senders explain. A sender is an account that sends every text of an
application or data set that is in the pool, once, or PERSON_PROMPTS prompts of people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from classifier.certification import exceeds
from classifier.types import LEVELS, TARGETS, Channel
from classifier.units import merge_units
from tests.benchmarks.account_pool import Pool
from tests.benchmarks.account_worlds import Ints, Menus

PERSON_PROMPTS = 30
APPLICATIONS, DATA_SETS, PEOPLE = "applications", "data sets", "people"


@dataclass(frozen=True)
class Sender:
    """`n` distinct prompts, of which `match_rate` match exclusive `families`; `means` [4] of its intent."""

    stratum: str
    name: str
    n: int
    match_rate: float
    families: tuple[str, ...]
    means: tuple[float, ...]
    above_m1: bool
    above: bool


def senders(pool: Pool, menus: Menus) -> list[Sender]:
    return [_sender(pool, stratum, name, rows) for stratum, name, rows in _groups(pool, menus)]


def _groups(pool: Pool, menus: Menus) -> Iterator[tuple[str, str, Ints]]:
    part = pool.facts["part"].to_numpy(str)
    yield from ((APPLICATIONS, part[rows[0]], rows) for rows in menus.of_pool["applications"])
    for source in ("interests", "benchmarks"):
        yield from ((DATA_SETS, part[rows[0]], rows) for rows in menus.of_pool[source])
    for i in range(0, len(menus.people) - PERSON_PROMPTS + 1, PERSON_PROMPTS):
        ordered = menus.people[np.argsort(menus.conversation[menus.people], kind="stable")]
        yield PEOPLE, f"person {i // PERSON_PROMPTS}", ordered[i : i + PERSON_PROMPTS]


def _sender(pool: Pool, stratum: str, name: str, rows: Ints) -> Sender:
    units = merge_units([pool.units(rows, pa.array(["one"] * len(rows)), np.arange(len(rows)))])
    own = units.filter(pa.array(units["channel"].to_numpy() == Channel.SIGNATURE))
    theirs = units.filter(pa.array(units["channel"].to_numpy() == Channel.INTENT))
    matched = own["y"].to_numpy() > 0
    means = np.array([theirs[f"level_{target}"].to_numpy().mean() if len(theirs) else 0.0 for target in TARGETS])
    rate = float(matched.mean())
    return Sender(
        stratum=stratum,
        name=name,
        n=own.num_rows,
        match_rate=rate,
        families=tuple(sorted(set(own["family"].filter(pa.array(matched)).to_pylist()))),
        means=tuple((means / LEVELS).tolist()),
        above_m1=rate > pool.baselines.m1,
        above=exceeds(rate, means / LEVELS, pool.baselines),
    )
