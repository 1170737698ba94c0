"""Parts that a cluster labelled before it was their turn, kept in the run's folder until it is.

    cluster_work (label) -> **held** -> cluster_work (settle) -> RunFolder

A held part is labelled whole but for repeats within it. Its units are not merged: which of its events repeat those of
earlier parts shows when its turn has come, and a merged unit does not say which events it stands for. The labels are
written last, so a part is held when they are there; a run that was killed goes on with what is held.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from classifier.errors import OutputError
from classifier.labeler import Labelled
from classifier.units import merge_units
from service.files import output_errors, replacing
from service.run import HELD, RESUME, PartFacts, RunFolder

MOST_ATTEMPTS = 4
_LABELS, _FACTS = ".labels.arrow", b"part"
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4")


def held_parts(folder: RunFolder) -> frozenset[str]:
    """Parts that are labelled and wait. They are listed, since a file that was asked for and not there may seem not to
    be there for a while on network storage."""
    return frozenset(path.name.removesuffix(_LABELS) for path in folder.held.glob(f"*{_LABELS}"))


def hold(folder: RunFolder, part_id: str, labelled: Labelled, facts: PartFacts) -> None:
    """Keep a part until its turn. `facts`: as if no earlier part had an event of it."""
    _write(_units(folder, part_id), labelled.units)
    _write(_labels(folder, part_id), labelled.labels.replace_schema_metadata({_FACTS: json.dumps(asdict(facts))}))


def recall(folder: RunFolder, part_id: str) -> tuple[list[str], PartFacts]:
    """Ids of the events of a held part, and its counts as if no earlier part had an event of it."""
    labels = _read(_labels(folder, part_id))
    return list(labels["event_id"].to_pylist()), _facts(labels)


def count_attempt(folder: RunFolder, part_id: str) -> None:
    """Count that a worker begins with a part. Ray replaces workers without end, so one part must not kill them all.

    Raises:
        OutputError: MOST_ATTEMPTS workers began with it before and came to no end.
    """
    path = _attempts(folder, part_id)
    with output_errors(path), path.open("ab") as tally:
        if tally.tell() >= MOST_ATTEMPTS:
            raise OutputError(
                f"{MOST_ATTEMPTS} workers died over the same part, most likely for want of memory: repeat the command "
                "with fewer --workers."
            )
        tally.write(b".")


def settle(folder: RunFolder, part_id: str, repeats: Sequence[str]) -> None:
    """Write a held part as it will be: without the events of which earlier parts had the ids, its units merged. Its
    labels are left among what is held, from where `RunFolder.place_labels` puts them in place."""
    labels, units = _read(_labels(folder, part_id)), _read(_units(folder, part_id))
    facts = _facts(labels)
    if repeats:
        labels, units = _without(labels, repeats), _without(units, repeats)
    n_repeats = facts.n_labelled - labels.num_rows
    facts = replace(facts, n_labelled=labels.num_rows, n_duplicates=facts.n_duplicates + n_repeats)
    folder.write_labelled(part_id, labels, merge_units([units]), facts, f"{RESUME}/{HELD}")


def release(folder: RunFolder, part_id: str) -> None:
    """Forget a held part, which is in place."""
    for path in (_labels(folder, part_id), _units(folder, part_id), _attempts(folder, part_id)):
        path.unlink(missing_ok=True)


def _labels(folder: RunFolder, part_id: str) -> Path:
    return folder.held / f"{part_id}{_LABELS}"


def _units(folder: RunFolder, part_id: str) -> Path:
    return folder.held / f"{part_id}.units.arrow"


def _attempts(folder: RunFolder, part_id: str) -> Path:
    return folder.held / f"{part_id}.attempts"


def _without(rows: pa.Table, event_ids: Sequence[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(event_ids, pa.string()))))


def _write(path: Path, rows: pa.Table) -> None:
    with replacing(path) as temporary, pa.ipc.new_file(temporary, rows.schema, options=_PACKED) as target:
        target.write(rows)


def _read(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(path.read_bytes()).read_all()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: cannot be read (truncated, or gone); delete it, and repeat the command.") from error


def _facts(labels: pa.Table) -> PartFacts:
    return PartFacts(**json.loads(labels.schema.metadata[_FACTS]))
