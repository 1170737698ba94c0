"""What a review is, and what it does to later decisions, in the words of the page; and a verdict in a sentence. Pure.

What stands here is what `tests/test_console.py` has each review do.
"""

from __future__ import annotations

from dataclasses import dataclass

from classifier.types import Decision
from service.console.standing import moment_of
from service.report_types import Account
from service.report_words import aims_of, basis_of, day, exponent, moment, span
from service.store.exemptions import end_of


@dataclass(frozen=True)
class Effect:
    """A choice of the review form: its name, its title, what it does, and whether it must end."""

    state: str
    title: str
    does: str
    must_end: bool = False


EFFECTS = (
    Effect(
        "confirmed",
        "Confirm",
        "The account leaves the list of what is undecided. Its evidence and its verdict stay as they are, and are kept "
        "up to date.",
    ),
    Effect(
        "dismissed",
        "Dismiss",
        "The account leaves the list of what is undecided until the last day given is over, or for good. It is still "
        "shown under its verdict, which only evidence changes: a dismissal is an opinion about what the evidence "
        "means. Where several analysts dismiss accounts of one kind, probewatch train --reviews makes a bundle that "
        "goes by it.",
    ),
    Effect(
        "watched",
        "Watch",
        "The account is marked and stays in the list of what is undecided. A confirmation or dismissal before it holds "
        "no more.",
    ),
    Effect(
        "exempted",
        "Exempt",
        "Matches of the family chosen, those before and those to come, on the last day given too, count for nothing, "
        "and the verdict is found anew at once. Everything else counts as before. Another exemption of the family "
        "takes the place of this one.",
        must_end=True,
    ),
    Effect(
        "withdrawn",
        "Withdraw an exemption",
        "What a review exempted of the family chosen counts again, and the verdict is found anew at once. The history "
        "keeps both entries.",
    ),
)


def ending_words(until: int, now: int) -> str:
    """When a review ends or ended (us): by the last day that it holds, where it ends with a day."""
    last = moment_of(until - 1)
    ended = until <= now
    if end_of(last.date()) == until:
        return f"{'last day was' if ended else 'last day'} {day(last)}"
    return f"{'ended' if ended else 'until'} {moment(moment_of(until))}"


def verdict_sentence(account: Account) -> str:
    """The decision in words: what, on what, by how much, since when."""
    evidence = (
        f"evidence of 10^{exponent(account.log10_max_e)} where a flag takes 10^{exponent(account.log10_threshold)}"
    )
    names = aims_of(account.capabilities)
    basis = basis_of(account.basis) if account.basis is not None else "what it sent"
    if account.decision == Decision.FLAG:
        since = ""
        if account.flagged_at is not None:
            after = span(account.flagged_at - account.first_seen)
            since = f" It was so on {moment(account.flagged_at)} UTC, {after} after it was first seen."
        return f"Flagged for probing {names}, on {basis}: {evidence}.{since}"
    if account.decision == Decision.REVIEW:
        return f"Worth a review for {names}, on {basis}, which is no flag: {evidence}."
    if account.decision == Decision.CLEAR:
        return f"Clear: {evidence}, and prompts enough to have told an account that extracts with every second one."
    return "Too few distinct prompts to say anything."
