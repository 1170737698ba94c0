"""A labelled run's accounts and campaigns as CSV that a spreadsheet may open: what accounts chose cannot run there.

report_data.Selected -> **tables** -> CSV
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from classifier.types import TARGETS
from service.exports.pseudonyms import Pseudonyms
from service.report_types import Account, Campaign

ACCOUNT = "account"
ACCOUNT_ID = "account_id"
_FORMULA = re.compile(r"[\s\x00-\x1f]*[=+\-@＝＋－＠]")
"""What makes a spreadsheet take a text for a formula; it looks past blanks. Full-width ones are read so in some."""

_ACCOUNT_COLUMNS = (
    *("decision", "basis", "capabilities", "campaign_id", "flagged_at", "first_seen", "last_seen"),
    *("n_prompts", "n_units", "template_rate", "top_template_family", "techniques"),
    *("log10_e", "log10_max_e", "log10_threshold", "review_state"),
)
_CAMPAIGN_COLUMNS = (
    *("campaign_id", "n_accounts", "n_prompts", "capabilities", "techniques", "template_families"),
    *("first_seen", "last_seen", "flagged_at", "log10_e"),
)
_Value = str | float | datetime | Sequence[str] | None


def accounts_csv(accounts: Sequence[Account], pseudonyms: Pseudonyms, raw_ids: bool) -> bytes:
    """A row an account, under its pseudonym; with `raw_ids` a column says whose it is."""
    named = [ACCOUNT, *([ACCOUNT_ID] if raw_ids else [])]
    targets = [f"{prefix}_{target}" for prefix in ("log10_e", "share") for target in TARGETS]
    rows = (
        [
            pseudonyms.account(account.account_id),
            *([account.account_id] if raw_ids else []),
            *(getattr(account, name) for name in _ACCOUNT_COLUMNS),
            *account.log10_e_targets,
            *account.shares,
        ]
        for account in accounts
    )
    return _csv([*named, *_ACCOUNT_COLUMNS, *targets], rows)


def campaigns_csv(campaigns: Sequence[Campaign]) -> bytes:
    """A row a campaign."""
    return _csv(_CAMPAIGN_COLUMNS, ([getattr(one, name) for name in _CAMPAIGN_COLUMNS] for one in campaigns))


def _csv(header: Sequence[str], rows: Iterable[Sequence[_Value]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: _Value) -> str | float:
    match value:
        case None:
            return ""
        case float() | int():
            return value
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case str():
            return f"'{value}" if _FORMULA.match(value) else value
        case _:
            return _cell("; ".join(value))
