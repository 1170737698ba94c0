"""All parts' units, weighed: merged and replayed a shard of accounts at a time, so that memory does not grow with them.

    parts (units) -> shards -> **weighing** (merge, excuse, replay) -> findings (verdicts, campaigns)

The units of a part are sorted by account, so a shard is a slice of each part: one pass over the parts appends every
slice to its shard's file, and then a thread a shard reads one whole.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from classifier.eprocess import changes
from classifier.evidence import Baselines, Replay, concatenate, count_days, merge_units, replay
from classifier.exceptions import AgreedException, excuse
from classifier.families import Sightings, join_sightings, sightings_of
from classifier.types import UNIT_SCHEMA
from classifier.verdicts import least_flag, may_be_judged
from service.accounts import Particulars, join_particulars, particulars
from service.database import query

SHARD_PROMPTS = 250_000
"""Prompts of a shard's accounts, give or take an account: bounds memory, changes nothing else."""
MOST_SHARDS = 256
"""Files that are written at once; shards of a larger run are larger."""


@dataclass(frozen=True)
class Norms:
    """What evidence is held against: the null, the N of the rule for flags, and accounts in the run."""

    baselines: Baselines
    population: int
    n_accounts: int


@dataclass(frozen=True)
class Weighed:
    """The evidence of some accounts, sorted. `particulars` are of those that may be flagged or reviewed; `n_excused`:
    units that each exception excused."""

    replay: Replay
    sightings: Sightings
    particulars: Particulars
    n_excused: Sequence[int]


class _Shard(NamedTuple):
    """A shard's evidence, and its counts by account and day."""

    weighed: Weighed
    counts: pa.Table


def shard_bounds(db: duckdb.DuckDBPyConnection) -> list[str]:
    """The first account of every shard but the first, by the table `account_use`, sorted by account."""
    use = query(db, "SELECT account_id, n_prompts FROM account_use ORDER BY rowid")
    n_prompts = use["n_prompts"].to_numpy()
    before = np.cumsum(n_prompts) - n_prompts
    shard = before // max(SHARD_PROMPTS, math.ceil(n_prompts.sum() / MOST_SHARDS))
    return list(use["account_id"].filter(pa.array(changes(shard)))[1:].to_pylist())


def weigh(
    db: duckdb.DuckDBPyConnection,
    shards: Sequence[Path],
    norms: Norms,
    exceptions: Sequence[AgreedException],
    threads: int,
    write_counts: Callable[[Iterable[pa.Table]], None],
) -> Weighed:
    """Weigh the units of all shards (files of `split_units`); their counts go to `write_counts` in order of account."""

    def weigh_shard(path: Path) -> _Shard:
        excused = excuse(merge_units([pa.ipc.open_file(path).read_all()]), exceptions)
        replayed = replay(excused.units, norms.baselines, least_flag(norms.population, norms.n_accounts))
        notable = replayed.account_ids.filter(pa.array(may_be_judged(replayed, norms.population, norms.n_accounts)))
        with db.cursor() as own:
            said = particulars(own, excused.units, notable)
        weighed = Weighed(replayed, sightings_of(excused.units), said, excused.n_units)
        return _Shard(weighed, count_days(excused.units))

    parts: list[Weighed] = []

    def counts() -> Iterator[pa.Table]:
        with ThreadPoolExecutor(threads, "weigh") as pool:
            for shard in pool.map(weigh_shard, shards):
                parts.append(shard.weighed)
                yield shard.counts

    write_counts(counts())
    return _join(parts)


def split_units(files: Sequence[Path], bounds: Sequence[str], folder: Path) -> list[Path]:
    """Write units (files sorted by account) to a file a shard, in order of account, for `weigh`."""
    paths = [folder / f"shard-{i:03}.arrow" for i in range(len(bounds) + 1)]
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(path, UNIT_SCHEMA, options=packed)) for path in paths]
        for file in files:
            units = pq.read_table(file, columns=UNIT_SCHEMA.names).cast(UNIT_SCHEMA).combine_chunks()
            accounts = units["account_id"]
            cuts = [bisect_left(accounts, bound, key=pa.StringScalar.as_py) for bound in bounds]
            for writer, (start, end) in zip(writers, pairwise([0, *cuts, len(accounts)]), strict=True):
                if end > start:
                    writer.write_table(units.slice(start, end - start))
    return paths


def _join(parts: Sequence[Weighed]) -> Weighed:
    return Weighed(
        replay=concatenate([part.replay for part in parts]),
        sightings=join_sightings([part.sightings for part in parts]),
        particulars=join_particulars(part.particulars for part in parts),
        n_excused=[sum(numbers) for numbers in zip(*(part.n_excused for part in parts), strict=True)],
    )
