"""What is new since the last publication, to be told: flags, campaigns, discovered templates. Stands after `outbox`.

When alerts are turned on, what there is by then is noted without being told. A flag that went (an exemption, an
erasure) and comes again is new. A campaign is new unless most of its accounts were in one before: as it grows its
families change, and its id with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, text

from classifier.campaigns import Campaigns
from classifier.verdicts import Thresholds
from service.http.accounts_view import account_rows
from service.http.published import iso
from service.store.campaigns import campaign_rows
from service.store.facts import has_fact, set_fact
from service.store.opening import Store
from service.store.outbox import Kind, News, announce
from service.store.ranking import read_numbered
from service.store.schema import LEAST_LOG_M
from service.store.standing import read_flag_times

MOST_FLAGS = 1_000
"""Flags that one turn tells of; the next goes on."""
MOST_TEMPLATES, LEAST_INTENT = 20, 0.5
"""Discovered templates of a run that are told of, and the median extraction probability that they have at least."""
_BEGUN = "alerts_begun"
_FLAG_FACTS = ("account_id", "flagged_at", "capabilities", "techniques", "top_template_family", "campaign_id")
_FLAG_FIGURES = ("log10_max_e", "log10_threshold", "n_prompts")
_CAMPAIGN_FACTS = ("campaign_id", "n_accounts", "n_prompts", "capabilities", "techniques", "template_families")
_CAMPAIGN_FIGURES = ("first_seen", "last_seen", "flagged_at", "log10_e")

_FLAGGED = f"a.log_max_e >= {LEAST_LOG_M} AND a.log_max_e >= :least"
_NEW_FLAGS = text(
    f"SELECT a.account_no FROM accounts a WHERE {_FLAGGED} AND NOT EXISTS "
    "(SELECT 1 FROM announced n WHERE n.kind = 'flag' AND n.subject = a.account_id) ORDER BY a.account_no LIMIT :n"
)
_ALL_FLAGS = text(
    "INSERT INTO announced (kind, subject) "
    f"SELECT 'flag', a.account_id FROM accounts a WHERE {_FLAGGED} ON CONFLICT (kind, subject) DO NOTHING"
)
_N_FLAGS = text("SELECT count(*) FROM announced WHERE kind = 'flag'")
_GONE_FLAGS = text(
    "DELETE FROM announced WHERE kind = 'flag' AND NOT EXISTS "
    f"(SELECT 1 FROM accounts a WHERE a.account_id = announced.subject AND {_FLAGGED})"
)
_MEMBERS = text("SELECT a.account_id FROM members m JOIN accounts a ON a.account_no = m.account_no WHERE m.linked = 0")


def tell_flags(store: Store, thresholds: Thresholds, now: int) -> int:
    """Tell of accounts that are flagged and were not; how many. Safe from many processes at once: one of them tells."""
    least = {"least": thresholds.log_flag}
    with store.reading() as connection:
        begun = has_fact(connection, _BEGUN)
        new = connection.execute(_NEW_FLAGS, {**least, "n": MOST_FLAGS}).scalars().all()
        gone = connection.execute(_N_FLAGS).scalar_one() > thresholds.n_flagged
        news = _flags(connection, new, thresholds) if begun else []
    if begun and not news and not gone:
        return 0
    with store.writing() as connection:
        if not begun:
            connection.execute(_ALL_FLAGS, least)
            set_fact(connection, _BEGUN, str(now))
        if gone:
            connection.execute(_GONE_FLAGS, least)
        return announce(connection, news, now)


def tell_campaigns(connection: Connection, found: Campaigns, now: int) -> int:
    """Tell of campaigns that are new, in the transaction that is about to publish them; how many."""
    before = set(connection.execute(_MEMBERS).scalars())
    size: dict[str, int] = {}
    known: dict[str, int] = {}
    for account, campaign in found.of_account.items():
        size[campaign] = size.get(campaign, 0) + 1
        known[campaign] = known.get(campaign, 0) + (account in before)
    begun, told = has_fact(connection, _BEGUN), 0
    for row in campaign_rows(found):
        name = row["campaign_id"]
        grown = 2 * known.get(name, 0) > size.get(name, 0)
        news = News(Kind.CAMPAIGN, name, _only(row, _CAMPAIGN_FACTS, _CAMPAIGN_FIGURES))
        told += announce(connection, [news], now, silently=grown or not begun)
    return told


def tell_templates(connection: Connection, discovered: pa.Table, now: int) -> int:
    """Tell of wordings that a run shares and nothing explains (DISCOVERED_SCHEMA, most suspicious first), in the
    transaction that takes the run in: of the first ones that look made to harvest answers; how many are new."""
    told, begun = 0, has_fact(connection, _BEGUN)
    for row in discovered.slice(0, MOST_TEMPLATES).to_pylist():
        if row["p_extraction"] >= LEAST_INTENT:
            name = f"scaffold-{row['scaffold']:016x}"
            facts = _only(row, ("n_accounts", "n_prompts", "growth"))
            times = {end: iso(row[end]) for end in ("first_seen", "last_seen")}
            news = News(Kind.TEMPLATE, name, {"template_id": name, **facts, **times})
            told += announce(connection, [news], now, silently=not begun)
    return told


def _flags(connection: Connection, numbers: Sequence[int], thresholds: Thresholds) -> list[News]:
    if not numbers:
        return []
    known = read_numbered(connection, numbers)
    rows = account_rows(known, thresholds, read_flag_times(connection, thresholds))
    return [News(Kind.FLAG, row["account_id"], _only(row, _FLAG_FACTS, _FLAG_FIGURES)) for row in rows]


def _only(row: Mapping[str, Any], *names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for part in names for name in part}
