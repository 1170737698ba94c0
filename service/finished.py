"""A labelled run that is finished, for reading: its parts, and its inputs where they lie now.

    run.json, resume/ledger.json -> **finished** -> discovery, trial

A run holds labels and no text; what was sent is read again from its inputs, which must hold the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from classifier.errors import InputError
from service.inputs import InputFile, expand_inputs
from service.places import place_of
from service.records import Part, read_parts
from service.run import LEDGER, RESUME, Recorded, RunFolder, Settings


def read_finished(path: Path) -> RunFolder:
    """The run in a folder, with those of its inputs that `run.json` tells of.

    Raises:
        InputError: there is no run, or none that is finished.
    """
    if not path.is_dir():
        raise InputError(f"{path}: is not a folder; give the folder that `probewatch label --out` wrote.")
    document, ledger = _read(path, path / "run.json"), _read(path, path / RESUME / LEDGER)
    try:
        finished = {item["digest"] for item in document["inputs"]}
        inputs = [Recorded(**{**item, "copies": tuple(item["copies"])}) for item in ledger["inputs"]]
        settings = Settings(**{name: ledger[name] for name in Settings.__dataclass_fields__})
    except (LookupError, TypeError, AttributeError) as error:
        raise _unreadable(path) from error
    return RunFolder(path, settings, [item for item in inputs if item.digest in finished])


def input_files(run: RunFolder, paths: Sequence[str]) -> list[InputFile]:
    """The inputs of which something was labelled, in the order of the run. `paths`: where they lie now, if not where
    they lay.

    Raises:
        InputError: one is not there, or has changed.
    """
    wanted = [item for item in run.inputs if any(run.facts(part).n_labelled for part in run.part_ids(item.digest))]
    places = [place for item in wanted for place in (item.location, *item.copies) if _may_be_there(place)]
    there = expand_inputs(paths if paths else places) if paths or places else []
    by_digest = {file.digest: file for file in there}
    missing = [item for item in wanted if item.digest not in by_digest]
    if missing:
        raise InputError(_missing(run, missing, there, bool(paths)))
    return [by_digest[item.digest] for item in wanted]


def read_wanted(file: InputFile, run: RunFolder, wanted: set[str]) -> Iterator[Part]:
    """The wanted parts of a file; reading stops behind the last."""
    left = set(wanted)
    settings = run.settings
    for part in read_parts(file, settings.format, settings.rows_per_part, settings.account_field) if left else ():
        if part.part_id in left:
            left.discard(part.part_id)
            yield part
        if not left:
            return


def _may_be_there(place: str) -> bool:
    """Whether a file is there; an object of a store is asked for when it is read."""
    path = place_of(place)
    return path.is_file() if isinstance(path, Path) else True


def _missing(run: RunFolder, missing: Sequence[Recorded], there: Sequence[InputFile], given: bool) -> str:
    first = missing[0]
    others = f" (nor are {len(missing) - 1:,} others)" if len(missing) > 1 else ""
    if first.location in {str(file.path.resolve()) for file in there}:
        return f"{run.path}: its input {first.path} has changed since it was labelled; label it into a new run."
    where = "is not among the files given" if given else f"is not at {first.location} any more"
    return (
        f"{run.path}: its input {first.path} {where}{others}, and a run holds no text; give the files that were "
        "labelled, wherever they lie now, as PATH."
    )


def _read(path: Path, file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(
            f"{path}: holds no {file.relative_to(path)}, so it is no labelled run, or one that was stopped; repeat "
            "its `probewatch label` first."
        )
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    if not isinstance(document, dict):
        raise _unreadable(path)
    return document


def _unreadable(path: Path) -> InputError:
    return InputError(f"{path}: its run.json and resume/ledger.json cannot be read together; label again.")
