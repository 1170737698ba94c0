"""What `report.html` is made of, read from a labelled run: run directory -> `Run`, or for `exports` -> `Selected`.

Tables are read through DuckDB, so that a run of millions of events is summed on disk and only what the page shows comes
to memory. Timestamps leave SQL as integers (microseconds since 1970, UTC), so no session time zone can shift a day.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from classifier.errors import InputError, UsageError
from classifier.types import TARGETS, Basis, Decision
from service.database import connect
from service.report_types import (
    Account,
    Campaign,
    DayCount,
    Facts,
    Point,
    Run,
    Scaffold,
    Selected,
    Stratum,
    TemplateUse,
    Totals,
)

FLAGGED_SHOWN = 500
REVIEW_SHOWN = 200
ACCOUNTS_SHOWN = 500
CAMPAIGNS_SHOWN = 100
DISCOVERED_SHOWN = 50
POINTS_PER_DECISION = 800  # SVG stays fluid up to a few thousand points

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("first_seen", "last_seen", "flagged_at")
_RANK = (
    f"case decision when '{Decision.FLAG}' then 0 when '{Decision.REVIEW}' then 1 when '{Decision.CLEAR}' then 2 "
    "else 3 end, log10_max_e desc, account_id"
)


def read_run(run_dir: Path) -> Run:
    """Everything the report shows. Raises InputError if `run_dir` is no labelled run or a file of it cannot be read."""
    facts = _facts_of(run_dir)
    with _database(run_dir) as db:
        return Run(
            facts=facts,
            totals=_totals(db),
            flagged=_accounts(db, f"decision = '{Decision.FLAG}'", FLAGGED_SHOWN),
            review=_accounts(db, f"decision = '{Decision.REVIEW}'", REVIEW_SHOWN),
            ranked=_accounts(db, "true", ACCOUNTS_SHOWN),
            points=_points(db),
            campaigns=_campaigns(db, limit=CAMPAIGNS_SHOWN),
            discovered=_discovered(db),
            activity=_activity(db),
        )


def read_selected(run_dir: Path, decisions: Sequence[Decision], campaign_ids: Sequence[str]) -> Selected:
    """Accounts judged so, and their campaigns; only those of `campaign_ids` if there are any.

    Raises:
        InputError: as `read_run`.
        UsageError: a campaign that the run does not hold.
    """
    facts = _facts_of(run_dir)
    with _database(run_dir) as db:
        ids = [row["campaign_id"] for row in _rows(db, "select campaign_id from campaigns order by all")]
        for missing in (name for name in campaign_ids if name not in ids):
            raise UsageError(f"{run_dir}: holds no campaign {missing}; {len(ids):,} are in its campaigns.parquet.")
        db.execute("create table wanted as select unnest(?::varchar[]) as campaign_id", [list(campaign_ids)])
        of_campaign = "campaign_id in (from wanted)" if campaign_ids else "true"
        judged = ", ".join(f"'{decision}'" for decision in decisions)
        where = f"decision in ({judged}) and {of_campaign}"
        return Selected(
            facts=facts,
            accounts=_accounts(db, where),
            campaigns=_campaigns(db, of_campaign),
            uses=_uses(db, where),
            last_seen=_rows(db, "select epoch_us(max(last_seen)) as last_seen from accounts")[0]["last_seen"],
        )


def _facts_of(run_dir: Path) -> Facts:
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: is not a folder; give the folder that `probewatch label --out` wrote.")
    return read_facts(run_dir / "run.json")


def read_facts(path: Path) -> Facts:
    """run.json as facts. Raises InputError if it is missing, not JSON, or without its four counts."""
    if not path.is_file():
        raise InputError(
            f"{path.parent}: holds no run.json, so it is no labelled run, or one that was stopped; label into it first."
        )
    try:
        document = json.loads(path.read_bytes())
        counts = {key: int(document["counts"][key]) for key in ("read", "labelled", "rejected", "duplicates")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: is not the run.json of a labelled run with its four counts ({_kind(error)}); label again."
        ) from error
    population = _number(document.get("population"))
    return Facts(
        **counts,
        bundle_id=_text(document.get("bundle_id")),
        catalogue_id=_text(document.get("catalogue_id")),
        schema_version=_text(document.get("schema_version")),
        population=int(population) if population is not None else None,
        alpha=_number(document.get("alpha")),
        fdr_bound=_number(document.get("fdr_bound")),
        strata=[found for row in _dicts(document.get("fdr_strata")) if (found := _stratum(row)) is not None],
        settings=_pairs(document.get("settings")),
        seconds=_pairs(document.get("seconds")),
        versions=_pairs(document.get("versions")),
        inputs=[
            (str(i.get("path", "")), str(i.get("digest", "")), str(i.get("records", "")))
            for i in _dicts(document.get("inputs"))
        ],
    )


def _stratum(row: dict[str, Any]) -> Stratum | None:
    n, k, epsilon, adds = (_number(row.get(name)) for name in ("n", "k", "epsilon", "adds"))
    if n is None or k is None or epsilon is None or adds is None:
        return None
    return Stratum(str(row.get("stratum")), int(n), int(k), epsilon, adds)


def _kind(error: Exception) -> str:
    """The class alone: messages of parsers quote what they read."""
    return type(error).__name__


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _pairs(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return []
    return [(str(k), v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for k, v in value.items()]


@contextmanager
def _database(run_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the run's tables as views, in bounded memory, that installs and fetches nothing."""
    labels = sorted(p for p in (run_dir / "labels").glob("*.parquet") if not p.name.startswith("."))
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill), preserve_insertion_order="false") as db:
        for name in ("accounts", "campaigns", "discovered"):
            _view(db, name, [run_dir / f"{name}.parquet"])
        if labels:
            _view(db, "labels", labels)
        else:
            db.execute("create table labels (account_id varchar, timestamp timestamptz, capability varchar)")
        try:
            yield db
        except duckdb.Error as error:
            raise InputError(
                f"{run_dir}: a table of this run is damaged or lacks a column ({_kind(error)}); label again."
            ) from error


def _view(db: duckdb.DuckDBPyConnection, name: str, files: list[Path]) -> None:
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: is missing; give the folder that `probewatch label --out` wrote.")
    try:
        db.read_parquet([_literal(file) for file in files], file_row_number=True).create_view(name)
    except duckdb.Error as error:
        raise InputError(f"{files[0]}: is not a readable Parquet table ({_kind(error)}); label again.") from error


def _literal(path: Path) -> str:
    """`path` so that DuckDB reads no wildcard in it."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))


def _rows(db: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = db.execute(sql)
    names = [column[0] for column in cursor.description or []]
    return [_with_times(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _with_times(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _EPOCH + timedelta(microseconds=value) if key in _TIMES and value is not None else value
        for key, value in row.items()
    }


def _columns(*names: str) -> str:
    return ", ".join(f"epoch_us({name}) as {name}" if name in _TIMES else name for name in names)


def _accounts(db: duckdb.DuckDBPyConnection, where: str, limit: int | None = None) -> list[Account]:
    lists = {"log10_e_targets": "log10_e_", "shares": "share_"}
    plain = _columns(*(name for name in Account.__dataclass_fields__ if name not in lists))
    arrays = ", ".join(f"[{', '.join(prefix + c for c in TARGETS)}] as {name}" for name, prefix in lists.items())
    rows = _rows(db, f"select {plain}, {arrays} from accounts where {where} order by {_RANK} {_limited(limit)}")
    return [Account(**row) for row in rows]


def _limited(n: int | None) -> str:
    return f"limit {n}" if n is not None else ""


def _points(db: duckdb.DuckDBPyConnection) -> list[Point]:
    rows = _rows(
        db,
        f"select {_columns(*Point.__dataclass_fields__)} from accounts "
        "qualify row_number() over (partition by decision order by log10_max_e desc, account_id) "
        f"<= {POINTS_PER_DECISION} order by {_RANK}",
    )
    return [Point(**row) for row in rows]


def _campaigns(db: duckdb.DuckDBPyConnection, where: str = "true", limit: int | None = None) -> list[Campaign]:
    names = [name for name in Campaign.__dataclass_fields__ if name != "flagged_accounts"]
    rows = _rows(
        db,
        f"select {_columns(*names)} from campaigns where {where} order by log10_e desc, campaign_id {_limited(limit)}",
    )
    members = _rows(
        db,
        f"select campaign_id, account_id from accounts where campaign_id is not null and decision = '{Decision.FLAG}' "
        f"qualify row_number() over (partition by campaign_id order by {_RANK}) <= 12 order by {_RANK}",
    )
    by_campaign: dict[str, list[str]] = {}
    for member in members:
        by_campaign.setdefault(member["campaign_id"], []).append(member["account_id"])
    return [Campaign(**row, flagged_accounts=by_campaign.get(row["campaign_id"], [])) for row in rows]


def _uses(db: duckdb.DuckDBPyConnection, where: str) -> list[TemplateUse]:
    """Matches of the accounts of accounts.parquet that `where` selects."""
    rows = _rows(
        db,
        "select template_id, campaign_id, count(distinct account_id) as n_accounts, count(*) as n_prompts, "
        "epoch_us(min(timestamp)) as first_seen, epoch_us(max(timestamp)) as last_seen "
        f"from labels join (select account_id, campaign_id from accounts where {where}) using (account_id) "
        "where template_id is not null group by all order by all",
    )
    return [TemplateUse(**row) for row in rows]


def _discovered(db: duckdb.DuckDBPyConnection) -> list[Scaffold]:
    rows = _rows(
        db,
        f"select {_columns(*Scaffold.__dataclass_fields__)} from discovered "
        f"order by file_row_number limit {DISCOVERED_SHOWN}",  # the file's own order is the ranking
    )
    return [Scaffold(**row) for row in rows]


def _activity(db: duckdb.DuckDBPyConnection) -> list[DayCount]:
    rows = _rows(
        db,
        "select cast(floor(epoch_us(l.timestamp) / 86400000000.0) as integer) as day, l.capability as capability, "
        f"coalesce(a.decision = '{Decision.FLAG}', false) as flagged, count(*) as n "
        "from labels l left join accounts a using (account_id) group by all order by all",
    )
    return [DayCount(**row) for row in rows]


def _totals(db: duckdb.DuckDBPyConnection) -> Totals:
    decisions = _rows(db, "select decision, count(*) as n, sum(n_prompts) as prompts from accounts group by all")
    targets = _rows(
        db,
        "select c, count(*) as n from (select unnest(capabilities) as c from accounts "
        f"where decision = '{Decision.FLAG}') group by all",
    )
    one = _rows(
        db,
        "select (select count(*) from campaigns) as campaigns, (select count(*) from discovered) as discovered, "
        "(select count(*) from labels) as labels, (select count(*) from accounts "
        f"where basis = '{Basis.ANALYST}') as linked",
    )[0]
    return Totals(
        accounts=sum(row["n"] for row in decisions),
        prompts=int(sum(row["prompts"] for row in decisions)),
        decisions={row["decision"]: row["n"] for row in decisions},
        flagged_for={row["c"]: row["n"] for row in targets},
        **one,
    )
