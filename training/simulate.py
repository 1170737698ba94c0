"""Traffic with planted campaigns, and the truth of it: what `probewatch simulate` runs, without the training extra.

    scenario -> accounts -> events -> texts -> **files**

A finished folder holds `traffic/part-*.parquet`, which `probewatch label` reads, and `truth/` (see `simulate_truth`).
It is made beside its place under a hidden name and renamed when all of it is there, so a killed run leaves nothing that
looks whole. Parts follow one another in time.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from classifier.bundle import data_dir
from classifier.errors import OutputError
from training.simulate_accounts import Accounts, make_accounts
from training.simulate_compose import TRAFFIC_SCHEMA, TRUTH_SCHEMA, compose_traffic, compose_truth
from training.simulate_events import Events, make_events
from training.simulate_files import add_files
from training.simulate_sample import add_sample
from training.simulate_scenario import Scenario
from training.simulate_texts import Texts, TextsBuilder
from training.simulate_truth import Totals, Truth

PART_ROWS = 1 << 20
GROUP_ROWS = 1 << 15
"""Rows that are composed at once: 16 MB of text, which is what a writer holds."""

REPEATED = ("account_id", "system", "messages.list.element.role", "family")
"""Columns of few distinct values; the others are written without a dictionary."""

Progress = Callable[[int], None]
"""Called with the number of events written since the last call."""


def simulate(
    out: Path,
    scenario: Scenario,
    texts: Sequence[Path] = (),
    progress: Progress = lambda more: None,
    part: int = PART_ROWS,
) -> Totals:
    """Write the traffic of a scenario and its truth into the folder `out`, which must be empty or not there.

    `texts`: files of texts to send instead of those that ship; `part`: rows of a file.

    Raises:
        UsageError: a campaign's family has no texts.
        InputError: a file of texts cannot be used.
        OutputError: `out` is in use or cannot be written.
    """
    _check_free(out)
    wordings = read_all_texts(texts)
    for campaign in scenario.campaigns:
        wordings.family_shapes([*campaign.families, *campaign.families_after])
    with _finished_at_once(out) as folder:
        for name in ("traffic", "truth/events"):
            (folder / name).mkdir(parents=True)
        accounts = make_accounts(scenario, wordings)
        truth = Truth(scenario, accounts, wordings)
        events = make_events(scenario, accounts, wordings)
        _write_parts(_Writer(folder, accounts, wordings, progress), _counted(cut(events, part), truth))
        truth.write(folder / "truth")
    return truth.totals


def read_all_texts(files: Sequence[Path]) -> Texts:
    """The texts of some files, and those that ship for all that the files do not hold."""
    builder = TextsBuilder()
    add_files(builder, files)
    return builder.build(add_sample(builder, data_dir()))


def cut(pieces: Iterator[Events], rows: int) -> Iterator[Events]:
    """The same events in pieces of so many rows, the last one shorter."""
    held, n_held = list[Events](), 0
    for piece in pieces:
        held, n_held = [*held, piece], n_held + len(piece)
        if n_held >= rows:
            whole = Events.join(held)
            full = n_held // rows * rows
            for at in range(0, full, rows):
                yield whole.rows(slice(at, at + rows))
            held, n_held = [whole.rows(slice(full, None))], n_held - full
    if n_held:
        yield Events.join(held)


def _counted(parts: Iterator[Events], truth: Truth) -> Iterator[Events]:
    for part in parts:
        truth.add(part)
        yield part


@dataclass(frozen=True)
class _Writer:
    """Writes one part of traffic and of truth; several threads may each write another."""

    folder: Path
    accounts: Accounts
    texts: Texts
    progress: Progress

    def write(self, number: int, events: Events) -> None:
        name = f"part-{number:05d}.parquet"
        with (
            _open_parquet(self.folder / "traffic" / name, TRAFFIC_SCHEMA) as traffic,
            _open_parquet(self.folder / "truth" / "events" / name, TRUTH_SCHEMA) as truth,
        ):
            for at in range(0, len(events), GROUP_ROWS):
                group = events.rows(slice(at, at + GROUP_ROWS))
                traffic.write_batch(compose_traffic(group, self.accounts, self.texts))
                truth.write_batch(compose_truth(group, self.texts))
                self.progress(len(group))


def _open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in REPEATED if name.partition(".")[0] in schema.names],
        write_statistics=["timestamp"],
    )


def _write_parts(writer: _Writer, parts: Iterator[Events]) -> None:
    """Parts are composed and written beside one another, a core each; at most one more waits in memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for number, events in enumerate(parts):
                pending.append(pool.submit(writer.write, number, events))
                if len(pending) > cores:
                    pending.popleft().result()
            for future in pending:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} is there and holds something: expected a new or empty folder, choose another --out")


@contextmanager
def _finished_at_once(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to write into; it becomes `out`, or vanishes if the block raises."""
    place = out.resolve()
    hidden = place.with_name(f".{place.name}.unfinished")
    try:
        hidden.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(
            f"{hidden} is there: another run is writing {out}, or one was killed; if none runs, remove it and repeat"
        ) from error
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}): check permissions and space") from error
    try:
        yield hidden
        hidden.replace(place)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
