"""What a run found: all parts' evidence merged, accounts judged, campaigns named; the tables and run.json.

    parts (labels, units) -> **findings** -> accounts, campaigns, discovered, rejected.jsonl, run.json

Last step of `batch`. Depends on the parts alone, so a run that was killed and resumed ends with the same files.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from classifier.campaigns import (
    CAMPAIGN_USE_SQL,
    DISCOVER_ACCOUNTS,
    SCAFFOLD_USE_SQL,
    Campaigns,
    Period,
    describe,
    discover,
    group_accounts,
    join_discovered,
    member_table,
)
from classifier.certification import Certificate
from classifier.errors import InputError, UsageError
from classifier.evidence import Baselines
from classifier.exceptions import AgreedException
from classifier.families import Sightings
from classifier.reachback import place_linked, review_linked
from classifier.types import ACCOUNT_SCHEMA, COUNT_SCHEMA, SCHEMA_VERSION, Decision
from classifier.verdicts import (
    ALPHA,
    REVIEW_ALPHA,
    Thresholds,
    find_thresholds,
    flag_scale,
    flag_times,
    verdicts_of,
)
from service.accounts import Judged, build_accounts, summarise_labels
from service.database import database, parquet_source, query
from service.promises import promised
from service.run import EVIDENCE, LABELS, PartFacts, RunFolder
from service.versions import version_of
from service.weighing import Norms, Weighed, plan_shards, split_units, weigh

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

USES_AT_ONCE = 1_000_000
"""Rows of scaffolds' use, one a scaffold and account, that are looked at together: bounds memory, changes nothing."""
_LIBRARIES = ("probewatch", "numpy", "pyarrow", "duckdb", "faiss-cpu", "onnxruntime", "gigatoken", "scipy")


@dataclass(frozen=True)
class Counts:
    """Records of a run; they reconcile: read = labelled + rejected + duplicates. A record is a request, or what is
    refused in its place: a line that holds several spans or requests counts as so many."""

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


class Ran(NamedTuple):
    """How the parts came about: what ran the labelling, with so many workers, and the threads of this machine that what
    follows may use."""

    engine: str
    workers: int
    threads: int


class _Found(NamedTuple):
    """What the parts amount to: accounts of each decision, rows of each table, units that each exception excused."""

    population: int
    n_flagged: int
    decisions: Mapping[Decision, int]
    n_rows: Mapping[str, int]
    n_excused: Sequence[int]


def conclude(
    folder: RunFolder,
    pipeline: Pipeline,
    population: int | None,
    ran: Ran,
    seconds: Mapping[str, float],
    exceptions: Sequence[AgreedException],
    certificate: Certificate | None = None,
) -> RunSummary:
    """Write what the parts of the folder amount to, but for agreed exceptions; `seconds` and `ran` are noted in
    run.json. `certificate`: that of the bundle and catalogue if None.

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
    held = certificate if certificate is not None else Certificate(pipeline.baselines, pipeline.certification, {})
    with database(folder.spill, ran.threads) as db:
        found = _find(db, folder, pipeline, held, population, exceptions, ran.threads)
    elapsed = {**seconds, "findings": time.monotonic() - started}
    summary = RunSummary(
        folder=folder.path,
        counts=counts,
        decisions=found.decisions,
        population=found.population,
        fdr_bound=held.bound(found.n_flagged, found.population),
        seconds={**elapsed, "total": sum(elapsed.values())},
    )
    records = {digest: sum(part.n_read for part in parts) for digest, parts in facts.items()}
    folder.write_json(
        "run.json",
        _document(folder, pipeline, summary, found, records, population, ran)
        | promised(held, found.n_flagged, found.population)
        | _excepted(exceptions, found),
    )
    return summary


def _excepted(exceptions: Sequence[AgreedException], found: _Found) -> dict[str, Any]:
    """Of run.json: what was agreed upon, and how many units it excused."""
    pairs = zip(exceptions, found.n_excused, strict=True)
    return {"exceptions": [asdict(one) | {"until": one.until.isoformat(), "n_units": n} for one, n in pairs]}


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
    held: Certificate,
    population: int | None,
    exceptions: Sequence[AgreedException],
    threads: int,
) -> _Found:
    """Judge the accounts of all parts and write the tables."""
    db.execute(f"CREATE VIEW labels AS SELECT * FROM {parquet_source(folder.files(LABELS))}")
    summarise_labels(db)
    n_accounts = query(db, "SELECT count(*) AS n FROM account_use")["n"][0].as_py()
    registered = _registered(population, n_accounts, held)
    folder.retract()
    folder.write_rejected()
    shards = plan_shards(db)
    files = split_units(folder.files(EVIDENCE, "units-"), shards, folder.spill)
    norms = Norms(held.baselines, registered, n_accounts, pipeline.approvals)
    write_counts = partial(folder.write_rows, f"{EVIDENCE}/counts.parquet", COUNT_SCHEMA)
    weighed = weigh(db, shards, files, norms, exceptions, threads, write_counts)
    thresholds = find_thresholds(weighed.log_max_e(), weighed.log_review(), registered, held.baselines)
    campaigns = place_linked(_campaigns(db, weighed.sightings, pipeline.n_families), weighed.links())
    discovered = _discovered(db)
    agreed = [pair for pair in zip(exceptions, weighed.n_excused, strict=True) if pair[1]]
    decisions: Counter[Decision] = Counter()
    rows = _account_rows(db, weighed, thresholds, campaigns, held.baselines, agreed, decisions)
    folder.write_rows("accounts.parquet", ACCOUNT_SCHEMA, rows)
    folder.write_table("campaigns.parquet", campaigns.table)
    folder.write_table("discovered.parquet", discovered)
    decisions[Decision.INSUFFICIENT_EVIDENCE] += n_accounts - decisions.total()  # those without a unit
    return _Found(
        population=registered,
        n_flagged=thresholds.n_flagged,
        decisions={decision: decisions[decision] for decision in Decision},
        n_rows={"accounts": n_accounts, "campaigns": campaigns.table.num_rows, "discovered": discovered.num_rows},
        n_excused=weighed.n_excused,
    )


def _account_rows(
    db: duckdb.DuckDBPyConnection,
    weighed: Weighed,
    thresholds: Thresholds,
    campaigns: Campaigns,
    baselines: Baselines,
    agreed: Sequence[tuple[AgreedException, int]],
    decisions: Counter[Decision],
) -> Iterator[pa.Table]:
    """Rows of accounts.parquet, a table a shard; `decisions` counts those of accounts with units."""
    offsets, scale = weighed.offsets(), flag_scale(thresholds.population)
    times = flag_times(*weighed.records(), int(offsets[-1]), thresholds.n_flagged, scale)
    for shard, flagged_at in zip(weighed.shards, np.split(times, offsets[:-1]), strict=True):
        replayed = shard.replay()
        verdicts = review_linked(verdicts_of(replayed, thresholds, flagged_at), shard.links)
        decisions.update(verdicts.decision)
        judged = Judged(verdicts, replayed, campaigns, baselines, shard.particulars, agreed, shard.links)
        yield build_accounts(db, shard.rows, judged)


def _registered(population: int | None, n_accounts: int, held: Certificate) -> int:
    if population is not None and population < n_accounts:
        raise UsageError(
            f"--population got {population:,}: expected at least the {n_accounts:,} accounts of this run; give the "
            "number of registered accounts."
        )
    registered, known = population if population is not None else n_accounts, sum(held.registered.values())
    if known > registered:
        raise UsageError(
            f"--calibration tells of {known:,} registered accounts: expected at most the {registered:,} of "
            "--population, or of this run if it is not given; mend either."
        )
    return registered


def _campaigns(db: duckdb.DuckDBPyConnection, sightings: Sightings, n_families: int) -> Campaigns:
    groups = group_accounts(sightings, n_families)
    db.register("members", member_table(groups))
    return describe(groups, query(db, CAMPAIGN_USE_SQL.format(labels="labels", members="members")))


def _discovered(db: duckdb.DuckDBPyConnection) -> pa.Table:
    """Shared scaffolds, USES_AT_ONCE rows of their use at a time."""
    sql = SCAFFOLD_USE_SQL.format(source="labels", least_accounts=DISCOVER_ACCOUNTS)
    db.execute(f"CREATE TABLE scaffold_use AS {sql} ORDER BY scaffold")  # so that a range skips the others
    ((n_uses,),) = db.execute("SELECT count(*) FROM scaffold_use").fetchall()
    (ends,) = db.execute("SELECT epoch_us(min(first_seen)), epoch_us(max(last_seen)) FROM account_use").fetchall()
    n_ranges = 1 + n_uses // USES_AT_ONCE
    found = []
    for i in range(n_ranges):  # scaffolds are hashes, so equal ranges of them hold about as many
        low, high = (2**64 * j // n_ranges for j in (i, i + 1))
        uses = query(db, f"SELECT * FROM scaffold_use WHERE scaffold BETWEEN {low} AND {high - 1}")
        found.append(discover(uses, Period(*ends)))
    return join_discovered(found)


def _document(
    folder: RunFolder,
    pipeline: Pipeline,
    summary: RunSummary,
    found: _Found,
    records: Mapping[str, int],
    population: int | None,
    ran: Ran,
) -> dict[str, Any]:
    """run.json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle_id": folder.settings.bundle_id,
        "catalogue_id": folder.settings.catalogue_id,
        "counts": {
            **asdict(summary.counts),
            **found.n_rows,
        },
        "decisions": {str(decision): n for decision, n in summary.decisions.items()},
        "population": summary.population,
        "population_is": "as given" if population is not None else "the accounts of this run",
        "alpha": ALPHA,
        "review_alpha": REVIEW_ALPHA,
        "settings": {
            "engine": ran.engine,
            "format": folder.settings.format,
            "account_field": folder.settings.account_field,
            "rows_per_part": folder.settings.rows_per_part,
            "workers": ran.workers,
            "tokenizer": pipeline.tokenizer,
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
