"""What the kernel does on counts alone: false flags at the edge of the null, power, and time to flag a family.

    python -m tests.benchmarks.kernel [--worlds N]

Every honest account matches with a chance of exactly the baseline, unit by unit, whatever it does: it lives by the
week, in bursts, as one with nine others, or in the ways of an adversary who sees his past. 95 % limits are empirical
Bernstein (Maurer & Pontil 2009) for shares of flags, Clopper-Pearson for shares of accounts and worlds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from classifier.eprocess import Floats, Ints
from classifier.evidence import Baselines
from classifier.families import FAMILY_RATE, FamilyRows, log_family_capital
from classifier.units import DAY_US
from classifier.verdicts import ALPHA, by_step_up, flag_scale
from tests.worlds import CONDUCTS, Rows, bad_rows, honest_rows, honest_units, joined, log_evidence, most_false

RARE = Baselines(0.001, (0.1, 0.1, 0.1, 0.1))
OFTEN = Baselines(0.1, (0.1, 0.1, 0.1, 0.1))
"""A baseline so high that matches are many and evidence moves in small steps: where a wrong kernel shows soonest."""
HONEST, BAD, DAYS, BLOCK = 100, 10, 40, 50
SHARE, BAD_UNITS = 0.5, 60
POPULATION, BAD_AMONG, PROMPTS, PER_DAY = 250_000, 2_500, 120, 26
FAMILIES = 65  # in the index of the shipped bundle
CAMPAIGN_PER_DAY, CAMPAIGN_SHARE = 25.6, 0.25  # 28.8 M exchanges of 25,000 accounts on 45 days
FAMILY_RUNS = 48


def bernstein_upper(shares: Floats, delta: float = 0.05) -> float:
    """Upper limit of the mean of independent values in [0, 1]."""
    n, log = len(shares), np.log(2 / delta)
    return float(shares.mean() + np.sqrt(2 * shares.var(ddof=1) * log / n) + 7 * log / (3 * (n - 1)))


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


# --- false flags ------------------------------------------------------------------------------------------------------

Maker = Callable[[np.random.Generator, int], Rows]
"""Rows of the honest accounts of so many worlds, HONEST a world."""


def makers(baselines: Baselines, times: float = 1.0) -> Iterator[tuple[str, Maker]]:
    for conduct in CONDUCTS:

        def make(rng: np.random.Generator, worlds: int, conduct: object = conduct) -> Rows:
            n = worlds * HONEST
            usual = np.maximum(1, rng.lognormal(np.log(0.5 / baselines.m1), 1, n)).astype(np.int64)
            return honest_rows(rng, conduct, baselines.m1 * times, n, DAYS, usual)  # type: ignore[arg-type]

        yield conduct.name, make


def intent_maker(rng: np.random.Generator, worlds: int) -> Rows:
    return honest_units(rng, OFTEN, worlds * HONEST, 15, 6)


def false_shares(make: Maker, baselines: Baselines, n_worlds: int, seed: int) -> Floats:
    """Largest share of false flags at any time in every world [n_worlds, 2]: of HONEST accounts, and with BAD more."""
    rng = np.random.default_rng(seed)
    found = np.empty((n_worlds, 2))
    for start in range(0, n_worlds, BLOCK):
        worlds = min(BLOCK, n_worlds - start)
        honest, bad = make(rng, worlds), bad_rows(rng, SHARE, worlds * BAD, BAD_UNITS, PER_DAY)
        log_honest, log_bad = log_evidence(honest, baselines), log_evidence(bad, baselines)
        ends = np.searchsorted(honest.account, np.arange(1, worlds + 1) * HONEST)
        bad_ends = np.searchsorted(bad.account, np.arange(1, worlds + 1) * BAD)
        for world, (to, bad_to) in enumerate(zip(ends, bad_ends, strict=True)):
            own = slice(ends[world - 1] if world else 0, to)
            theirs = slice(bad_ends[world - 1] if world else 0, bad_to)
            rows = honest.where(own).renumbered(honest.account[own] - world * HONEST)
            others = bad.where(theirs).renumbered(bad.account[theirs] - world * BAD + HONEST)
            log_e = np.concatenate([log_honest[own], log_bad[theirs]])
            found[start + world, 0] = most_false(rows, log_honest[own], np.ones(HONEST, bool), HONEST, ALPHA)
            is_honest = np.arange(HONEST + BAD) < HONEST
            found[start + world, 1] = most_false(joined(rows, others), log_e, is_honest, HONEST + BAD, ALPHA)
    return found


def print_false_flags(n_worlds: int) -> None:
    print(f"False flags: {n_worlds:,} worlds a line, of {HONEST} honest accounts at the edge of the null; N fixed\n")
    print(f"{'baseline':>8}  {'conduct':24}{'bad':>4}{'worlds with a false flag':>26}{'E[sup share]':>14}{'limit':>9}")
    cases = [(RARE, *case) for case in makers(RARE)] + [(OFTEN, *case) for case in makers(OFTEN)]
    cases.append((OFTEN, "as one, with intent", intent_maker))
    for number, (baselines, name, make) in enumerate(cases):
        print_shares(baselines.m1, name, false_shares(make, baselines, n_worlds, number))
    beyond = dict(makers(OFTEN, 1.5))["by the week"]
    print_shares(OFTEN.m1, "BEYOND it: at 1.5 m1", false_shares(beyond, OFTEN, min(n_worlds, BLOCK), 0))


def print_shares(m1: float, name: str, both: Floats) -> None:
    for n_bad, shares in zip((0, BAD), both.T, strict=True):
        with_any = int((shares > 0).sum())
        limit = f"<= {clopper_pearson(with_any, len(shares))[1]:.2%}"
        told = f"{with_any:14,} ({limit:>9}){shares.mean():13.3%}{min(1, bernstein_upper(shares)):9.2%}"
        print(f"{m1:8g}  {name:24}{n_bad:4}{told}", flush=True)


# --- power ------------------------------------------------------------------------------------------------------------


def log_maxima(share: float, clean: int = 0) -> Floats:
    """log M of BAD_AMONG accounts after each of PROMPTS units, [accounts, PROMPTS]; the matches are for one target."""
    rows = bad_rows(np.random.default_rng(6), share, BAD_AMONG, PROMPTS, PER_DAY, clean)
    log_e = log_evidence(rows, RARE, one_target=True).reshape(BAD_AMONG, -1)
    return np.asarray(np.maximum.accumulate(log_e, axis=1)[:, -PROMPTS:])


def power_line(name: str, log_m: Floats, log_threshold: float) -> str:
    reached = log_m >= log_threshold
    k = int(reached[:, -1].sum())
    low, high = clopper_pearson(k, len(log_m))
    prompts = np.where(reached[:, -1], reached.argmax(axis=1) + 1, PROMPTS + 1)
    median = int(np.median(prompts))
    told = f"{median}" if median <= PROMPTS else f"> {PROMPTS}"
    return f"{name:44}{k / len(log_m):8.3f}  ({low:.3f} to {high:.3f}){told:>10}"


def print_power() -> None:
    print(
        f"\nPower at {PROMPTS} prompts, {POPULATION:,} registered, m1 = {RARE.m1}; honest accounts are left out, which"
    )
    print("can only raise the threshold\n")
    print(f"{'extraction share':44}{'power':>8}  {'95 % interval':16}{'median prompts to flag':>10}")
    scale = flag_scale(POPULATION)
    for share in (1.0, 0.5, 0.25, 0.1, 0.05):
        log_m = log_maxima(share)
        rank = by_step_up(log_m[:, -1], POPULATION)
        print(power_line(f"{share:.0%}, 1 % of accounts bad", log_m, scale - np.log(max(rank, 1))))
    for share in (0.5, 0.25, 0.1):
        print(power_line(f"{share:.0%}, a lone account", log_maxima(share), scale))
    late = log_maxima(0.1, clean=30)
    rank = by_step_up(late[:, -1], POPULATION)
    print(power_line("10%, 1 % bad, after 30 clean days", late, scale - np.log(max(rank, 1))))
    print(power_line("10%, a lone account, after 30 clean days", late, scale))


# --- families ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visits:
    """Of each account that is active on a day: when it becomes active and when it first matches, us since midnight,
    DAY_US where it does not."""

    began: Ints
    matched: Ints


def first_activity(rng: np.random.Generator, n: int) -> Ints:
    """When n honest accounts become active on a day, sorted: a fifth are jobs that run around the clock, the others
    people of three time zones, awake for 15 hours. Volumes are log-normal, medians 100 and 5 prompts a day."""
    jobs = rng.random(n) < 0.2
    volume = np.where(jobs, rng.lognormal(np.log(100), 1.3, n), np.clip(rng.lognormal(np.log(5), 1, n), 1, 40))
    zone, first = rng.integers(0, 3, n) * 8 / 24, np.ones(n)
    first[jobs] = 1 - rng.random(int(jobs.sum())) ** (1 / np.maximum(volume[jobs], 1))
    for prompt in range(40):
        awake = np.flatnonzero(~jobs & (volume > prompt))
        at = (zone[awake] + (7 + 15 * rng.beta(2, 2, len(awake))) / 24) % 1
        first[awake] = np.minimum(first[awake], at)
    return np.sort((first * (DAY_US - 1)).astype(np.int64))


def campaign_day(rng: np.random.Generator, n_accounts: int, start: float) -> Visits:
    """Accounts that send CAMPAIGN_PER_DAY prompts a day from `start` on, in days, of which CAMPAIGN_SHARE match."""
    began = (start + rng.exponential(1 / CAMPAIGN_PER_DAY, n_accounts)) * DAY_US
    matched = began + rng.exponential(1 / (CAMPAIGN_PER_DAY * CAMPAIGN_SHARE), n_accounts) * DAY_US
    matched = np.where(rng.random(n_accounts) < CAMPAIGN_SHARE, began, matched)
    active = began < DAY_US
    return Visits(began[active].astype(np.int64), np.minimum(matched[active], DAY_US).astype(np.int64))


def minutes_to_flag(
    rng: np.random.Generator, honest: Sequence[Ints], n_accounts: int, start: float
) -> tuple[float, int]:
    """Since the campaign's start on day 0, and how many accounts had matched; inf if not in len(honest) days. 20 days
    without a match went before."""
    rows, began = [(-19 * DAY_US - 1, False, 0)], [np.array([-20 * DAY_US])]
    for day, others in enumerate(honest):
        visits = campaign_day(rng, n_accounts, start if day == 0 else 0.0)
        began += [others + day * DAY_US, visits.began + day * DAY_US]
        pairs = sorted(zip(visits.matched.tolist(), visits.began.tolist(), strict=True))
        rows += [(us + day * DAY_US, True, active + day * DAY_US) for us, active in pairs if us < DAY_US]
        rows.append(((day + 1) * DAY_US - 1, False, 0))
    us, is_hit, first = (np.array(column) for column in zip(*rows, strict=True))
    active = np.sort(np.concatenate(began))
    log_e = log_family_capital(FamilyRows(np.zeros_like(us), us, is_hit, first), active, FAMILY_RATE)
    reached = np.flatnonzero(log_e >= flag_scale(FAMILIES))
    if not len(reached):
        return float("inf"), int(is_hit.sum())
    return float(us[reached[0]] / DAY_US - start) * 1440, int(is_hit[: reached[0] + 1].sum())


def print_families() -> None:
    rng = np.random.default_rng(5)
    print(f"\nTime to flag a family: q = {FAMILY_RATE}, {FAMILIES} families, {POPULATION:,} others active a day;")
    print(f"campaigns begin at any time of day, {FAMILY_RUNS} of each size; shares are of their exchanges in 45 days\n")
    print(f"{'accounts':>8}{'median':>12}{'90 %':>12}{'longest':>12}{'matches':>9}  served before (median, most)")
    honest = [first_activity(rng, POPULATION) for _ in range(3)]
    for n_accounts in (25_000, 500, 100, 30):
        found = [minutes_to_flag(rng, honest, n_accounts, (i + rng.random()) / FAMILY_RUNS) for i in range(FAMILY_RUNS)]
        minutes, matches = (np.array(column) for column in zip(*found, strict=True))
        shares = minutes / 1440 / 45
        times = "".join(f"{np.quantile(minutes, at, method='higher'):8.2f} min" for at in (0.5, 0.9, 1))
        served = ", ".join(
            f"{x * CAMPAIGN_PER_DAY * 45 * n_accounts:,.0f} ({x:.5%})" for x in (np.median(shares), shares.max())
        )
        print(f"{n_accounts:8,}{times}{int(np.median(matches)):9,}   {served}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=2000, help="worlds a line, at least 2")
    arguments = parser.parse_args()
    print_false_flags(arguments.worlds)
    print_power()
    print_families()


if __name__ == "__main__":
    main()
