"""Worlds of accounts made of texts that the bundle has never seen: who sends which, and when.

    pool -> **worlds** -> merged units -> replay -> decide -> outcomes

Benign accounts are of the simulator's kinds, with its shares, volumes and rhythms. Texts are of repositories, data sets
and people held out; accounts share them, but no account sends one twice unless it is out of texts, as an application
that repeats itself is: a unit is a DISTINCT prompt. Campaigns of a world have families of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.units import DAY_US
from tests.benchmarks.account_bundle import SEED
from tests.benchmarks.account_pool import LEAST_ROWS, Pool

DAYS, PER_DAY = 30, 26
START_US = 20_700 * DAY_US  # a Monday, 2026-09-07 less three days: only days and hours matter
MEAN_PROMPTS = 40  # of an account of relative volume 1 in these DAYS
MOST_PROMPTS = 5_000
CAMPAIGNS = 4
FAMILIES = 3
"""A campaign draws from at least so many families; from more where they have too few distinct texts."""
SPARE, MOST_MATCHED = 1.3, 0.05
GROUPS = ("coding", "agentic_reasoning", "long_horizon_planning", "other", "none")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """How the bad accounts of a world behave: `clean` days at PER_DAY go before. `families`: "known", "left out" or
    "written" (ours, whose payloads' truth is known)."""

    share: float
    prompts: int
    families: str = "known"
    clean: int = 0


@dataclass(frozen=True)
class Traffic:
    """Who sends what, events in any order [e]: `account` (0 to n_accounts - 1), row of the pool, us since 1970.

    `kind` [n_accounts]: of account; `campaign` [n_accounts]: number, -1 for benign ones; `extraction` [e].
    """

    account: Ints
    row: Ints
    us: Ints
    extraction: NDArray[np.bool_]
    kind: Sequence[str]
    campaign: Ints

    @property
    def n_accounts(self) -> int:
        return len(self.kind)

    def named(self, prefix: str) -> pa.Array:
        """Account id of each event; sorted as the accounts are numbered."""
        names = pa.array([f"{prefix}{i:06d}" for i in range(self.n_accounts)])
        return names.take(pa.array(self.account))

    def units(self, pool: Pool, prefix: str) -> pa.Table:
        return pool.units(self.row, self.named(prefix), self.us)


def benign_of(world: int, pool: Pool, menus: Menus, n_accounts: int) -> Traffic:
    """The benign accounts of a world, the same whenever asked."""
    return benign_traffic(np.random.default_rng([SEED, world]), pool, menus, n_accounts)


def bad_of(world: int, pool: Pool, menus: Menus, cell: Cell, n_accounts: int) -> Traffic:
    """The bad accounts of a cell in a world, the same whenever asked."""
    seed = [SEED, world, round(1000 * cell.share), cell.prompts, cell.clean, len(cell.families)]
    return bad_traffic(np.random.default_rng(seed), pool, menus, cell, n_accounts)


# --- benign accounts --------------------------------------------------------------------------------------------------


class Menus:
    """What each of the simulator's kinds chooses from: lists of texts, one list an account. People's are in the order
    of their conversations, which are shuffled."""

    def __init__(self, pool: Pool) -> None:
        from training.prepare import BENIGN, PROMPT

        self.facts = pool.facts
        apps = self._parts(pool.rows(role=BENIGN))
        human = self._parts(pool.rows(role=PROMPT, kind="human"))
        tests = self._parts(pool.rows(role=PROMPT, kind="benchmark"))
        made = self._parts(pool.rows(role=PROMPT, kind="synthetic"))
        organic = pool.rows(role=PROMPT, organic=True)
        judges = [rows for rows in apps if "judge" in self.facts["kind"].iloc[rows[0]]]
        self.people = organic
        self.conversation = self.facts["conversation"].to_numpy(str)
        interests = [*human, *made]
        self.of_pool: dict[str, list[Ints]] = {
            "interests": interests,
            "coders": self._named(interests + tests, ("cod", "aider", "copilot", "java", "human_eval", "exercism")),
            "students": tests,
            "engineers": made,
            "agents": self._named(interests + tests, ("bfcl", "tool", "rest", "acebench", "tau", "virtualhome")),
            "applications": apps,
            "benchmarks": tests,
            "judges": judges if judges else apps,
        }

    def _parts(self, rows: Ints) -> list[Ints]:
        parts = self.facts["part"].to_numpy(str)[rows]
        return [rows[parts == part] for part in np.unique(parts) if (parts == part).sum() >= LEAST_ROWS]

    def _named(self, menus: Sequence[Ints], words: Sequence[str]) -> list[Ints]:
        names = [self.facts["part"].iloc[menu[0]] for menu in menus]
        return [menu for menu, name in zip(menus, names, strict=True) if any(word in name for word in words)]

    def shuffled_people(self, rng: np.random.Generator) -> Ints:
        """People's texts with whole conversations in random order."""
        _, conversation = np.unique(self.conversation[self.people], return_inverse=True)
        return self.people[np.argsort(rng.permutation(conversation.max() + 1)[conversation], kind="stable")]

    def choose(self, rng: np.random.Generator, source: str, n: int, people: Ints) -> Ints:
        """n texts of one account; of those there are, all come once before one comes again."""
        if source in self.of_pool:
            menus = self.of_pool[source]
            menu = rng.permutation(menus[rng.integers(len(menus))])
        elif source == "customers" and rng.random() < 0.5:
            apps = self.of_pool["applications"]
            menu = rng.permutation(np.concatenate([people, *(apps[i] for i in rng.integers(len(apps), size=3))]))
        else:
            menu = np.roll(people, -int(rng.integers(len(people))))
        return np.resize(menu, n)


def benign_traffic(rng: np.random.Generator, pool: Pool, menus: Menus, n_accounts: int) -> Traffic:
    """What n benign accounts send in DAYS."""
    from training.simulate_kinds import KINDS

    share = np.array([kind.share for kind in KINDS])
    kind = np.sort(rng.choice(len(KINDS), n_accounts, p=share / share.sum()))
    spread = np.array([k.spread for k in KINDS])[kind]
    mean = np.array([k.volume for k in KINDS])[kind] * MEAN_PROMPTS
    volume = np.exp(rng.normal(np.log(mean) - spread**2 / 2, spread)).clip(1, MOST_PROMPTS).astype(np.int64)
    people = menus.shuffled_people(rng)
    row = np.concatenate(
        [menus.choose(rng, KINDS[k].pool, n, people) for k, n in zip(kind.tolist(), volume.tolist(), strict=True)]
    )
    account = np.repeat(np.arange(n_accounts), volume)
    return Traffic(
        account=account,
        row=row,
        us=START_US + _benign_times(rng, kind, account),
        extraction=np.zeros(len(row), bool),
        kind=[KINDS[k].name for k in kind.tolist()],
        campaign=np.full(n_accounts, -1),
    )


def _benign_times(rng: np.random.Generator, kind: Ints, account: Ints) -> Ints:
    """Microseconds since the first midnight, in order within each account: days by how often its kind is active and by
    the week, hours by its rhythm and zone."""
    from training.simulate_kinds import KINDS, ZONES, curve_of, day_curves, week_weights

    rhythm = np.array([k.rhythm for k in KINDS])[kind]
    awake = rng.random((len(kind), DAYS)) < np.array([k.active for k in KINDS])[kind][:, None]
    awake[np.arange(len(kind)), rng.integers(DAYS, size=len(kind))] = True
    weeks = np.array([week_weights(day % 7) for day in range(DAYS)])
    activity = np.cumsum(awake * weeks[:, rhythm].T, axis=1)
    drawn = rng.random(len(account)) * activity[account, -1]
    day = (activity[account] <= drawn[:, None]).sum(axis=1)
    curve = curve_of(rhythm, ZONES[rng.integers(len(ZONES), size=len(kind))])
    us = np.minimum(day, DAYS - 1) * DAY_US + day_curves().times(curve[account], rng.random(len(account)))
    return us[np.lexsort((us, account))]


# --- bad accounts -----------------------------------------------------------------------------------------------------


def bad_traffic(rng: np.random.Generator, pool: Pool, menus: Menus, cell: Cell, n_accounts: int) -> Traffic:
    """What n accounts of up to CAMPAIGNS campaigns send: each prompt extracts with the cell's share, the others are
    people's."""
    need = round(cell.prompts * cell.share * SPARE)
    texts = campaign_texts(rng, pool, cell.families, need)
    campaign = np.arange(n_accounts) * len(texts) // n_accounts
    n_clean = cell.clean * PER_DAY
    people = menus.shuffled_people(rng)
    row, extraction = [], []
    for c in campaign.tolist():
        bad = np.concatenate([np.zeros(n_clean, bool), rng.random(cell.prompts) < cell.share])
        rows = np.resize(np.roll(people, -int(rng.integers(len(people)))), len(bad))
        rows[bad] = np.resize(rng.permutation(texts[c]), bad.sum())
        row.append(rows)
        extraction.append(bad)
    sent = n_clean + cell.prompts
    account = np.repeat(np.arange(n_accounts), sent)
    begin = rng.random(n_accounts) * DAY_US
    per_day = max(PER_DAY, sent / DAYS) if not n_clean else PER_DAY
    gaps = rng.exponential(DAY_US / per_day, (n_accounts, sent))
    return Traffic(
        account=account,
        row=np.concatenate(row),
        us=START_US + (begin[:, None] + np.cumsum(gaps, axis=1)).astype(np.int64).ravel(),
        extraction=np.concatenate(extraction),
        kind=["campaign"] * n_accounts,
        campaign=campaign,
    )


def campaign_texts(rng: np.random.Generator, pool: Pool, families: str, need: int) -> list[Ints]:
    """Texts of each of up to CAMPAIGNS campaigns: families of one aim, FAMILIES at least where there are as many, and
    `need` distinct texts where they have them; fewer campaigns where texts are few."""
    chosen = family_rows(pool, families)
    campaigns = []
    for group in rng.permutation(GROUPS).tolist():
        own = [rows for name, (aim, rows) in chosen.items() if aim == group]
        own = [own[i] for i in rng.permutation(len(own))]
        if sum(map(len, own)) >= max(need, LEAST_ROWS):
            least = np.searchsorted(np.cumsum([len(rows) for rows in own]), need) + 1
            campaigns.append(np.concatenate(own[: max(FAMILIES, int(least))]))
    everything = [rows for _, rows in chosen.values()]
    return campaigns[:CAMPAIGNS] if campaigns else [np.concatenate(everything)]


def family_rows(pool: Pool, families: str) -> dict[str, tuple[str, Ints]]:
    """Aim and texts of every exclusive family that is known (its payloads are not), left out, or ours. A family left
    out whose wording a known signature matches is known by another name."""
    facts, matched = pool.facts, pool.signature["y"].to_numpy() > 0
    chosen = (facts["tier"] == "exclusive") & (facts["known"] == (families != "left out"))
    chosen &= (facts["role"] == "written") == (families == "written")
    found = {}
    for name in sorted(set(facts["part"][chosen])):
        rows = np.flatnonzero(chosen & (facts["part"] == name))
        by_another_name = families == "left out" and matched[rows].mean() > MOST_MATCHED
        if (len(rows) >= LEAST_ROWS or families == "known") and not by_another_name:
            found[name] = (str(facts["aim"].iloc[rows[0]]), rows)
    return found
