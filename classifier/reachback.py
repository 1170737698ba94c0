"""Reach-back: who used a local family before it was approved. For an analyst's eyes; it is evidence of nothing.

    merged units -> **reachback** -> accounts

A signature that was learnt from traffic judges what comes after its approval alone, so what came before has y = 0
(`labeler`) and raises no e-value. Those who sent enough of it are linked: up for review on the basis `analyst`, unless
something stronger judges them, and shown in the family's campaign, which does not count them. Nothing here flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.campaigns import LINK_UNITS, Campaigns
from classifier.exceptions import AgreedException, holds_for
from classifier.types import OTHER, TARGETS, Basis, Channel, Decision
from classifier.units import microseconds
from classifier.verdicts import Judgement, Verdicts

Judged = TypeVar("Judged", bound=Judgement)


@dataclass(frozen=True)
class Approval:
    """When a local exclusive family was approved, in microseconds since 1970, and what it aims at, None if the payload
    tells."""

    us: int
    target: str | None


@dataclass(frozen=True)
class Link:
    """Distinct prompts of a family that an account sent up to its approval. `first_us`: when it sent the first."""

    account: str
    family: str
    n_units: int
    first_us: int
    approval: Approval


def find_links(
    units: pa.Table, approvals: Mapping[str, Approval], exceptions: Sequence[AgreedException] = ()
) -> dict[str, list[Link]]:
    """Links of every account with at least LINK_UNITS such prompts of a family, most prompts first; agreed exceptions
    hold here too. `approvals`: by family."""
    early = units.filter(
        (pc.field("channel") == Channel.SIGNATURE)
        & (pc.field("matched") > 0)
        & (pc.field("y") == 0)
        & (pc.field("y_public") == 0)
        & pc.field("family").isin(pa.array(list(approvals), pa.string()))
    )
    us = microseconds(early["timestamp"])
    approved = np.array([approvals[family].us for family in early["family"].to_pylist()], np.int64)
    excused = [holds_for(early, exception) for exception in exceptions]
    early = early.filter(pa.array((us <= approved) & ~np.logical_or.reduce([np.zeros(len(us), bool), *excused])))
    uses = early.group_by(["account_id", "family"]).aggregate([("key", "count"), ("timestamp", "min")])
    links = [
        Link(account, family, n, first, approvals[family])
        for account, family, n, first in zip(
            uses["account_id"].to_pylist(),
            uses["family"].to_pylist(),
            uses["key_count"].to_pylist(),
            microseconds(uses["timestamp_min"]).tolist(),
            strict=True,
        )
        if n >= LINK_UNITS
    ]
    found: dict[str, list[Link]] = {}
    for link in sorted(links, key=lambda link: (link.account, -link.n_units, link.family)):
        found.setdefault(link.account, []).append(link)
    return found


def in_force(units: pa.Table) -> pa.Table:
    """Units as if local families had been approved before all of them: what a vetted account sent up to an approval
    tells of its conduct as what it sends later does."""
    early = (units["matched"].to_numpy() > 0) & ((units["y"].to_numpy() | units["y_public"].to_numpy()) == 0)
    place = units.schema.get_field_index("y")
    y = np.where(early, np.uint8(1 << TARGETS.index(OTHER)), units["y"].to_numpy())  # a rate asks for no target
    return units.set_column(place, units.schema.field(place), pa.array(y))


def review_linked(verdicts: Verdicts, links: Mapping[str, Sequence[Link]]) -> Verdicts:
    """Linked accounts that nothing stronger judges are up for review; every other verdict stays."""
    places = pc.index_in(pa.array(list(links), pa.string()), verdicts.account_ids).to_pylist()
    return review_places(verdicts, dict(zip(places, links.values(), strict=True)))


def review_places(judged: Judged, links: Mapping[int, Sequence[Link]]) -> Judged:
    """`review_linked` of accounts by their places among those judged."""
    if not links:
        return judged
    decision, basis, capabilities = list(judged.decision), list(judged.basis), list(judged.capabilities)
    for place, theirs in links.items():
        if decision[place] in (Decision.CLEAR, Decision.INSUFFICIENT_EVIDENCE):
            decision[place], basis[place] = Decision.REVIEW, Basis.ANALYST
            aims = (link.approval.target for link in theirs)
            capabilities[place] = tuple(dict.fromkeys(aim for aim in aims if aim is not None))
    return replace(judged, decision=decision, basis=basis, capabilities=capabilities)


def place_linked(campaigns: Campaigns, links: Mapping[str, Sequence[Link]]) -> Campaigns:
    """Linked accounts that are members of no campaign are shown with the first one of their family; none is counted in
    it."""
    home: dict[str, str] = {}
    for row in campaigns.table.sort_by([("first_seen", "ascending"), ("campaign_id", "ascending")]).to_pylist():
        for family in row["template_families"]:
            home.setdefault(family, row["campaign_id"])
    of_linked = {
        account: next(home[link.family] for link in theirs if link.family in home)
        for account, theirs in links.items()
        if account not in campaigns.of_account and any(link.family in home for link in theirs)
    }
    return replace(campaigns, of_linked=of_linked)
