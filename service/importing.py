"""A labelled run into the service's store: `probewatch import`. Twice is once.

    run (labels, evidence, run.json) -> **importing** -> store, as `/v1/score` fills it

Which events are in is noted in the transaction that records them, so a killed import goes on where it was, and event
ids, which a store forgets, are not what keeps an event from counting twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection, text

from classifier.errors import InputError
from classifier.evidence import Baselines
from classifier.pipeline import DEFAULT_HASH_KEY
from classifier.rows import rows_of
from classifier.types import DISCOVERED_SCHEMA, LABEL_SCHEMA, UNIT_SCHEMA
from service.alerts.news import tell_templates
from service.context import CONTEXT_SCHEMA, Context, contexts_in
from service.finished import read_finished
from service.run import CONTEXT, EVIDENCE, LABELS, RunFolder
from service.store.erasure import account_digest
from service.store.exemptions import end_of
from service.store.facts import check_facts
from service.store.opening import Store
from service.store.reading import Review, read_account
from service.store.recording import record
from service.store.reviewing import EXEMPTED, exempt_account
from service.store.schema import imports
from service.store.statements import upsert, write_many

CHUNK = 4_000
"""Events recorded in one transaction: a running service waits no longer than for these."""
_DONE = text("SELECT n_events FROM imports WHERE part = :part")


@dataclass(frozen=True)
class Imported:
    """What an import did: events recorded now, and those that an earlier one had. `population`: of the run."""

    n_events: int
    n_known: int
    population: int


def import_run(path: Path, store: Store, progress: Callable[[int], None] = lambda more: None) -> Imported:
    """Record a run's events, and its agreed exceptions, and tell of the templates that it discovered.

    `progress` is called with how many more events are in.

    Raises:
        InputError: no labelled run, or one of its files cannot be read.
        StoreError: the store cannot be used, or holds evidence of other baselines or another hash key.
    """
    run = read_finished(path)
    document = json.loads((path / "run.json").read_bytes())
    baselines = _baselines(path, document)
    with store.writing() as connection:
        check_facts(connection, DEFAULT_HASH_KEY, baselines)
    n_new = n_known = 0
    for part_id in (part for item in run.inputs for part in run.part_ids(item.digest)):
        for n, is_new in _import_part(run, part_id, store, baselines):
            n_new, n_known = n_new + n * is_new, n_known + n * (not is_new)
            progress(n)
    discovered = _table(path / "discovered.parquet", DISCOVERED_SCHEMA)
    with store.writing() as connection:
        _agree(connection, document.get("exceptions", []), baselines)
        tell_templates(connection, discovered, time.time_ns() // 1000)
    return Imported(n_new, n_known, int(document["population"]))


def n_events_of(path: Path) -> int:
    """Events that a run labelled. Raises InputError as `import_run` does."""
    run = read_finished(path)
    return sum(run.facts(part).n_labelled for item in run.inputs for part in run.part_ids(item.digest))


def _import_part(run: RunFolder, part_id: str, store: Store, baselines: Baselines) -> Iterator[tuple[int, bool]]:
    """Record what is not in of a part; yields how many events, and whether they are new."""
    labels = _table(run.path / LABELS / f"{part_id}.parquet", LABEL_SCHEMA)
    units = _table(run.path / EVIDENCE / f"units-{part_id}.parquet", UNIT_SCHEMA)
    contexts = _contexts(run.path / CONTEXT / f"{part_id}.parquet")
    name = f"{run.settings.bundle_id}/{run.settings.catalogue_id}/{part_id}"
    with store.reading() as connection:
        done = connection.execute(_DONE, {"part": name}).scalar()
    start = done if done is not None else 0
    if start:
        yield start, False
    for at in range(start, len(labels), CHUNK):
        some = labels.slice(at, CHUNK)
        own = units.filter(pc.is_in(units["event_id"], some["event_id"].combine_chunks()))
        rows = rows_of(some, own)
        with store.writing() as connection:
            known = [contexts.get(event_id) for event_id in some["event_id"].to_pylist()] if contexts else []
            record(connection, rows, [True] * len(some), baselines, time.time_ns() // 1000, known)
            write_many(connection, upsert(imports), [(name, at + len(some))])
        yield len(some), True


def _contexts(path: Path) -> dict[str, Context]:
    """Context by event id; nothing where the part has none."""
    return contexts_in(_table(path, CONTEXT_SCHEMA)) if path.exists() else {}


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(path, columns=schema.names).cast(schema).combine_chunks()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: is not a table of a labelled run ({type(error).__name__}); label again.") from error


def _baselines(path: Path, document: Mapping[str, Any]) -> Baselines:
    try:
        return Baselines(document["baselines"]["m1"], tuple(document["baselines"]["m2"]))
    except (LookupError, TypeError) as error:
        raise InputError(f"{path / 'run.json'}: names no baselines; label again.") from error


def _agree(connection: Connection, agreed: list[dict[str, Any]], baselines: Baselines) -> None:
    """Exceptions of the run as exemptions of the store, which an account's history names."""
    for one in agreed:
        known = read_account(connection, one["account"])
        us = end_of(date.fromisoformat(one["until"]))
        reason = f"{one['family']}: {one['why']}"
        if known is None or any((past.until, past.reason) == (us, reason) for past in known.reviews):
            continue
        review = Review(EXEMPTED, one["why"], one["who"], us, time.time_ns() // 1000)
        digest = account_digest(one["account"], DEFAULT_HASH_KEY)
        exempt_account(connection, known, one["family"], review, digest, baselines)
