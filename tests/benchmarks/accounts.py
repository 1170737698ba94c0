"""Verdicts on accounts made of texts never seen: power, false flags, campaigns, and rivals on the same worlds.

    python -m tests.benchmarks.accounts --data DIR [--worlds 100] [--work DIR] [--out DIR]

Trains a bundle of the static tier without a quarter of the families, applications, data sets and people, and of the
payloads of the families that stay (`account_bundle`); labels what was left out (`account_pool`); composes worlds of it
(`account_worlds`), on which the product's own kernel decides (`account_outcomes`). The bundle stays in --work, beside
what `probewatch evaluate --groups 4` leaves there, which sets its baselines: both are made where they are missing, the
latter in two hours. --out: a fragment of the report card, and its pictures.

Purity and completeness of campaigns are of pairs of accounts: of the pairs that the product puts into one campaign,
those of one campaign in truth, and the other way round; a benign account is in no pair.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from tests.benchmarks.account_bundle import SEED, Log, bundle_without, split
from tests.benchmarks.account_conduct import Sender, senders
from tests.benchmarks.account_contest import Contest, contest
from tests.benchmarks.account_outcomes import BAD, BENIGN, Outcome, Pairs, campaign_pairs, judge, play
from tests.benchmarks.account_pool import Pool, make_pool
from tests.benchmarks.account_worlds import Cell, Menus, bad_of, benign_of

SHARES, PROMPTS = (1.0, 0.5, 0.25, 0.1, 0.05), (20, 60, 120, 400, 1200)
MAIN_PROMPTS = 120
POWER = [Cell(share, prompts) for share, prompts in product(SHARES, PROMPTS)]
MAIN = [Cell(share, MAIN_PROMPTS) for share in SHARES]
LATE = Cell(0.1, MAIN_PROMPTS, clean=30)
LEFT_OUT = [Cell(share, MAIN_PROMPTS, "left out") for share in (1.0, 0.5, 0.25)]
WRITTEN = Cell(0.5, MAIN_PROMPTS, "written")
GROUPED = (Cell(0.25, MAIN_PROMPTS), Cell(0.1, MAIN_PROMPTS))
"""Cells whose campaigns are looked at."""
CELLS = [*POWER, LATE, *LEFT_OUT, WRITTEN]
BENIGN_ACCOUNTS, BAD_ACCOUNTS = 2000, 20
NULL_WORLDS, NULL_ACCOUNTS = 300, 300
RIVAL_WORLDS = 20
"""Worlds that rivals see, half of them to set thresholds on."""


@dataclass
class Results:
    """Outcomes by cell, in order of worlds; pairs by cell; null worlds; honest senders; rivals."""

    outcomes: dict[Cell, list[Outcome]] = field(default_factory=dict)
    pairs: dict[Cell, list[Pairs]] = field(default_factory=dict)
    null: list[Outcome] = field(default_factory=list)
    conduct: list[Sender] = field(default_factory=list)
    contest: Contest | None = None


def run(pool: Pool, worlds: int, log: Log) -> Results:
    menus, results = Menus(pool), Results()
    results.conduct = senders(pool, menus)
    for world in range(worlds):
        one_world(world, pool, menus, results)
        if (world + 1) % 10 == 0:
            log(f"{world + 1} of {worlds} worlds")
    for world in range(worlds, worlds + NULL_WORLDS):
        results.null.append(judge(pool, play(pool, benign_of(world, pool, menus, NULL_ACCOUNTS), BENIGN), None))
    log("null worlds")
    results.contest = contest(pool, menus, MAIN, min(RIVAL_WORLDS, worlds), (BENIGN_ACCOUNTS, BAD_ACCOUNTS))
    log("rivals")
    return results


def one_world(world: int, pool: Pool, menus: Menus, results: Results) -> None:
    """One draw of benign accounts, with the bad ones of each cell in turn."""
    benign = play(pool, benign_of(world, pool, menus, BENIGN_ACCOUNTS), BENIGN)
    for cell in CELLS:
        bad = play(pool, bad_of(world, pool, menus, cell, BAD_ACCOUNTS), BAD)
        results.outcomes.setdefault(cell, []).append(judge(pool, benign, bad))
        if cell in GROUPED:
            results.pairs.setdefault(cell, []).append(campaign_pairs(pool, benign, bad))


def main() -> None:
    from tests.benchmarks.account_report import print_report, write_report
    from training.prepare import prepare

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--worlds", type=int, default=100, help="of 2,000 benign accounts; at least 2")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="where the bundle is kept")
    parser.add_argument("--out", type=Path, help="folder for the report card's fragment and pictures")
    arguments = parser.parse_args()
    log = clock()
    rows = prepare(arguments.data, SEED)
    parts = split(rows)
    pool = make_pool(rows, parts, bundle_without(rows, parts, arguments.work, log))
    log(f"a pool of {len(pool.facts):,} texts")
    results = run(pool, arguments.worlds, log)
    print_report(pool, results)
    if arguments.out is not None:
        write_report(pool, results, arguments.out)


def clock() -> Log:
    started = time.monotonic()
    return lambda message: print(f"[{time.monotonic() - started:5.0f} s] {message}", flush=True)


if __name__ == "__main__":
    main()
