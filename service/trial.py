"""What signatures would have matched in a day of traffic that was labelled, before they go live.

    run (labels, and its inputs again), proposals -> **trial** -> console

The store keeps no prompt and no hash that would tell whether a new wording stands in one, and should not: so this is
asked of a labelled run, whose inputs are read again, and answered by the matcher itself. Of a day with more prompts
than MOST_TRIED a random part is read. Nothing is written.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from classifier.errors import InputError
from classifier.pipeline import Pipeline
from classifier.signatures import Signature
from classifier.text import normalise_text
from classifier.units import DAY_US
from service.database import connect, parquet_source, query
from service.finished import input_files, read_wanted
from service.prompts import meant_texts
from service.run import LABELS, RunFolder
from service.template_checks import best_matches

MOST_TRIED = 100_000
"""Prompts of a day that are read again: an analyst waits for them."""
MOST_SHOWN = 25
_LAST_SQL = "SELECT epoch_us(max(timestamp)) // {day_us} AS day FROM {source}"
_DAY_SQL = """
SELECT event_id, filename, count(*) OVER () AS n FROM {source} WHERE epoch_us(timestamp) // {day_us} = {day}
QUALIFY row_number() OVER (ORDER BY unit, event_id) <= {most} ORDER BY filename, event_id
"""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class FiredAccount:
    """An account with matches. `n_prompts`: of its prompts that were read; `decision`: what the run says of it."""

    account_id: str
    n_matched: int
    n_prompts: int
    decision: str


@dataclass(frozen=True)
class Fired:
    """What would have matched on a day.

    Attributes:
        n_day: prompts that the run labelled of that day; `n_prompts` of them were read, at random if not all.
        n_accounts: who sent these; `n_matched` of them match, and `n_users` accounts sent those.
        decisions: of the accounts with matches, by the run.
        accounts: those with most matches, MOST_SHOWN at most.
    """

    day: date
    n_day: int
    n_prompts: int
    n_accounts: int
    n_matched: int
    n_users: int
    decisions: Mapping[str, int]
    accounts: Sequence[FiredAccount]


def try_on(signatures: Sequence[Signature], run: RunFolder, day: date | None, pipeline: Pipeline) -> Fired:
    """What signatures would have matched, best beside all that a pipeline knows; on the last day of the run if None.

    Raises:
        InputError: its labels or inputs cannot be read, inputs have changed, or nothing was sent that day.
    """
    day = day if day is not None else _last_day(run)
    rows = _asked(run, _DAY_SQL, day=(day - _EPOCH).days, most=MOST_TRIED)
    if not len(rows):
        raise InputError(f"The run {run.path.name} labelled nothing of {day}: its last day is {_last_day(run)}.")
    index, first = pipeline.labeler.templates.with_signatures(signatures), len(pipeline.labeler.templates.signatures)
    sent, users = Counter[str](), Counter[str]()
    for events in _events(run, rows):
        texts = [normalise_text(text) for text in meant_texts(events)]
        matched = (best_matches(index, texts, pipeline.labeler.encoder) >= first).any(axis=0)
        sent.update(events["account_id"].to_pylist())
        users.update(events["account_id"].filter(pa.array(matched)).to_pylist())
    if sent.total() < len(rows):
        raise InputError(f"The run {run.path.name} does not read as it did when it was labelled; label it again.")
    return _fired(run, day, int(rows["n"][0].as_py()), sent, users)


def _events(run: RunFolder, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """The events of rows as they were sent, part by part; of one that came again, the first."""
    by_part: dict[str, list[str]] = {}
    for name, event_id in zip(rows["filename"].to_pylist(), rows["event_id"].to_pylist(), strict=True):
        by_part.setdefault(Path(name).stem, []).append(event_id)
    for file in input_files(run, []):
        for part in read_wanted(file, run, {one for one in by_part if one.startswith(file.digest[:16])}):
            yield part.events.take(pc.index_in(pa.array(by_part[part.part_id]), part.events["event_id"]).drop_null())


def _fired(run: RunFolder, day: date, n_day: int, sent: Counter[str], users: Counter[str]) -> Fired:
    judged = pq.read_table(run.path / "accounts.parquet", columns=["account_id", "decision"])
    own = judged.filter(pc.is_in(judged["account_id"], pa.array(list(users), pa.string())))
    decisions = dict(zip(own["account_id"].to_pylist(), own["decision"].to_pylist(), strict=True))
    most = sorted(users.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_SHOWN]
    return Fired(
        day=day,
        n_day=n_day,
        n_prompts=sent.total(),
        n_accounts=len(sent),
        n_matched=users.total(),
        n_users=len(users),
        decisions=Counter(decisions.values()),
        accounts=[FiredAccount(name, n, sent[name], decisions[name]) for name, n in most],
    )


def _last_day(run: RunFolder) -> date:
    return _EPOCH + timedelta(days=int(_asked(run, _LAST_SQL)["day"][0].as_py()))


def _asked(run: RunFolder, sql: str, **given: int) -> pa.Table:
    source = parquet_source(run.files(LABELS))[:-1] + ", filename = true)"
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
        try:
            return query(db, sql.format(source=source, day_us=DAY_US, **given))
        except duckdb.Error as error:
            raise InputError(f"{run.path.name}: its labels cannot be read ({type(error).__name__}).") from error
