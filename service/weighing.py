"""All parts' units, weighed: merged and replayed a shard of accounts at a time, so that memory does not grow with them.

    parts (units) -> shards -> **weighing** (merge, excuse, replay) -> findings (verdicts, campaigns)

The units of a part are sorted by account, so a shard is a slice of each part: one pass over the parts appends every
slice to its shard's file, and then a thread a shard reads one whole. Of an account there stay in memory its id, M and
current e, by which all accounts together set the thresholds; the rest waits in a file for its shard's turn.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from classifier.eprocess import Floats, Ints, changes
from classifier.evidence import Baselines, Replay, count_days, replay
from classifier.exceptions import AgreedException, excuse
from classifier.families import Sightings, join_sightings, sightings_of
from classifier.reachback import Approval, Link, find_links
from classifier.types import UNIT_SCHEMA
from classifier.units import merge_units
from classifier.verdicts import least_flag, may_be_judged
from service.accounts import Particulars, particulars
from service.database import query

SHARD_PROMPTS = 250_000
"""Prompts of a shard's accounts, give or take an account: bounds memory, changes nothing else."""
MOST_SHARDS = 256
"""Files that are written at once; shards of a larger run are larger."""


@dataclass(frozen=True)
class Norms:
    """What evidence is held against: the null, the N of the rule for flags, accounts in the run, and approvals of local
    families."""

    baselines: Baselines
    population: int
    n_accounts: int
    approvals: Mapping[str, Approval]


@dataclass(frozen=True)
class Shard:
    """Consecutive accounts: those in `rows` of the table `account_use`, from the account `first` on."""

    first: str
    rows: range


@dataclass(frozen=True)
class WeighedShard:
    """The evidence of a shard's accounts that have units, sorted. What only their own rows need lies in files.

    `log_max_e`, `log_review` [A] as in Replay; `records`: its three columns. `particulars` are of those that may be
    flagged or reviewed, `links` of those that have any.
    """

    rows: range
    account_ids: pa.Array
    log_max_e: Floats
    log_review: Floats
    records: tuple[Ints, Ints, Floats]
    particulars: Particulars
    links: Mapping[str, Sequence[Link]]
    file: Path

    def replay(self) -> Replay:
        """All that the replay said."""
        with np.load(self.file) as columns:
            return Replay(account_ids=self.account_ids, **columns)


@dataclass(frozen=True)
class Weighed:
    """The evidence of all accounts; `n_excused`: units that each exception excused."""

    shards: Sequence[WeighedShard]
    sightings: Sightings
    n_excused: Sequence[int]

    def log_max_e(self) -> Floats:
        return np.concatenate([shard.log_max_e for shard in self.shards])

    def log_review(self) -> Floats:
        return np.concatenate([shard.log_review for shard in self.shards])

    def links(self) -> dict[str, Sequence[Link]]:
        return {account: found for shard in self.shards for account, found in shard.links.items()}

    def offsets(self) -> Ints:
        """Number of the first account of each shard but the first, and of all."""
        return np.cumsum([len(shard.account_ids) for shard in self.shards])

    def records(self) -> tuple[Ints, Ints, Floats]:
        """Index of the account among all, us, new M: see Replay."""
        account, us, log_e = zip(*(shard.records for shard in self.shards), strict=True)
        moved = [own + offset for own, offset in zip(account, [0, *self.offsets()[:-1]], strict=True)]
        return np.concatenate(moved), np.concatenate(us), np.concatenate(log_e)


class _Done(NamedTuple):
    """A shard, weighed, and what is joined or written at once."""

    weighed: WeighedShard
    sightings: Sightings
    n_excused: Sequence[int]
    counts: pa.Table


def plan_shards(db: duckdb.DuckDBPyConnection) -> list[Shard]:
    """Shards of about SHARD_PROMPTS, by the table `account_use`, sorted by account."""
    use = query(db, "SELECT account_id, n_prompts FROM account_use ORDER BY rowid")
    n_prompts = use["n_prompts"].to_numpy()
    before = np.cumsum(n_prompts) - n_prompts
    starts = np.flatnonzero(changes(before // max(SHARD_PROMPTS, math.ceil(n_prompts.sum() / MOST_SHARDS))))
    ends = [*starts[1:].tolist(), len(n_prompts)]
    first = use["account_id"].take(pa.array(starts)).to_pylist()
    return [Shard(name, range(a, b)) for name, a, b in zip(first, starts.tolist(), ends, strict=True)]


def weigh(
    db: duckdb.DuckDBPyConnection,
    shards: Sequence[Shard],
    files: Sequence[Path],
    norms: Norms,
    exceptions: Sequence[AgreedException],
    threads: int,
    write_counts: Callable[[Iterable[pa.Table]], None],
) -> Weighed:
    """Weigh the units of all shards (`split_units`'s files); counts go to `write_counts` in order of account."""
    done: list[_Done] = []

    def counts() -> Iterator[pa.Table]:
        with ThreadPoolExecutor(threads, "weigh") as pool:
            for shard in pool.map(partial(_weigh_shard, db, norms, exceptions), shards, files):
                done.append(shard._replace(counts=None))
                yield shard.counts

    write_counts(counts())
    return Weighed(
        shards=[one.weighed for one in done],
        sightings=join_sightings([one.sightings for one in done]),
        n_excused=[sum(numbers) for numbers in zip(*(one.n_excused for one in done), strict=True)],
    )


def _weigh_shard(
    db: duckdb.DuckDBPyConnection, norms: Norms, exceptions: Sequence[AgreedException], shard: Shard, file: Path
) -> _Done:
    excused = excuse(merge_units([pa.ipc.open_file(file).read_all()]), exceptions)
    replayed = replay(excused.units, norms.baselines, least_flag(norms.population, norms.n_accounts))
    links = find_links(excused.units, norms.approvals, exceptions)
    linked = pc.is_in(replayed.account_ids, pa.array(list(links), pa.string())).to_numpy(zero_copy_only=False)
    judged = may_be_judged(replayed, norms.population, norms.n_accounts) | linked
    notable = replayed.account_ids.filter(pa.array(judged))
    with db.cursor() as own:
        said = particulars(own, excused.units, notable)
    weighed = WeighedShard(
        rows=shard.rows,
        account_ids=replayed.account_ids,
        log_max_e=replayed.log_max_e,
        log_review=replayed.log_review,
        records=(replayed.record_account, replayed.record_us, replayed.record_log_e),
        particulars=said,
        links=links,
        file=file.with_suffix(".npz"),
    )
    names = (field.name for field in fields(Replay) if field.name != "account_ids")
    np.savez(weighed.file, **{name: getattr(replayed, name) for name in names})
    return _Done(weighed, sightings_of(excused.units), excused.n_units, count_days(excused.units))


def split_units(files: Sequence[Path], shards: Sequence[Shard], folder: Path) -> list[Path]:
    """Write units (files sorted by account) to a file a shard, for `weigh`."""
    paths = [folder / f"shard-{i:03}.arrow" for i in range(len(shards))]
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(path, UNIT_SCHEMA, options=packed)) for path in paths]
        for file in files:
            units = pq.read_table(file, columns=UNIT_SCHEMA.names).cast(UNIT_SCHEMA).combine_chunks()
            accounts = units["account_id"]
            cuts = [bisect_left(accounts, shard.first, key=pa.StringScalar.as_py) for shard in shards[1:]]
            for writer, (start, end) in zip(writers, pairwise([0, *cuts, len(accounts)]), strict=True):
                if end > start:
                    writer.write_table(units.slice(start, end - start))
    return paths
