"""What the report's page says, as data: `Run` -> `ReportView`. Pure; the template only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifier.types import OTHER, TARGETS, Decision
from service.report_plots import CLIP, Activity, activity, activity_figure, evidence_figure
from service.report_types import Account, Campaign, Facts, Run, Scaffold, Stratum, Totals
from service.report_words import counted, joined, percent, span, title_of


@dataclass(frozen=True)
class Bar:
    """Evidence against threshold, on the same scale in every table; positions in percent of the bar's width."""

    width: float
    tick: float
    clipped: bool


@dataclass(frozen=True)
class TargetView:
    """One target of an account: its log10 e-value and the share of prompts that ask for it, in [0, 1]."""

    target: str
    log10_e: float
    share: float
    start: float  # where the target's part of the mix begins, in [0, 1]


@dataclass(frozen=True)
class AccountView:
    account: Account
    anchor: str
    bar: Bar
    targets: list[TargetView]
    delay: str | None  # from first seen to flagged
    campaign_anchor: str | None


@dataclass(frozen=True)
class Link:
    """A name, and the element of the page that tells more of it if there is one."""

    text: str
    anchor: str | None


@dataclass(frozen=True)
class CampaignView:
    campaign: Campaign
    anchor: str
    delay: str | None
    accounts: list[Link]
    more_accounts: int


@dataclass(frozen=True)
class Check:
    """A sentence about counts that must agree, and whether they do."""

    text: str
    holds: bool


@dataclass(frozen=True)
class ReportView:
    finding: str
    rest: str
    promise: list[str]
    facts: Facts
    totals: Totals
    campaigns: list[CampaignView]
    flagged: list[AccountView]
    review: list[AccountView]
    ranked: list[AccountView]
    discovered: list[Scaffold]
    activity: Activity
    activity_summary: str
    evidence_summary: str
    n_points: int
    checks: list[Check]
    figures: dict[str, dict[str, Any]]


def build_view(run: Run) -> ReportView:
    """Everything the template needs, in the order of the page."""
    periods = activity(run.activity)
    cards = {c.campaign_id: f"campaign-{i}" for i, c in enumerate(run.campaigns, 1)}
    flagged = account_views(run.flagged, "flagged", cards)
    rows = {view.account.account_id: view.anchor for view in flagged}
    return ReportView(
        finding=finding(run.totals),
        rest=rest(run.totals),
        promise=promise(run.facts, run.totals),
        facts=run.facts,
        totals=run.totals,
        campaigns=[_campaign_view(c, cards, rows) for c in run.campaigns],
        flagged=flagged,
        review=account_views(run.review, "review", cards),
        ranked=account_views(run.ranked, "account", cards),
        discovered=list(run.discovered),
        activity=periods,
        activity_summary=activity_summary(periods),
        evidence_summary=evidence_summary(run.totals),
        n_points=len(run.points),
        checks=checks(run.facts, run.totals),
        figures={"activity": activity_figure(periods), "evidence": evidence_figure(run.points)},
    )


def finding(totals: Totals) -> str:
    """The report in one sentence."""
    flagged = totals.decisions.get(Decision.FLAG, 0)
    if totals.accounts == 0:
        return "This run holds no account."
    if flagged == 0:
        return f"None of {counted(totals.accounts, 'account')} shows evidence enough to be flagged."
    order = [*TARGETS, *sorted(set(totals.flagged_for) - set(TARGETS))]
    named = [c for c in order if totals.flagged_for.get(c)]
    told = [c for c in named if c != OTHER] or named  # "other" tells nothing beside a capability
    parts = [f"{totals.flagged_for[c]:,} for {title_of(c)}" for c in told]
    verb = "is" if flagged == 1 else "are"
    targets = f": {joined(parts)}" if parts else ""
    return f"{flagged:,} of {counted(totals.accounts, 'account')} {verb} probing{targets}."


def rest(totals: Totals) -> str:
    """What the finding leaves out: campaigns, the other decisions."""
    said = [
        f"{totals.decisions[d]:,} {words}"
        for d, words in (
            (Decision.REVIEW, "worth a review"),
            (Decision.CLEAR, "clear"),
            (Decision.INSUFFICIENT_EVIDENCE, "with too few prompts to say"),
        )
        if totals.decisions.get(d)
    ]
    several = sum(totals.flagged_for.values()) > totals.decisions.get(Decision.FLAG, 0)
    sentences = [
        "An account that probes for several capabilities is counted under each." if several else "",
        f"{counted(totals.campaigns, 'campaign')} found.",
        f"{'Of the other accounts' if totals.decisions.get(Decision.FLAG) else 'Of all accounts'}, {joined(said)}."
        if said
        else "",
    ]
    return " ".join(s for s in sentences if s)


def promise(facts: Facts, totals: Totals) -> list[str]:
    """What may be promised about the flags, in sentences that claim no more than the certified bound."""
    sentences = []
    if facts.alpha is not None:
        sentences.append(
            f"Of accounts whose conduct is within the stated baseline, false flags are expected to be at most "
            f"{percent(facts.alpha, up=True)} of all flags, whatever their number and however often one looks."
        )
    if facts.fdr_bound is None:
        sentences.append("This run states no bound for a population that may also hold accounts outside the baseline.")
    elif facts.fdr_bound >= 1:
        sentences.append(
            "For this population as a whole nothing can be promised (the bound is 100 %): too few honest accounts have "
            "been certified to be within the baseline. More vetted accounts to certify on lower it."
        )
    else:
        sentences.append(
            "Counting also honest accounts that may lie outside the baseline, at most "
            f"{percent(facts.fdr_bound, up=True)} of the flags in this population are expected to be false."
        )
    if totals.linked:
        sentences.append(
            f"{counted(totals.linked, 'account')} up for review only for what was sent before an analyst approved the "
            "signature that knows it: linked, not evidence."
        )
    return sentences


def certified(stratum: Stratum) -> str:
    """What a stratum says, and what it costs the bound."""
    return (
        f"{title_of(stratum.stratum)}: {stratum.k:,} of {stratum.n:,} honest accounts above the baseline, so at most "
        f"{percent(stratum.epsilon, up=True)} of all such (95 %); alone that adds {percent(stratum.adds, up=True)} to "
        "the bound"
    )


def checks(facts: Facts, totals: Totals) -> list[Check]:
    """The counts that must agree, and whether they do."""
    total = facts.labelled + facts.rejected + facts.duplicates
    return [
        Check(
            f"{facts.read:,} records read = {facts.labelled:,} labelled + {facts.rejected:,} rejected + "
            f"{facts.duplicates:,} duplicates",
            facts.read == total,
        ),
        Check(f"{totals.labels:,} rows of labels = {facts.labelled:,} labelled", totals.labels == facts.labelled),
        Check(
            f"{totals.prompts:,} prompts of accounts = {facts.labelled:,} labelled", totals.prompts == facts.labelled
        ),
    ]


def activity_summary(view: Activity) -> str:
    """The activity plot in a sentence, for those who do not see it."""
    flagged, others = view.totals
    if not view.starts:
        return "The run holds no labelled prompt."
    parts = []
    for n, side, who in ((flagged, 0, "flagged accounts"), (others, 1, "all other accounts")):
        if n:
            shares = [
                f"{percent(sum(view.counts[side][c]) / n)} {title_of(c)}" for c in TARGETS if any(view.counts[side][c])
            ]
            parts.append(f"{counted(n, 'prompt')} of {who}: {joined(shares)}.")
    return " ".join(parts)


def evidence_summary(totals: Totals) -> str:
    flagged = totals.decisions.get(Decision.FLAG, 0)
    return f"{counted(flagged, 'account')} at or above the threshold, {totals.accounts - flagged:,} below."


def bar(account: Account) -> Bar:
    """The account's strongest evidence on a scale from 0 to CLIP thresholds (log10)."""
    top = max(CLIP * account.log10_threshold, 1e-9)
    inside = min(max(account.log10_max_e, 0.0), top)
    tick = max(account.log10_threshold, 0.0) / top
    return Bar(round(100 * inside / top, 2), round(100 * tick, 2), account.log10_max_e > top)


def account_views(accounts: Sequence[Account], prefix: str, cards: Mapping[str, str]) -> list[AccountView]:
    """Rows with their bars; `cards`: anchors of campaigns that the page tells of."""
    return [
        AccountView(
            account=a,
            anchor=f"{prefix}-{i}",
            bar=bar(a),
            targets=_targets(a),
            delay=span(a.flagged_at - a.first_seen) if a.flagged_at is not None else None,
            campaign_anchor=cards.get(a.campaign_id) if a.campaign_id is not None else None,
        )
        for i, a in enumerate(accounts, 1)
    ]


def _targets(account: Account) -> list[TargetView]:
    views: list[TargetView] = []
    start = 0.0
    for target, log10_e, share in zip(TARGETS, account.log10_e_targets, account.shares, strict=True):
        views.append(TargetView(target, log10_e, share, start))
        start += share
    return views


def _campaign_view(campaign: Campaign, cards: Mapping[str, str], rows: Mapping[str, str]) -> CampaignView:
    members = campaign.flagged_accounts
    return CampaignView(
        campaign=campaign,
        anchor=cards[campaign.campaign_id],
        delay=span(campaign.flagged_at - campaign.first_seen) if campaign.flagged_at is not None else None,
        accounts=[Link(name, rows.get(name)) for name in members],
        more_accounts=max(0, campaign.n_accounts - len(members)),
    )
