"""Campaigns, and who is linked to them, found anew from what changed, and published for all. Stands after `recording`.

Family evidence needs when each account became active on each day, and every verified match. Both are kept per day in
memory, and read again for the days alone whose number in `days` has grown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from classifier.campaigns import Campaigns, describe, group_accounts, member_table
from classifier.families import sightings_of
from classifier.reachback import Approval, Link, find_links, place_linked
from classifier.types import UNIT_SCHEMA
from classifier.units import DAY_US
from service.store.codec import Unit, to_unsigned, unit_table
from service.store.exemptions import read_agreed
from service.store.schema import links, members
from service.store.statements import lookup, upsert, write_many

_VERIFIED = text(
    "SELECT a.account_id, u.* FROM units u JOIN accounts a ON a.account_no = u.account_no "
    "WHERE u.y > 0 AND u.family IS NOT NULL AND u.us >= :begin AND u.us < :end AND NOT EXISTS (SELECT 1 FROM "
    "exemptions e WHERE e.account_id = a.account_id AND e.family = u.family AND u.us < e.until)"
)
_ACTIVE = text(
    "SELECT COALESCE(a.account_id, 'forgotten ' || t.account_no), t.us FROM activity t "
    "LEFT JOIN accounts a ON a.account_no = t.account_no WHERE t.day = :day"
)
_EARLY = text(
    "SELECT a.account_id, u.* FROM units u JOIN accounts a ON a.account_no = u.account_no "
    "WHERE u.matched > 0 AND u.y = 0 AND u.y_public = 0"
)
_LINKS = text("SELECT a.account_id, l.* FROM links l JOIN accounts a ON a.account_no = l.account_no")
_USES = text("SELECT a.account_id, u.* FROM uses u JOIN accounts a ON a.account_no = u.account_no")
_NUMBERS = "SELECT a.account_id, a.account_no FROM {keys} JOIN accounts a ON a.account_id = CAST(k.value ->> 0 AS TEXT)"
_CLAIM = text(
    "INSERT INTO publication (one, version, published, claimed_until, campaigns) VALUES (1, 0, 0, :until, '[]') "
    "ON CONFLICT (one) DO UPDATE SET claimed_until = :until "
    "WHERE publication.claimed_until <= :now"
)
_PUBLISH = text("UPDATE publication SET version = version + 1, published = :now, campaigns = :campaigns WHERE one = 1")


@dataclass(frozen=True)
class Publication:
    """The last published campaigns (rows of CAMPAIGN_SCHEMA as JSON; 0: none yet), who belongs to them or is shown
    with them, and who is linked by what it sent before an approval, by account_no."""

    version: int
    campaigns: Sequence[Mapping[str, Any]]
    members: Mapping[int, str]
    links: Mapping[int, Sequence[Link]]


@dataclass(frozen=True)
class Families:
    """What campaigns are found by: how many extraction families there are, and when local ones were approved."""

    n: int
    approvals: Mapping[str, Approval]


class FoundAll(NamedTuple):
    """Campaigns, and links by account."""

    campaigns: Campaigns
    links: Mapping[str, Sequence[Link]]


class CampaignFinder:
    """Finds campaigns over all that is stored. Remembers days between calls; the store alone decides the outcome."""

    def __init__(self) -> None:
        self._days: dict[int, tuple[int, pa.Table]] = {}
        self._families: Families | None = None

    def refresh(self, connection: Connection, families: Families) -> bool:
        """Read the days that changed; says whether any did, or the families."""
        now = {row.day: row.changes for row in connection.execute(text("SELECT day, changes FROM days"))}
        changed = [day for day, changes in now.items() if day not in self._days or self._days[day][0] != changes]
        for day in changed:
            self._days[day] = (now[day], _read_day(connection, day))
        gone = set(self._days) - set(now)
        for day in gone:
            del self._days[day]
        others, self._families = self._families != families, families
        return bool(changed or gone or others)

    def find(self, connection: Connection, families: Families) -> FoundAll:
        """Campaigns of what was read last, and links. Raises UsageError if more families match than there are."""
        units = pa.concat_tables([UNIT_SCHEMA.empty_table(), *(table for _, table in self._days.values())])
        groups = group_accounts(sightings_of(units), families.n)
        found = describe(groups, _campaign_use(_read_uses(connection), member_table(groups)))
        linked = _find_links(connection, families.approvals)
        return FoundAll(place_linked(found, linked), linked)


def claim(connection: Connection, now: int, until: int) -> bool:
    """Whether this process is the one to publish, until a time (us); of all processes one is."""
    return connection.execute(_CLAIM, {"now": now, "until": until}).rowcount > 0


def campaign_rows(found: Campaigns) -> list[dict[str, Any]]:
    """Campaigns as they are published: rows of CAMPAIGN_SCHEMA as JSON has them."""
    return [_plain(row) for row in found.table.to_pylist()]


def publish(connection: Connection, found: FoundAll, now: int) -> None:
    """Replace what is published."""
    campaigns = found.campaigns
    names = {*campaigns.of_account, *campaigns.of_linked, *found.links}
    numbers = dict(lookup(connection, _NUMBERS, [(name,) for name in sorted(names)]))
    placed = [(campaigns.of_account, 0), (campaigns.of_linked, 1)]
    rows = [(numbers[name], id, linked) for of, linked in placed for name, id in of.items() if name in numbers]
    connection.execute(text("DELETE FROM members"))
    connection.execute(text("DELETE FROM links"))
    write_many(connection, upsert(members), rows)
    own = [(numbers[name], link) for name, theirs in found.links.items() if name in numbers for link in theirs]
    write_many(connection, upsert(links), [_link_row(number, link) for number, link in own])
    connection.execute(_PUBLISH, {"now": now, "campaigns": json.dumps(campaign_rows(campaigns))})


def read_version(connection: Connection) -> int:
    """Grows with every publication; 0 before the first."""
    found = connection.execute(text("SELECT version FROM publication")).scalar()
    return int(found) if found is not None else 0


def read_publication(connection: Connection) -> Publication:
    row = connection.execute(text("SELECT version, campaigns FROM publication")).one_or_none()
    if row is None:
        return Publication(0, (), {}, {})
    own = connection.execute(text("SELECT account_no, campaign_id FROM members"))
    linked = links_by_account(
        connection.execute(text("SELECT a.account_id, l.* FROM links l JOIN accounts a USING (account_no)")).all()
    )
    return Publication(row.version, json.loads(row.campaigns), {one.account_no: one.campaign_id for one in own}, linked)


def links_by_account(rows: Sequence[Any]) -> dict[int, list[Link]]:
    """Rows of `links` with the account_id, by account_no, most prompts first."""
    found: dict[int, list[Link]] = {}
    for row in sorted(rows, key=lambda row: (-row.n_units, row.family)):
        approval = Approval(row.approved_us, row.target)
        link = Link(row.account_id, row.family, row.n_units, row.first_us, approval)
        found.setdefault(row.account_no, []).append(link)
    return found


def _link_row(number: int, link: Link) -> tuple[object, ...]:
    return number, link.family, link.n_units, link.first_us, link.approval.us, link.approval.target


def _find_links(connection: Connection, approvals: Mapping[str, Approval]) -> dict[str, list[Link]]:
    """As in a run, of all units that match and are no evidence."""
    rows = connection.execute(_EARLY).all() if approvals else []
    names = [row[0] for row in rows]
    agreed = read_agreed(connection, sorted(set(names)))
    return find_links(unit_table([Unit(*row[1:]) for row in rows], names), approvals, agreed)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A campaign as JSON: times in ISO 8601, hashes as text, since 64 bits are more than a JSON number carries."""
    plain = {name: _iso(value) if isinstance(value, datetime) else value for name, value in row.items()}
    return plain | {"scaffolds": [str(key) for key in row["scaffolds"]]}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_day(connection: Connection, day: int) -> pa.Table:
    """Verified units of a day, and for each account that was active a unit at the time when it became so."""
    span = {"begin": day * DAY_US, "end": (day + 1) * DAY_US}
    verified = connection.execute(_VERIFIED, span).all()
    active = connection.execute(_ACTIVE, {"day": day}).all()
    begun = [Unit(0, 0, i, us, "", 0, 0, 0, 0, None) for i, (_, us) in enumerate(active)]
    rows = [*(Unit(*row[1:]) for row in verified), *begun]
    return unit_table(rows, [*(row[0] for row in verified), *(row[0] for row in active)])


def _read_uses(connection: Connection) -> pa.Table:
    rows = connection.execute(_USES).all()
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "account_id": pa.array([row.account_id for row in rows], pa.string()),
            "family": pa.array([row.family for row in rows], pa.string()),
            "technique": pa.array([row.technique if row.technique else None for row in rows], pa.string()),
            "scaffold": pa.array(to_unsigned(row.scaffold for row in rows), pa.uint64()),
            "n_prompts": pa.array([row.n_prompts for row in rows], pa.int64()),
            "first_seen": pa.array(np.array([row.first_seen for row in rows], np.int64)).cast(stamp),
            "last_seen": pa.array(np.array([row.last_seen for row in rows], np.int64)).cast(stamp),
        }
    )


def _campaign_use(uses: pa.Table, members: pa.Table) -> pa.Table:
    """What CAMPAIGN_USE_SQL gives from labels: prompts of a campaign in all, by technique and by scaffold."""
    own = uses.join(members, ["account_id", "family"], join_type="inner")
    return pa.concat_tables([_use_by(own, None), _use_by(own, "technique"), _use_by(own, "scaffold")])


def _use_by(own: pa.Table, column: str | None) -> pa.Table:
    keys = ["campaign_id", column] if column is not None else ["campaign_id"]
    sums = own.group_by(keys).aggregate([("n_prompts", "sum"), ("last_seen", "max")])
    sums = sums.rename_columns({"n_prompts_sum": "n_prompts", "last_seen_max": "last_seen"})
    n = sums.num_rows
    columns = {
        "campaign_id": sums["campaign_id"],
        "technique": sums["technique"] if column == "technique" else pa.nulls(n, pa.string()),
        "scaffold": sums["scaffold"] if column == "scaffold" else pa.nulls(n, pa.uint64()),
        "by_technique": pa.array([column == "technique"] * n, pa.bool_()),
        "by_scaffold": pa.array([column == "scaffold"] * n, pa.bool_()),
        "n_prompts": sums["n_prompts"],
        "last_seen": sums["last_seen"],
    }
    return pa.table(columns)
