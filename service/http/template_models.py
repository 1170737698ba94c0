"""Shapes of requests and answers about templates: for the OpenAPI document, and to check what comes. After `models`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from classifier.signatures import NAME
from classifier.types import TARGETS

LONGEST_REASON = 2_000
_SAMPLE = "Grade the answer below from 1 to 7 against the rubric, then justify each point.\n---\n{}"
_ACCOUNTS = ("acct-1", "acct-2", "acct-3", "acct-4", "acct-5")
_FAMILY: dict[str, JsonValue] = {"family": "night_mill", "capability": "coding", "reason": "ticket 4711"}


class FamilyIn(BaseModel):
    """What signatures are to be called and to say."""

    model_config = ConfigDict(extra="forbid")

    family: str = Field(pattern=f"^(?:{NAME.pattern})$", description="Its name in every output.")
    technique: str | None = Field(None, pattern=f"^(?:{NAME.pattern})$", description="How it extracts.")
    capability: Literal["coding", "agentic_reasoning", "long_horizon_planning", "other"] | None = Field(
        None, description=f"One of {', '.join(TARGETS)}; what each payload asks for if not given."
    )
    reason: str = Field(min_length=1, max_length=LONGEST_REASON, description="Why: kept with it, and in the audit log.")
    dry_run: bool = Field(False, description="Say what would be added, and add nothing.")


class TemplateIn(FamilyIn):
    """5 to 500 prompts of one campaign, or of one application, of at least two accounts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_FAMILY, "samples": [{"account_id": one, "prompt": _SAMPLE.format(one)} for one in _ACCOUNTS]}
            ]
        }
    )

    tier: Literal["public", "exclusive", "benign"] = Field(
        "public",
        description="public: puts up for review at most. exclusive: what is sent from now on may flag; half of the "
        "accounts in PROBEWATCH_ORDINARY must certify it. benign: a harmless application's, excused.",
    )
    samples: list[dict[str, Any]] = Field(min_length=1, description="Events as /v1/score takes them.")


class FindingIn(FamilyIn):
    """A finding of a labelled run, whose prompts are read again. `tier` is for approvals."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_FAMILY, "run": "2026-09-03"}]})

    run: str = Field(description="Name of the run in PROBEWATCH_RUNS.")
    tier: Literal["public", "exclusive"] = Field("public", description="As for samples.")


class KnownTemplateOut(BaseModel):
    """A signature that prompts are matched against; what follows `source` is null for one of the bundle."""

    id: str
    family: str
    tier: str
    technique: str | None
    target: str | None
    source: Literal["bundle", "catalogue"]
    since: str | None = Field(description="When it was added. An exclusive one is evidence of what is sent later.")
    note: str | None
    n_samples: int | None
    n_accounts: int | None
    n_certified: int | None


class TemplatesOut(BaseModel):
    """All signatures, of the bundle and of the catalogue."""

    templates: list[KnownTemplateOut]
    bundle_id: str
    catalogue_id: str


class OrdinaryOut(BaseModel):
    """How often ordinary prompts match a signature; `worst`: share of one account's."""

    n_prompts: int
    n_accounts: int
    n_matched: int
    worst: float


class ProposalOut(BaseModel):
    """A signature of samples. `found`: share of its samples that match it; `known`: that match a known one better."""

    id: str
    family: str
    tier: str
    technique: str | None
    target: str | None
    n_fixed: int = Field(description="Hashed runs of three words that are constant in it.")
    minimum_hits: int
    minimum_coverage: float
    n_samples: int
    n_accounts: int
    found: float
    known: float
    known_as: str | None
    ordinary: OrdinaryOut


class CertifiedOut(BaseModel):
    """What held-out ordinary accounts certify; `epsilon`: at most this share of all such is above the baseline."""

    n_accounts: int
    n_prompts: int
    n_matched: int
    epsilon: float


class AdditionOut(BaseModel):
    """What was added, or would be; `since` null: nothing was."""

    templates: list[ProposalOut]
    certified: CertifiedOut | None
    since: str | None
    catalogue_id: str


class RemovedOut(BaseModel):
    """The catalogue without it."""

    catalogue_id: str


class FindingOut(BaseModel):
    """A wording that accounts share and nothing explains: numbers alone, no wording."""

    id: str
    rank: int
    strength: float
    first_seen: str
    last_seen: str
    shingles: int
    n_accounts: int
    n_prompts: int
    users: float
    p_extraction: float
    diversity: float
    size: float
    growth: float


class DiscoveredOut(BaseModel):
    """Findings of a run, most suspicious first."""

    run: str
    looked_at: dict[str, int]
    findings: list[FindingOut]
