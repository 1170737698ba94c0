"""accounts.parquet: what is known of every account of a run, in one row (ACCOUNT_SCHEMA), with reasons people can read.

    labels, merged units, verdicts, campaigns -> **accounts**

Sums over labels and units are DuckDB's, out of core. Events are named as evidence for flag and review only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifier.campaigns import Campaigns
from classifier.evidence import Baselines, Replay
from classifier.exceptions import AgreedException
from classifier.types import ACCOUNT_SCHEMA, LEVELS, TARGETS, Channel, Decision
from classifier.verdicts import Verdicts
from service.database import query
from service.reasons import Case, FamilyUse, IntentUse, reasons_of

MOST_EVENTS = 20
"""Events named as evidence of an account, the strongest."""
_PER_LOG10 = math.log(10)
_DAY_US = 86_400_000_000

_BASE_SQL = f"""
SELECT account_id, count(*) AS n_prompts, min(timestamp) AS first_seen, max(timestamp) AS last_seen,
       {", ".join(f"count(*) FILTER (capability = '{c}') / count(*) AS share_{c}" for c in TARGETS)},
       count(template_family) / count(*) AS template_rate
FROM labels GROUP BY account_id ORDER BY account_id
"""
_MOST_USED_SQL = """
SELECT account_id, list({column} ORDER BY n DESC, {column}) AS names
FROM (SELECT account_id, {column}, count(*) AS n FROM labels WHERE {column} IS NOT NULL GROUP BY ALL)
GROUP BY account_id
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


class Judged(NamedTuple):
    """What is held against the accounts of a run."""

    verdicts: Verdicts
    replay: Replay
    campaigns: Campaigns
    baselines: Baselines
    excused: Sequence[tuple[AgreedException, int]] = ()  # and how many units


def build_accounts(db: duckdb.DuckDBPyConnection, judged: Judged) -> pa.Table:
    """All accounts, sorted by id, from the tables `labels` (LABEL_SCHEMA) and merged `units` (UNIT_SCHEMA) of `db`.

    Accounts without a unit, since a benign application explains all they sent, have e = 1.
    """
    base = query(db, _BASE_SQL)
    columns = {name: base[name].combine_chunks() for name in base.column_names}
    columns |= _verdict_columns(columns["account_id"], judged)
    columns |= _use_columns(db, columns["account_id"])
    columns |= _reason_columns(db, columns, judged)
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
        "decision": spread([str(d) for d in verdicts.decision], str(Decision.INSUFFICIENT_EVIDENCE), text),
        "basis": spread([None if b is None else str(b) for b in verdicts.basis], None, text),
        "capabilities": spread([list(names) for names in verdicts.capabilities], [], pa.list_(text)),
        "log10_e": log10(replay.log_e),
        "log10_max_e": log10(replay.log_max_e),
        "log10_threshold": pa.array(np.full(n, verdicts.log_threshold / _PER_LOG10)),
        **{f"log10_e_{name}": log10(replay.log_e_target[:, c]) for c, name in enumerate(TARGETS)},
        "campaign_id": pa.array([judged.campaigns.of_account.get(name) for name in ids.to_pylist()], text),
        "flagged_at": spread(verdicts.flagged_at, None, pa.timestamp("us")).cast(
            ACCOUNT_SCHEMA.field("flagged_at").type
        ),
        "review_state": pa.nulls(n, text),
    }


def _use_columns(db: duckdb.DuckDBPyConnection, ids: pa.Array) -> dict[str, pa.Array]:
    """Families and techniques of the labels, by prompts, most first."""
    families = _lists(db.execute(_MOST_USED_SQL.format(column="template_family")).fetchall())
    techniques = _lists(db.execute(_MOST_USED_SQL.format(column="technique")).fetchall())
    names = ids.to_pylist()
    return {
        "top_template_family": pa.array(
            [families[name][0] if name in families else None for name in names], pa.string()
        ),
        "techniques": pa.array([techniques.get(name, []) for name in names], pa.list_(pa.string())),
    }


def _reason_columns(db: duckdb.DuckDBPyConnection, columns: dict[str, pa.Array], judged: Judged) -> dict[str, pa.Array]:
    least, strings = judged.verdicts.minimum_units, pa.list_(pa.string())
    worth_naming = pc.is_in(columns["decision"], pa.array([str(Decision.FLAG), str(Decision.REVIEW)]))
    db.register("judged", pa.table({"account_id": columns["account_id"].filter(worth_naming)}))
    events = _lists(db.execute(_EVENTS_SQL).fetchall())
    reasons = [reasons_of(case, judged.baselines, least) for case in _cases(db, columns, judged)]
    db.unregister("judged")
    return {
        "reasons": pa.array(reasons, strings),
        "evidence_event_ids": pa.array([events.get(name, []) for name in columns["account_id"].to_pylist()], strings),
    }


def _cases(db: duckdb.DuckDBPyConnection, columns: dict[str, pa.Array], judged: Judged) -> Iterator[Case]:
    """Every account as its reasons see it; uses are filled in for the `judged` of the database."""
    campaigns = judged.campaigns.table
    uses = _family_uses(db)
    intent = {account: IntentUse(n, tuple(means)) for account, n, *means in db.execute(_INTENT_SQL).fetchall()}
    sizes = dict(zip(campaigns["campaign_id"].to_pylist(), campaigns["n_accounts"].to_pylist(), strict=True))
    needs = ("account_id", "decision", "capabilities", "n_units", "campaign_id")
    for name, decision, targets, n_units, campaign in zip(*(columns[n].to_pylist() for n in needs), strict=True):
        yield Case(
            decision=Decision(decision),
            capabilities=targets,
            n_units=n_units,
            exclusive=uses.get((name, True)),
            public=uses.get((name, False)),
            intent=intent.get(name),
            campaign=campaign,
            n_campaign_accounts=sizes.get(campaign, 0),
            excused=[pair for pair in judged.excused if pair[0].account == name],
        )


def _family_uses(db: duckdb.DuckDBPyConnection) -> dict[tuple[str, bool], FamilyUse]:
    """Of the judged accounts, by account and whether the matches are exclusive."""
    uses = {}
    for key, group in groupby(db.execute(_FAMILIES_SQL).fetchall(), key=lambda row: (row[0], row[1])):
        rows = list(group)
        (n_units, n_days), *_ = (row[3:] for row in rows if row[2] is None)
        uses[key] = FamilyUse(n_units, n_days, [(row[2], row[3]) for row in rows if row[2] is not None])
    return uses


def _lists(rows: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    return {account: list(names) for account, names in rows}
