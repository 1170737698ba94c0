"""accounts.parquet: what is known of every account of a run, in one row (ACCOUNT_SCHEMA), with reasons people can read.

    labels, merged units, verdicts, campaigns -> **accounts**

Sums over labels are DuckDB's, out of core; what units say of an account is taken while its units are at hand
(`particulars`). Events are named as evidence for flag and review only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.campaigns import Campaigns
from classifier.evidence import Baselines, Replay
from classifier.exceptions import AgreedException
from classifier.reachback import Link
from classifier.types import ACCOUNT_SCHEMA, LEVELS, TARGETS, Channel, Decision
from classifier.verdicts import Verdicts
from service.database import query
from service.reasons import MOST_EVENTS, Case, FamilyUse, IntentUse, reasons_of

_NAMED = frozenset({Decision.FLAG, Decision.REVIEW})
_PER_LOG10 = math.log(10)
_DAY_US = 86_400_000_000


def _most_used(column: str) -> str:
    return f"""SELECT account_id, list({column} ORDER BY n DESC, {column}) AS names
FROM (SELECT account_id, {column}, count(*) AS n FROM labels WHERE {column} IS NOT NULL GROUP BY ALL)
GROUP BY account_id"""


_USE_SQL = f"""
CREATE TABLE account_use AS
WITH used AS (
    SELECT account_id, count(*) AS n_prompts, min(timestamp) AS first_seen, max(timestamp) AS last_seen,
           {", ".join(f"count(*) FILTER (capability = '{c}') / count(*) AS share_{c}" for c in TARGETS)},
           count(template_family) / count(*) AS template_rate
    FROM labels GROUP BY account_id
), families AS ({_most_used("template_family")}), techniques AS ({_most_used("technique")})
SELECT used.*, families.names[1] AS top_template_family, coalesce(techniques.names, []) AS techniques
FROM used LEFT JOIN families USING (account_id) LEFT JOIN techniques USING (account_id) ORDER BY account_id
"""
_FAMILIES_SQL = f"""
SELECT account_id, y > 0 AS exclusive, family, count(*), count(DISTINCT epoch_us(timestamp) // {_DAY_US})
FROM units SEMI JOIN judged USING (account_id)
WHERE channel = {Channel.SIGNATURE} AND (y > 0 OR y_public > 0) AND family IS NOT NULL
GROUP BY GROUPING SETS ((account_id, exclusive), (account_id, exclusive, family))
ORDER BY account_id, exclusive, count(*) DESC, family
"""
_INTENT_SQL = f"""
SELECT account_id, count(*), {", ".join(f"sum(level_{c}) / ({LEVELS} * count(*))" for c in TARGETS)}
FROM units SEMI JOIN judged USING (account_id) WHERE channel = {Channel.INTENT} GROUP BY account_id
"""
_LEVEL = f"greatest({', '.join(f'level_{c}' for c in TARGETS)})"
_EVENTS_SQL = f"""
SELECT account_id, list(event_id ORDER BY place) AS names
FROM (
    SELECT account_id, event_id, row_number() OVER (
        PARTITION BY account_id
        ORDER BY y > 0 DESC, y_public > 0 DESC, {_LEVEL} DESC, timestamp, event_id
    ) AS place
    FROM units SEMI JOIN judged USING (account_id)
    WHERE y > 0 OR y_public > 0 OR {_LEVEL} > 0
) WHERE place <= {MOST_EVENTS} GROUP BY account_id
"""


class Particulars(NamedTuple):
    """What the units of some accounts say, for their reasons; families by account and whether the matches are
    exclusive."""

    families: Mapping[tuple[str, bool], FamilyUse]
    intent: Mapping[str, IntentUse]
    events: Mapping[str, Sequence[str]]


class Judged(NamedTuple):
    """What is held against some accounts; particulars are known of those that are flagged or reviewed."""

    verdicts: Verdicts
    replay: Replay
    campaigns: Campaigns
    baselines: Baselines
    particulars: Particulars
    excused: Sequence[tuple[AgreedException, int]] = ()  # and how many units
    links: Mapping[str, Sequence[Link]] = MappingProxyType({})  # by account


def particulars(db: duckdb.DuckDBPyConnection, units: pa.Table, accounts: pa.Array) -> Particulars:
    """Of some accounts, from merged units."""
    db.register("units", units)
    db.register("judged", pa.table({"account_id": accounts}))
    intent = {account: IntentUse(n, tuple(means)) for account, n, *means in db.execute(_INTENT_SQL).fetchall()}
    found = Particulars(_family_uses(db), intent, dict(db.execute(_EVENTS_SQL).fetchall()))
    db.unregister("judged")
    db.unregister("units")
    return found


def summarise_labels(db: duckdb.DuckDBPyConnection) -> None:
    """Make the table `account_use` of `labels` (LABEL_SCHEMA): a row an account, sorted by id."""
    db.execute(_USE_SQL)


def build_accounts(db: duckdb.DuckDBPyConnection, rows: range, judged: Judged) -> pa.Table:
    """Rows of the accounts that stand in `rows` of the table `account_use` of `db`, whose verdicts are given.

    Accounts without a unit, since a benign application explains all they sent, have e = 1.
    """
    use = query(db, f"FROM account_use WHERE rowid >= {rows.start} AND rowid < {rows.stop} ORDER BY rowid")
    columns = {name: use[name].combine_chunks() for name in use.column_names}
    columns |= _verdict_columns(columns["account_id"], judged)
    columns |= _reason_columns(columns, judged)
    arrays = [columns[field.name].cast(field.type) for field in ACCOUNT_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=ACCOUNT_SCHEMA)


def _verdict_columns(ids: pa.Array, judged: Judged) -> dict[str, pa.Array]:
    verdicts, replay = judged.verdicts, judged.replay
    place = pc.fill_null(pc.index_in(ids, verdicts.account_ids), len(verdicts.account_ids))

    def spread(values: Any, absent: Any, kind: pa.DataType) -> pa.Array:
        return pa.concat_arrays([pa.array(values, kind), pa.array([absent], kind)]).take(place)

    def log10(values: np.ndarray[Any, Any]) -> pa.Array:
        return spread(values / _PER_LOG10, 0.0, pa.float64())

    text, n = pa.string(), len(ids)
    return {
        "n_units": spread(replay.n_units, 0, pa.int64()),
        "decision": spread(verdicts.decision, str(Decision.INSUFFICIENT_EVIDENCE), text),
        "basis": spread(verdicts.basis, None, text),
        "capabilities": spread(verdicts.capabilities, [], pa.list_(text)),
        "log10_e": log10(replay.log_e),
        "log10_max_e": log10(replay.log_max_e),
        "log10_threshold": pa.array(np.full(n, judged.verdicts.thresholds.log_flag / _PER_LOG10)),
        **{f"log10_e_{name}": log10(replay.log_e_target[:, c]) for c, name in enumerate(TARGETS)},
        "campaign_id": pa.array([_campaign_of(name, judged.campaigns) for name in ids.to_pylist()], text),
        "flagged_at": spread(verdicts.flagged_at, None, pa.timestamp("us")).cast(
            ACCOUNT_SCHEMA.field("flagged_at").type
        ),
        "review_state": pa.nulls(n, text),
    }


def _reason_columns(columns: dict[str, pa.Array], judged: Judged) -> dict[str, pa.Array]:
    least, strings = judged.verdicts.thresholds.minimum_units, pa.list_(pa.string())
    decisions = zip(columns["account_id"].to_pylist(), columns["decision"].to_pylist(), strict=True)
    events = [judged.particulars.events.get(name, []) if decision in _NAMED else [] for name, decision in decisions]
    reasons = [reasons_of(case, judged.baselines, least) for case in _cases(columns, judged)]
    return {"reasons": pa.array(reasons, strings), "evidence_event_ids": pa.array(events, strings)}


def _cases(columns: dict[str, pa.Array], judged: Judged) -> Iterator[Case]:
    """Every account of a page as its reasons see it."""
    campaigns, known = judged.campaigns.table, judged.particulars
    sizes = dict(zip(campaigns["campaign_id"].to_pylist(), campaigns["n_accounts"].to_pylist(), strict=True))
    excused: dict[str, list[tuple[AgreedException, int]]] = {}
    for pair in sorted(judged.excused, key=lambda pair: pair[0].family):
        excused.setdefault(pair[0].account, []).append(pair)
    needs = ("account_id", "decision", "capabilities", "n_units", "campaign_id")
    for name, decision, targets, n_units, campaign in zip(*(columns[n].to_pylist() for n in needs), strict=True):
        yield Case(
            decision=Decision(decision),
            capabilities=targets,
            n_units=n_units,
            exclusive=known.families.get((name, True)),
            public=known.families.get((name, False)),
            intent=known.intent.get(name),
            campaign=campaign,
            n_campaign_accounts=sizes.get(judged.campaigns.of_account.get(name), 0),
            excused=excused.get(name, ()),
            links=judged.links.get(name, ()),
        )


def _campaign_of(account: str, campaigns: Campaigns) -> str | None:
    return campaigns.of_account.get(account, campaigns.of_linked.get(account))


def _family_uses(db: duckdb.DuckDBPyConnection) -> dict[tuple[str, bool], FamilyUse]:
    """Of the judged accounts, by account and whether the matches are exclusive."""
    uses = {}
    for key, group in groupby(db.execute(_FAMILIES_SQL).fetchall(), key=lambda row: (row[0], row[1])):
        rows = list(group)
        (n_units, n_days), *_ = (row[3:] for row in rows if row[2] is None)
        uses[key] = FamilyUse(n_units, n_days, [(row[2], row[3]) for row in rows if row[2] is not None])
    return uses
