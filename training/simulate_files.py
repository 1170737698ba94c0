"""Texts of the user's own for the simulator: what `--texts` names. Used by `simulate`.

Rows with `family` are extraction prompts of that family, sent whole; of the others those with `app` are prompts of that
application, and the rest are people's. What files give takes the place of the texts that ship.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from classifier.errors import InputError
from training.sample import CHAT_SYSTEMS
from training.simulate_texts import Column, TextsBuilder

COLUMNS = ("text", "family", "app", "kind", "capability")
INTEREST, RUN, MENUS = 60, 400, 200
"""Texts in a row of a file that are one interest, those of one evaluation run, and how many mixed menus there are."""
MIX = 6
"""Interests of a person with several."""
POOL_OF_KIND = {"judge": "judges", "coding_agent": "agents", "agent_framework": "agents"}
"""Where applications of a kind belong; all others are production applications."""


@dataclass(frozen=True)
class Row:
    """One text and what its file says of it, None where it says nothing."""

    text: str
    family: str | None
    app: str | None
    kind: str | None
    capability: str | None


def add_files(builder: TextsBuilder, paths: Sequence[Path]) -> None:
    """Fill pools and families with the texts of files.

    Raises:
        InputError: a file cannot be read, or holds no text.
    """
    rows = [row for path in paths for row in read_texts(path)]
    _add_families(builder, [row for row in rows if row.family is not None])
    _add_applications(builder, [row for row in rows if row.family is None and row.app is not None])
    typed = [row for row in rows if row.family is None and row.app is None]
    _add_benchmarks(builder, [row.text for row in typed if row.kind == "benchmark"])
    _add_people(builder, [row for row in typed if row.kind != "benchmark"])


def read_texts(path: Path) -> list[Row]:
    """Rows of a Parquet or JSONL file that hold text, but for those marked `ambiguous`: benign, and a template as well.

    Raises:
        InputError: it cannot be read, has no column `text` of text, or no row with any.
    """
    table = _read_table(path)
    if "text" not in table.column_names:
        raise InputError(f"--texts {path} has no column text: it has {', '.join(table.column_names[:8])}; rename one")
    columns = {name: _strings(path, table, name) for name in COLUMNS}
    if "capability" not in table.column_names:
        columns["capability"] = _strings(path, table, "label")
    keep = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(columns["text"])), 0)
    if "ambiguous" in table.column_names and pa.types.is_boolean(table["ambiguous"].type):
        keep = pc.and_(keep, pc.invert(pc.fill_null(table["ambiguous"], False)))
    kept = [column.filter(pc.fill_null(keep, False)).to_pylist() for column in columns.values()]
    if not kept[0]:
        raise InputError(f"--texts {path} holds no text: expected at least one row with text, check the file")
    return [Row(*cells) for cells in zip(*kept, strict=True)]


def _read_table(path: Path) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            names = set(pq.read_schema(path).names)
            return pq.read_table(path, columns=[*names & {*COLUMNS, "label", "ambiguous"}] or None)
        if path.suffix in (".jsonl", ".ndjson"):
            return pyarrow.json.read_json(path, pyarrow.json.ReadOptions(block_size=1 << 24))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"--texts {path} cannot be read as {path.suffix[1:]}: check that it is there and whole"
        ) from error
    raise InputError(f"--texts {path} has an unknown suffix: expected .parquet or .jsonl")


def _strings(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column as text, null where the table lacks it or it is empty."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
        raise InputError(f"--texts {path}: column {name} is {column.type}, expected text; convert it")
    column = column.cast(pa.large_string())
    return pc.if_else(pc.equal(column, ""), None, column)


def _add_families(builder: TextsBuilder, rows: Sequence[Row]) -> None:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.family or "", []).append(row)
    for family, members in grouped.items():
        capability = next((row.capability for row in members if row.capability is not None), "none")
        builder.family(family, capability, [Column(builder.values([row.text for row in members]), 1)])


def _add_applications(builder: TextsBuilder, rows: Sequence[Row]) -> None:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.app or "", []).append(row)
    for members in grouped.values():
        pool = POOL_OF_KIND.get(members[0].kind or "", "applications")
        builder.menu(pool, [builder.plain(builder.values([row.text for row in members]))])


def _add_benchmarks(builder: TextsBuilder, texts: Sequence[str]) -> None:
    for shape in _windows(builder, texts, RUN):
        builder.menu("benchmarks", [shape])


def _add_people(builder: TextsBuilder, rows: Sequence[Row]) -> None:
    """Neighbours in a file are one interest, since files are sorted by source; people have one or several."""
    shapes = _windows(builder, [row.text for row in rows], INTEREST)
    if not shapes:
        return
    rng = random.Random(0)
    mixed = [rng.sample(shapes, min(MIX, len(shapes))) for _ in range(MENUS)]
    coding = _windows(builder, [row.text for row in rows if row.capability == "coding"], INTEREST)
    menus = {
        "people": mixed,
        "students": mixed,
        "interests": [[shape] for shape in shapes],
        "authors": [[shape] for shape in shapes],
        "coders": [rng.sample(coding, min(MIX, len(coding))) for _ in range(MENUS)] if coding else [],
        "customers": [shapes + coding],
    }
    for pool, choices in menus.items():
        for choice in choices:
            builder.menu(pool, choice, CHAT_SYSTEMS)


def _windows(builder: TextsBuilder, texts: Sequence[str], size: int) -> list[int]:
    """A shape for each stretch of so many texts."""
    stretches = [texts[at : at + size] for at in range(0, len(texts), size)]
    return [builder.plain(builder.values(stretch)) for stretch in stretches]
