"""What a run found: all parts' evidence merged, accounts judged, campaigns named; the tables and run.json.

    parts (labels, units) -> **findings** -> accounts, campaigns, discovered, rejected.jsonl, run.json

Last step of `batch`. Depends on the parts alone, so a run that was killed and resumed ends with the same files.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pyarrow as pa

from classifier.bundle import largest_epsilon
from classifier.campaigns import DISCOVER_ACCOUNTS, FAMILY_USE_SQL, SCAFFOLD_USE_SQL, discover, find_campaigns
from classifier.errors import InputError, UsageError
from classifier.evidence import MERGE_UNITS_SQL, count_days, replay
from classifier.exceptions import AgreedException, excuse
from classifier.types import SCHEMA_VERSION, UNIT_SCHEMA, Decision
from classifier.verdicts import ALPHA, REVIEW_ALPHA, decide, fdr_bound
from service.accounts import Judged, build_accounts
from service.database import database, parquet_source, query
from service.run import EVIDENCE, LABELS, PartFacts, RunFolder
from service.versions import version_of

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

_TABLES = ("accounts", "campaigns", "discovered")
_LIBRARIES = ("probewatch", "numpy", "pyarrow", "duckdb", "faiss-cpu", "onnxruntime", "gigatoken", "scipy")


@dataclass(frozen=True)
class Counts:
    """Records of a run; they reconcile: read = labelled + rejected + duplicates."""

    read: int
    labelled: int
    rejected: int
    duplicates: int


@dataclass(frozen=True)
class RunSummary:
    """What a run came to. `decisions`: accounts of each; `fdr_bound`: the share of false flags that may be promised, at
    most in expectation; `seconds` that each stage took."""

    folder: Path
    counts: Counts
    decisions: Mapping[Decision, int]
    population: int
    fdr_bound: float
    seconds: Mapping[str, float]


class _Tables(NamedTuple):
    """The tables of a run, how many of its accounts are flagged, and the units that each exception excused."""

    counts: pa.Table
    accounts: pa.Table
    campaigns: pa.Table
    discovered: pa.Table
    population: int
    n_flagged: int
    n_excused: Sequence[int]


def conclude(
    folder: RunFolder,
    pipeline: Pipeline,
    population: int | None,
    workers: int,
    seconds: Mapping[str, float],
    exceptions: Sequence[AgreedException],
) -> RunSummary:
    """Write what the parts of the folder amount to, but for agreed exceptions; `seconds` and `workers` are noted in
    run.json.

    Raises:
        InputError: no record was labelled; rejected.jsonl says why.
        UsageError: a population below the number of accounts.
    """
    started = time.monotonic()
    facts = {item.digest: [folder.facts(part) for part in folder.part_ids(item.digest)] for item in folder.inputs}
    counts = _counts([part for parts in facts.values() for part in parts])
    if counts.labelled == 0:
        folder.write_rejected()
        where = folder.path / "rejected.jsonl"
        if counts.read == 0:
            raise InputError("The input holds no record: expected at least one with account_id and prompt.")
        raise InputError(f"Not one of {counts.read:,} records could be labelled; {where} says why for each.")
    with database(folder.spill, workers) as db:
        tables = _find(db, folder, pipeline, population, exceptions)
    _write_tables(folder, tables)
    strata = [(largest_epsilon(pipeline.certification), tables.population)]
    decisions = Counter(tables.accounts["decision"].to_pylist())
    elapsed = {**seconds, "findings": time.monotonic() - started}
    summary = RunSummary(
        folder=folder.path,
        counts=counts,
        decisions={decision: decisions[str(decision)] for decision in Decision},
        population=tables.population,
        fdr_bound=fdr_bound(tables.n_flagged, strata),
        seconds={**elapsed, "total": sum(elapsed.values())},
    )
    records = {digest: sum(part.n_read for part in parts) for digest, parts in facts.items()}
    folder.write_json(
        "run.json",
        _document(folder, pipeline, summary, tables, records, population, workers) | _excepted(exceptions, tables),
    )
    return summary


def _excepted(exceptions: Sequence[AgreedException], tables: _Tables) -> dict[str, Any]:
    """Of run.json: what was agreed upon, and how many units it excused."""
    pairs = zip(exceptions, tables.n_excused, strict=True)
    return {"exceptions": [asdict(one) | {"until": one.until.isoformat(), "n_units": n} for one, n in pairs]}


def _write_tables(folder: RunFolder, tables: _Tables) -> None:
    folder.retract()
    folder.write_rejected()
    folder.write_table(f"{EVIDENCE}/counts.parquet", tables.counts)
    for name in _TABLES:
        folder.write_table(f"{name}.parquet", getattr(tables, name))


def _counts(parts: Sequence[PartFacts]) -> Counts:
    return Counts(
        read=sum(part.n_read for part in parts),
        labelled=sum(part.n_labelled for part in parts),
        rejected=sum(part.n_rejected for part in parts),
        duplicates=sum(part.n_duplicates for part in parts),
    )


def _find(
    db: duckdb.DuckDBPyConnection,
    folder: RunFolder,
    pipeline: Pipeline,
    population: int | None,
    exceptions: Sequence[AgreedException],
) -> _Tables:
    db.execute(f"CREATE VIEW labels AS SELECT * FROM {parquet_source(folder.files(LABELS))}")
    source = parquet_source(folder.files(EVIDENCE, "units-"))
    excused = excuse(query(db, MERGE_UNITS_SQL.format(source=source)).cast(UNIT_SCHEMA), exceptions)
    units = excused.units
    n_accounts = query(db, "SELECT count(DISTINCT account_id) AS n FROM labels")["n"][0].as_py()
    if population is not None and population < n_accounts:
        raise UsageError(
            f"--population got {population:,}: expected at least the {n_accounts:,} accounts of this run; give the "
            "number of registered accounts."
        )
    registered = population if population is not None else n_accounts
    replayed = replay(units, pipeline.baselines)
    verdicts = decide(replayed, registered, pipeline.baselines)
    use = query(db, FAMILY_USE_SQL.format(source="labels"))
    campaigns = find_campaigns(units, use, pipeline.n_families)
    uses = query(db, SCAFFOLD_USE_SQL.format(source="labels", least_accounts=DISCOVER_ACCOUNTS))
    db.register("units", units)
    agreed = [pair for pair in zip(exceptions, excused.n_units, strict=True) if pair[1]]
    accounts = build_accounts(db, Judged(verdicts, replayed, campaigns, pipeline.baselines, agreed))
    return _Tables(
        count_days(units),
        accounts,
        campaigns.table,
        discover(uses),
        registered,
        verdicts.n_flagged,
        excused.n_units,
    )


def _document(
    folder: RunFolder,
    pipeline: Pipeline,
    summary: RunSummary,
    tables: _Tables,
    records: Mapping[str, int],
    population: int | None,
    workers: int,
) -> dict[str, Any]:
    """run.json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle_id": folder.settings.bundle_id,
        "catalogue_id": folder.settings.catalogue_id,
        "counts": {
            **asdict(summary.counts),
            **{name: getattr(tables, name).num_rows for name in _TABLES},
        },
        "decisions": {str(decision): n for decision, n in summary.decisions.items()},
        "population": summary.population,
        "population_is": "as given" if population is not None else "the accounts of this run",
        "alpha": ALPHA,
        "review_alpha": REVIEW_ALPHA,
        "fdr_bound": summary.fdr_bound,
        "fdr_bound_is": "alpha + largest epsilon * population / flags, at most 1; whose stratum is which is unknown",
        "fdr_strata": [asdict(stratum) for stratum in pipeline.certification],
        "baselines": asdict(pipeline.baselines),
        "settings": {
            "engine": "local",
            "format": folder.settings.format,
            "rows_per_part": folder.settings.rows_per_part,
            "workers": workers,
        },
        "inputs": [
            {
                "path": item.path,
                "copies": list(item.copies),
                "digest": item.digest,
                "bytes": item.size,
                "records": records[item.digest],
            }
            for item in folder.inputs
        ],
        "seconds": {name: round(value, 3) for name, value in summary.seconds.items()},
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _LIBRARIES}},
    }
