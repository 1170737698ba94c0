"""What was last published, and what is said of an account by it. Stands after `parsing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log

from classifier.online import evidence_of, stack_states
from classifier.reachback import Link, review_places
from classifier.types import TARGETS
from classifier.verdicts import Thresholds, judge
from service.store.recording import Account

_PER_LOG10 = log(10)


@dataclass(frozen=True)
class Campaigns:
    """The campaign of each account that is in one, and links by reach-back. By account_no."""

    of_account: Mapping[int, str]
    links: Mapping[int, Sequence[Link]]


@dataclass(frozen=True)
class Published:
    """Thresholds and campaigns, as of a time."""

    thresholds: Thresholds
    campaigns: Campaigns
    as_of: datetime

    def say(self, accounts: Sequence[Account]) -> list[dict[str, object]]:
        """`account` of an answer, for each account."""
        if not accounts:
            return []
        evidence = evidence_of(stack_states([one.state for one in accounts]))
        linked = self.campaigns.links
        links = {i: linked[one.number] for i, one in enumerate(accounts) if one.number in linked}
        found = review_places(judge(evidence, self.thresholds), links)
        by_target = (evidence.log_e_target / _PER_LOG10).tolist()
        rows = zip(accounts, found.decision, found.capabilities, by_target, strict=True)
        as_of = iso(self.as_of)
        return [
            {
                "account_id": account.totals["account_id"],
                "decision": str(decision),
                "capabilities": capabilities,
                "log10_e": dict(zip(TARGETS, log_e, strict=True)),
                "n_prompts": account.totals["n_prompts"],
                "campaign_id": self.campaigns.of_account.get(account.number),
                "verdict_as_of": as_of,
            }
            for account, decision, capabilities, log_e in rows
        ]


def iso(moment: datetime) -> str:
    """A moment in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
