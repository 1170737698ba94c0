"""What the service answers, as INTERFACE.md gives it. Times are in UTC. Stands after `errors`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from probewatch_client.errors import ProbewatchError


@dataclass(frozen=True)
class Template:
    """The known template that a prompt was made with."""

    id: str
    family: str
    technique: str | None
    similarity: float | None
    coverage: float | None


@dataclass(frozen=True)
class PromptLabel:
    """What one prompt asks for. `probabilities`: of each capability, independent; `p_extraction`: made to harvest."""

    capability: str
    probabilities: Mapping[str, float]
    p_extraction: float
    template: Template | None


@dataclass(frozen=True)
class Standing:
    """An account as of `verdict_as_of`. `decision`: clear, review, flag or insufficient_evidence."""

    account_id: str
    decision: str
    capabilities: tuple[str, ...]
    log10_e: Mapping[str, float]
    n_prompts: int
    campaign_id: str | None
    verdict_as_of: datetime


@dataclass(frozen=True)
class Score:
    """The answer to an event; its evidence is committed."""

    event_id: str
    prompt: PromptLabel
    account: Standing
    bundle_id: str
    catalogue_id: str


@dataclass(frozen=True)
class Failure:
    """An event of a batch that has no answer. `error` says why; the same event may be sent again, under the same id."""

    event_id: str
    error: ProbewatchError


Outcome = Score | Failure
"""What became of an event of a batch."""


@dataclass(frozen=True)
class Account:
    """A row of accounts.parquet, as of now."""

    account_id: str
    n_prompts: int
    n_units: int
    first_seen: datetime
    last_seen: datetime
    decision: str
    basis: str | None
    capabilities: tuple[str, ...]
    log10_e: float
    log10_max_e: float
    log10_threshold: float
    log10_e_coding: float
    log10_e_agentic_reasoning: float
    log10_e_long_horizon_planning: float
    log10_e_other: float
    share_coding: float
    share_agentic_reasoning: float
    share_long_horizon_planning: float
    share_other: float
    template_rate: float
    top_template_family: str | None
    techniques: tuple[str, ...]
    campaign_id: str | None
    flagged_at: datetime | None
    review_state: str | None


@dataclass(frozen=True)
class Review:
    """What an analyst concluded of an account."""

    state: str
    reason: str
    author: str
    until: datetime | None
    at: datetime


@dataclass(frozen=True)
class AccountDetail(Account):
    """An account, and why."""

    reasons: tuple[str, ...]
    evidence_event_ids: tuple[str, ...]
    reviews: tuple[Review, ...]


@dataclass(frozen=True)
class AccountPage:
    """Accounts by id; `cursor` gets the next page, None at the end."""

    accounts: tuple[Account, ...]
    cursor: str | None


@dataclass(frozen=True)
class Campaign:
    """A row of campaigns.parquet."""

    campaign_id: str
    n_accounts: int
    n_prompts: int
    capabilities: tuple[str, ...]
    techniques: tuple[str, ...]
    template_families: tuple[str, ...]
    scaffolds: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    flagged_at: datetime | None
    log10_e: float


@dataclass(frozen=True)
class CampaignDetail(Campaign):
    """A campaign and the ids of its accounts."""

    accounts: tuple[str, ...]


@dataclass(frozen=True)
class CampaignList:
    """All campaigns, largest first."""

    campaigns: tuple[Campaign, ...]


@dataclass(frozen=True)
class KnownTemplate:
    """A signature that prompts are matched against."""

    id: str
    family: str
    tier: str
    technique: str | None
    target: str | None


@dataclass(frozen=True)
class TemplateList:
    """All signatures, of the bundle and of the catalogue."""

    templates: tuple[KnownTemplate, ...]
    bundle_id: str
    catalogue_id: str


@dataclass(frozen=True)
class Loaded:
    """What the service has loaded; `changed`: it was not so before."""

    bundle_id: str
    catalogue_id: str
    changed: bool
