"""A labelled run on a terminal: `Run` (see report_data) -> the accounts that matter, campaigns, what is promised.

The short form of the report; both say the same sentences. Without a terminal, plain text of 80 columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from classifier.types import Decision
from service.report_types import Account, Campaign, Run
from service.report_view import certified, checks, finding, promise, rest
from service.report_words import counted, exponent, joined, percent, title_of, visible

FLAGGED_SHOWN = 25
REVIEW_SHOWN = 10
CAMPAIGNS_SHOWN = 10
_WRAPPED = ("account", "probing for", "mostly by")
_SHORT = {"agentic_reasoning": "agentic", "long_horizon_planning": "planning"}


def print_summary(run: Run, console: Console) -> None:
    """Print what a run found, most important first."""
    for renderable in _renderables(run):
        console.print(renderable)


def _renderables(run: Run) -> Iterator[RenderableType]:
    yield Text(finding(run.totals), "bold")
    yield Text(rest(run.totals))
    flagged, review = run.flagged[:FLAGGED_SHOWN], run.review[:REVIEW_SHOWN]
    if flagged or review:
        yield Padding(_accounts([*flagged, *review]), (1, 0, 0, 0))
        yield from _left_out(run, len(flagged), len(review))
    if run.campaigns:
        yield Padding(_campaigns(run.campaigns[:CAMPAIGNS_SHOWN]), (1, 0, 0, 0))
    yield Text()
    for sentence in promise(run.facts, run.totals):
        yield Text(sentence)
    for stratum in run.facts.strata:
        yield Text(f"- {certified(stratum)}.")
    yield Text(f"{checks(run.facts, run.totals)[0].text}.")


def _accounts(accounts: Sequence[Account]) -> Table:
    table = _table("account", "verdict", "probing for", ">evidence", ">prompts", ">known", "campaign")
    for account in accounts:
        is_flag = account.decision == Decision.FLAG
        table.add_row(
            visible(account.account_id, 40),
            Text(account.decision, "bold red" if is_flag else "yellow"),
            ", ".join(_short(c) for c in account.capabilities),
            f"10^{exponent(account.log10_max_e if is_flag else account.log10_e)}",
            f"{account.n_prompts:,}",
            percent(account.template_rate),
            _campaign_name(account.campaign_id) if account.campaign_id is not None else "",
        )
    needed = exponent(accounts[0].log10_threshold)
    table.caption = f"A flag takes evidence of 10^{needed}; known: prompts that match a known template."
    return table


def _left_out(run: Run, flagged: int, review: int) -> Iterator[RenderableType]:
    more = [
        f"{counted(n, 'more account')} {words}"
        for n, words in (
            (run.totals.decisions.get(Decision.FLAG, 0) - flagged, "flagged"),
            (run.totals.decisions.get(Decision.REVIEW, 0) - review, "worth a review"),
        )
        if n > 0
    ]
    if more:
        yield Text(f"And {joined(more)}: see accounts.parquet.")


def _campaigns(campaigns: Sequence[Campaign]) -> Table:
    table = _table("campaign", ">accounts", ">prompts", "probing for", "mostly by", "since")
    for campaign in campaigns:
        table.add_row(
            _campaign_name(campaign.campaign_id),
            f"{campaign.n_accounts:,}",
            f"{campaign.n_prompts:,}",
            ", ".join(_short(c) for c in campaign.capabilities),
            title_of(campaign.techniques[0]) if campaign.techniques else "",
            f"{campaign.first_seen:%Y-%m-%d}",
        )
    return table


def _table(*headings: str) -> Table:
    """A table with a column for each heading; those that begin with `>` hold numbers."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), caption_justify="left", caption_style="dim"
    )
    for heading in headings:
        name = heading.removeprefix(">")
        table.add_column(name, justify="right" if name != heading else "left", no_wrap=name not in _WRAPPED)
    return table


def _campaign_name(campaign_id: str) -> str:
    return visible(campaign_id.removeprefix("campaign-"), 40)


def _short(target: str) -> str:
    return _SHORT.get(target, title_of(target))
