"""The operator's list of vetted benign accounts: a file in, account -> stratum out. Used by `calibration`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from classifier.errors import InputError

NO_STRATUM = "accounts"
ACCOUNT, STRATUM = "account_id", "stratum"
_TEXT = "an id a line, or .jsonl, .csv or .parquet with account_id and, if you like, stratum"


def read_vetted(path: Path) -> dict[str, str]:
    """Stratum of each account of a list, NO_STRATUM where none is given; an account may be there twice.

    Raises:
        InputError: the list cannot be read, is empty, or gives an account two strata.
    """
    try:
        rows = list(_rows(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a list of vetted accounts.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not valid UTF-8; convert it first.") from error
    vetted: dict[str, str] = {}
    for account, stratum in (_checked(path, number, row) for number, row in enumerate(rows, 1)):
        if vetted.setdefault(account, stratum) != stratum:
            raise InputError(
                f"{path}: {account} is of the strata {vetted[account]} and {stratum}; expected one of them."
            )
    if not vetted:
        raise InputError(f"{path}: holds no account; expected {_TEXT}.")
    return vetted


def _rows(path: Path) -> Iterator[Mapping[str, object]]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    text = path.read_bytes().decode("utf-8-sig")
    if kind == ".csv":
        yield from csv.DictReader(io.StringIO(text))
        return
    lines = (line.strip() for line in text.split("\n"))
    if kind in (".jsonl", ".ndjson"):
        yield from (_json_row(path, line) for line in lines if line)
    else:
        yield from ({ACCOUNT: line} for line in lines if line)


def _parquet_rows(path: Path) -> Iterable[Mapping[str, object]]:
    stream = io.BytesIO(path.read_bytes())
    try:
        names = [name for name in pq.read_schema(stream).names if name in (ACCOUNT, STRATUM)]
        rows: list[Mapping[str, object]] = pq.read_table(stream, columns=names).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path}: is not a readable Parquet file; expected {_TEXT}.") from error
    return rows


def _json_row(path: Path, line: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: a line is not valid JSON; expected objects with account_id.") from error
    return row if isinstance(row, dict) else {}


def _checked(path: Path, number: int, row: Mapping[str, object]) -> tuple[str, str]:
    account, stratum = row.get(ACCOUNT), row.get(STRATUM)
    if not isinstance(account, str) or not account:
        raise InputError(f"{path}: record {number} has no account_id that is a text; expected {_TEXT}.")
    if stratum is not None and not isinstance(stratum, str):
        raise InputError(f"{path}: record {number} has a stratum that is no text; expected a name.")
    return account, stratum if stratum else NO_STRATUM
