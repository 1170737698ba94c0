"""Shapes of requests and answers: for the OpenAPI document, from which clients are made. Stands after `problems`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from classifier.types import CAPABILITIES, TARGETS

_EVENT: dict[str, JsonValue] = {
    "account_id": "acct-0032",
    "event_id": "req-7f3a",
    "timestamp": "2026-05-01T12:00:00Z",
    "system": "You are a helpful assistant.",
    "prompt": "Write a parser for this log format.",
}


class Message(BaseModel):
    """A turn of a conversation."""

    role: str
    content: str | list[Any] | None = None


class EventIn(BaseModel):
    """One request that an account sent to the model. What is scored: the system text and the last user turn."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [_EVENT], "anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}
    )

    account_id: str | int
    prompt: str | None = None
    messages: list[Message] | None = Field(None, description="Instead of prompt: the conversation.")
    system: str | list[Any] | None = None
    tools: list[Any] | None = None
    event_id: str | int | None = Field(None, description="Makes retries harmless: the same id again counts nothing.")
    timestamp: str | float | None = Field(None, description="ISO 8601 or epoch, UTC; now if not given.")
    model: str | None = Field(None, description="Context, shown and never evidence, as the next two are.")
    org_id: str | int | None = None
    end_user_id: str | int | None = Field(None, description="Of it a keyed hash is counted, and nothing kept.")


class BatchIn(BaseModel):
    """Up to 1,000 events."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [_EVENT]}]})

    events: list[EventIn] = Field(min_length=1, max_length=1_000)


class TemplateOut(BaseModel):
    """The known template that a prompt was made with."""

    id: str
    family: str
    technique: str | None
    similarity: float | None
    coverage: float | None


class PromptOut(BaseModel):
    """What one prompt asks for."""

    capability: str = Field(description=f"One of {', '.join(TARGETS)}.")
    probabilities: dict[str, float] = Field(description=f"Of {', '.join(CAPABILITIES)}; independent.")
    p_extraction: float
    template: TemplateOut | None


class StandingOut(BaseModel):
    """An account as of the last published verdicts."""

    account_id: str
    decision: str
    capabilities: list[str]
    log10_e: dict[str, float] = Field(description=f"Of {', '.join(TARGETS)}.")
    n_prompts: int
    campaign_id: str | None
    verdict_as_of: datetime


class ScoreOut(BaseModel):
    """An answer; its evidence is committed."""

    event_id: str
    prompt: PromptOut
    account: StandingOut
    bundle_id: str
    catalogue_id: str


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class BatchOut(BaseModel):
    """For each event, in order, an answer or a problem."""

    results: list[ScoreOut | ProblemOut]


class AccountOut(BaseModel):
    """A row of accounts.parquet; `flagged_at` and all evidence as of now. `log10_e_` and `share_` of each capability,
    those too that a taxonomy adds."""

    model_config = ConfigDict(extra="allow")

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
    techniques: list[str]
    campaign_id: str | None
    flagged_at: datetime | None
    review_state: str | None


class ReviewOut(BaseModel):
    """What an analyst concluded."""

    state: str
    reason: str
    author: str
    until: datetime | None
    at: datetime


class AccountDetailOut(AccountOut):
    """An account, and why."""

    reasons: list[str]
    evidence_event_ids: list[str]
    reviews: list[ReviewOut]


class AccountsOut(BaseModel):
    """A page of accounts, by id; `cursor` gets the next one, null at the end."""

    accounts: list[AccountOut]
    cursor: str | None


class ReviewIn(BaseModel):
    """What an analyst concludes of an account."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"state": "watched", "reason": "asked"}]})

    state: Literal["confirmed", "dismissed", "watched"]
    reason: str = Field(min_length=1, max_length=2_000)
    until: datetime | None = Field(None, description="When it ends; with time zone.")


class CampaignOut(BaseModel):
    """A row of campaigns.parquet."""

    campaign_id: str
    n_accounts: int
    n_prompts: int
    capabilities: list[str]
    techniques: list[str]
    template_families: list[str]
    scaffolds: list[str] = Field(description="64-bit hashes, as text.")
    first_seen: datetime
    last_seen: datetime
    flagged_at: datetime | None
    log10_e: float


class CampaignsOut(BaseModel):
    """All campaigns, largest first."""

    campaigns: list[CampaignOut]


class CampaignDetailOut(CampaignOut):
    """A campaign and its accounts."""

    accounts: list[str]


class ReloadOut(BaseModel):
    """What is loaded now."""

    bundle_id: str
    catalogue_id: str
    changed: bool
