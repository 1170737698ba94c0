"""What is to be simulated: how much traffic, over which days, with which campaigns. First step of the simulator.

    **scenario** -> accounts -> events -> texts -> files

A scenario file is TOML: `days`, `start` (a date), and a `[[campaign]]` for each with the fields of `Campaign`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date, datetime
from pathlib import Path

from classifier.errors import InputError, UsageError

MAX_ACCOUNTS = 2**31
MAX_DAYS = 3660
DEFAULT_DAYS = 14
DEFAULT_START = date(2026, 9, 1)
DEFAULT_SHARE = 0.25
DEFAULT_FAMILIES = ("pw_seeded_code", "pw_review_bug", "pw_task_evolution")


@dataclass(frozen=True)
class Campaign:
    """One campaign. Days count from 0, the first day of the simulation.

    Attributes:
        accounts: how many it uses in all, those that retire included.
        share: of a member's requests that are extraction.
        families: extraction families, each as likely as the next.
        exchanges: requests of its members, ordinary ones included; None: as many an account as everybody has.
        first_day: on which it begins.
        last_day: its last; None: that of the simulation.
        live: accounts in use at once, retired ones being replaced; None: all of them, all the time.
        ramp_days: over which its volume rises to the full; 0: none.
        change_day: on which `families_after` take the place of `families`; None: never.
        turning: share of its accounts that are there from day 0, never retire, and send ordinary traffic until
            `turn_day`.
    """

    name: str
    accounts: int
    share: float = DEFAULT_SHARE
    families: tuple[str, ...] = DEFAULT_FAMILIES
    exchanges: int | None = None
    first_day: int = 0
    last_day: int | None = None
    live: int | None = None
    ramp_days: int = 0
    change_day: int | None = None
    families_after: tuple[str, ...] = ()
    turning: float = 0.0
    turn_day: int | None = None

    @property
    def n_turning(self) -> int:
        return round(self.accounts * self.turning)

    def end(self, days: int) -> int:
        """The day after its last, in a simulation of so many days."""
        return days if self.last_day is None else self.last_day + 1

    def families_on(self, day: int) -> tuple[str, ...]:
        """What its extraction requests are made with on a day."""
        return self.families if self.change_day is None or day < self.change_day else self.families_after


@dataclass(frozen=True)
class Scenario:
    """All that decides what is simulated, the texts apart. The same scenario gives the same traffic, byte for byte."""

    exchanges: int
    accounts: int
    days: int
    start: date
    seed: int
    campaigns: tuple[Campaign, ...]

    @property
    def n_benign(self) -> int:
        return self.accounts - sum(campaign.accounts for campaign in self.campaigns)

    def campaign_exchanges(self, campaign: Campaign) -> int:
        """Requests of a campaign's members."""
        if campaign.exchanges is not None:
            return campaign.exchanges
        return round(self.exchanges * campaign.accounts / self.accounts)

    @property
    def benign_exchanges(self) -> int:
        return self.exchanges - sum(map(self.campaign_exchanges, self.campaigns))


@dataclass(frozen=True)
class Plan:
    """What a scenario file says, or the options that stand for one."""

    campaigns: tuple[Campaign, ...]
    days: int = DEFAULT_DAYS
    start: date = DEFAULT_START


def simple_plan(
    accounts: int,
    members: int | None = None,
    share: float | None = None,
    families: Sequence[str] = (),
    days: int | None = None,
) -> Plan:
    """One campaign, by default of a twentieth of all accounts, that begins on the third day if there are as many."""
    campaign = Campaign(
        "campaign",
        members if members is not None else max(1, accounts // 20),
        share if share is not None else DEFAULT_SHARE,
        tuple(families) if families else DEFAULT_FAMILIES,
        first_day=min(2, days - 1) if days is not None else 2,
    )
    return Plan((campaign,) if campaign.accounts else ())


def read_plan(path: Path) -> Plan:
    """What a scenario file says.

    Raises:
        InputError: it cannot be read, is no TOML, or holds something that is not known or of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"--scenario {path} cannot be read ({error}): expected a TOML file") from error
    unknown = set(document) - {"days", "start", "campaign"}
    if unknown:
        raise InputError(f"--scenario {path} holds {sorted(unknown)[0]!r}: expected days, start and [[campaign]] only")
    days, start = document.get("days", DEFAULT_DAYS), document.get("start", DEFAULT_START)
    if type(days) is not int:
        raise InputError(f"--scenario {path}: days is {days!r}, expected a whole number")
    if not isinstance(start, date) or isinstance(start, datetime):
        raise InputError(f"--scenario {path}: start is {start}, expected a date such as 2026-09-01, without quotes")
    tables = document.get("campaign", [])
    if not isinstance(tables, list):
        raise InputError(f"--scenario {path}: campaign is one table, expected [[campaign]] in double brackets")
    return Plan(tuple(_read_campaign(path, table) for table in tables), days, start)


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "share": (int, float),
    "turning": (int, float),
    "families": (list,),
    "families_after": (list,),
}
"""What a field of a campaign may be in TOML; all others are whole numbers."""


def _read_campaign(path: Path, table: dict[str, object]) -> Campaign:
    known = {field.name: field for field in fields(Campaign)}
    where = f"--scenario {path}, campaign {table.get('name', '(without a name)')!r}"
    for name, value in table.items():
        if name not in known:
            raise InputError(f"{where}: {name!r} is not known, expected some of {', '.join(known)}")
        if type(value) not in _TYPES.get(name, (int,)):
            wanted = " or ".join(kind.__name__ for kind in _TYPES.get(name, (int,)))
            raise InputError(f"{where}: {name} is a {type(value).__name__}, expected {wanted}")
        if isinstance(value, list) and not all(isinstance(entry, str) for entry in value):
            raise InputError(f"{where}: {name} holds something else than names of families, expected text only")
    missing = [name for name, field in known.items() if field.default is MISSING and name not in table]
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing, add it")
    return Campaign(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})  # type: ignore[arg-type]


def make_scenario(plan: Plan, exchanges: int, accounts: int, days: int | None, seed: int) -> Scenario:
    """A scenario that can be simulated; `days`, if given, goes before what the plan says.

    Raises:
        UsageError: the numbers do not fit together.
    """
    scenario = Scenario(exchanges, accounts, days if days is not None else plan.days, plan.start, seed, plan.campaigns)
    _check_whole(scenario)
    names = [campaign.name for campaign in plan.campaigns]
    for campaign in plan.campaigns:
        _refuse(names.count(campaign.name) > 1, f"Two campaigns are called {campaign.name!r}: rename one.")
        _check_days(campaign, scenario.days)
        _check_members(campaign, scenario)
    return scenario


def _check_whole(scenario: Scenario) -> None:
    _refuse(
        not 1 <= scenario.accounts < MAX_ACCOUNTS,
        f"--accounts got {scenario.accounts}, expected 1 to {MAX_ACCOUNTS - 1}.",
    )
    _refuse(
        scenario.exchanges < scenario.accounts,
        f"--exchanges got {scenario.exchanges} for {scenario.accounts} accounts, expected at least one an account.",
    )
    _refuse(not 1 <= scenario.days <= MAX_DAYS, f"--days got {scenario.days}, expected 1 to {MAX_DAYS}.")
    _refuse(
        scenario.n_benign < 0,
        f"Campaigns take {scenario.accounts - scenario.n_benign} accounts of {scenario.accounts}: give more --accounts"
        " or make the campaigns smaller.",
    )
    spare = scenario.benign_exchanges
    _refuse(
        spare < scenario.n_benign or (scenario.n_benign == 0 and spare != 0),
        f"Campaigns leave {spare} exchanges to {scenario.n_benign} benign accounts, expected at least one for each, and"
        " none for nobody: change --exchanges or those of the campaigns.",
    )


def _check_days(campaign: Campaign, days: int) -> None:
    where, end = f"Campaign {campaign.name!r}", campaign.end(days)
    _refuse(
        not 0 <= campaign.first_day < end <= days,
        f"{where} runs from day {campaign.first_day} to {end - 1}, expected days within 0 to {days - 1}, in order.",
    )
    for name, day in (("change_day", campaign.change_day), ("turn_day", campaign.turn_day)):
        _refuse(
            day is not None and not campaign.first_day <= day < end,
            f"{where}: {name} is {day}, expected a day from {campaign.first_day} to {end - 1}.",
        )
    _refuse(
        (campaign.change_day is None) != (not campaign.families_after),
        f"{where}: change_day and families_after go together, give both or neither.",
    )
    _refuse(
        (campaign.turn_day is None) != (campaign.turning == 0),
        f"{where}: turning and turn_day go together, give both or neither.",
    )
    _refuse(campaign.ramp_days < 0, f"{where}: ramp_days is {campaign.ramp_days}, expected 0 or more.")


def _check_members(campaign: Campaign, scenario: Scenario) -> None:
    where = f"Campaign {campaign.name!r}"
    for name, share in (("share", campaign.share), ("turning", campaign.turning)):
        _refuse(not 0 <= share <= 1, f"{where}: {name} is {share}, expected a number from 0 to 1.")
    _refuse(campaign.accounts < 1, f"{where} has {campaign.accounts} accounts, expected at least 1.")
    _refuse(not campaign.families, f"{where} has no families, expected at least one.")
    sent = scenario.campaign_exchanges(campaign)
    _refuse(
        sent < campaign.accounts,
        f"{where} has {sent} exchanges for {campaign.accounts} accounts, expected at least one an account.",
    )
    if campaign.live is not None:
        rotating = campaign.accounts - campaign.n_turning
        most = campaign.live * (campaign.end(scenario.days) - campaign.first_day)
        _refuse(
            not 1 <= campaign.live <= rotating <= most,
            f"{where}: {rotating} accounts take turns with {campaign.live} live at once, expected at least as many as"
            f" are live and at most one for each of them a day ({most}).",
        )


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise UsageError(sentence)
