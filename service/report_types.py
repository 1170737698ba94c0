"""The rows and facts that the report is made of, as read from a labelled run. Plain data: no reading, no rendering."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Account:
    """One row of accounts.parquet; `log10_e_targets` and `shares` are in the order of TARGETS."""

    account_id: str
    n_prompts: int
    n_units: int
    first_seen: datetime
    last_seen: datetime
    decision: str
    basis: str | None
    capabilities: list[str]
    log10_e: float
    log10_max_e: float
    log10_threshold: float
    log10_e_targets: list[float]
    shares: list[float]
    template_rate: float
    top_template_family: str | None
    techniques: list[str]
    campaign_id: str | None
    reasons: list[str]
    evidence_event_ids: list[str]
    flagged_at: datetime | None
    review_state: str | None


@dataclass(frozen=True)
class Campaign:
    """One row of campaigns.parquet, with up to 12 of its flagged accounts, strongest first."""

    campaign_id: str
    n_accounts: int
    n_prompts: int
    capabilities: list[str]
    techniques: list[str]
    template_families: list[str]
    first_seen: datetime
    last_seen: datetime
    flagged_at: datetime | None
    log10_e: float
    flagged_accounts: list[str]


@dataclass(frozen=True)
class Scaffold:
    """One row of discovered.parquet."""

    scaffold: int
    n_accounts: int
    n_prompts: int
    p_extraction: float
    growth: float
    first_seen: datetime
    last_seen: datetime
    example_event_ids: list[str]


@dataclass(frozen=True)
class Point:
    """An account as the evidence plot draws it."""

    account_id: str
    decision: str
    n_prompts: int
    log10_max_e: float
    log10_threshold: float
    capabilities: list[str]


@dataclass(frozen=True)
class DayCount:
    """Events of one event-time UTC day (days since 1970), one capability, one side of the flag."""

    day: int
    capability: str
    flagged: bool
    n: int


@dataclass(frozen=True)
class Totals:
    """Counts over the whole run, whatever part of it the page shows."""

    accounts: int
    prompts: int
    decisions: dict[str, int]
    flagged_for: dict[str, int]  # capability -> flagged accounts; an account may count for several
    linked: int  # accounts up for review by what they sent before an analyst approved its wording, and by that alone
    campaigns: int
    discovered: int
    labels: int


@dataclass(frozen=True)
class Stratum:
    """Of `n` honest accounts `k` were above the baseline; `adds`: what it alone adds to the bound."""

    stratum: str
    n: int
    k: int
    epsilon: float
    adds: float


@dataclass(frozen=True)
class Facts:
    """run.json; everything but the four counts may be missing."""

    read: int
    labelled: int
    rejected: int
    duplicates: int
    bundle_id: str | None
    catalogue_id: str | None
    schema_version: str | None
    population: int | None
    alpha: float | None
    fdr_bound: float | None
    strata: list[Stratum]
    settings: list[tuple[str, str]]
    seconds: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    inputs: list[tuple[str, str, str]]  # path, digest, records


@dataclass(frozen=True)
class Run:
    facts: Facts
    totals: Totals
    flagged: list[Account]
    review: list[Account]
    ranked: list[Account]
    points: list[Point]
    campaigns: list[Campaign]
    discovered: list[Scaffold]
    activity: list[DayCount]


@dataclass(frozen=True)
class TemplateUse:
    """Events of the selected accounts of one campaign (None: of none) that match one signature."""

    template_id: str
    campaign_id: str | None
    n_accounts: int
    n_prompts: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True)
class Selected:
    """What an export tells of. `accounts`: most suspicious first; `last_seen`: of all events of the run."""

    facts: Facts
    accounts: list[Account]
    campaigns: list[Campaign]
    uses: list[TemplateUse]
    last_seen: datetime
