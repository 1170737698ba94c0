"""SQL that both databases understand, and the one word in which they differ. Stands after `schema`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, Table, TextClause, text

_JSON_ROWS = {"sqlite": "json_each(:rows)", "postgresql": "json_array_elements(CAST(:rows AS json))"}


def lookup(connection: Connection, statement: str, keys: Iterable[Sequence[object]]) -> Sequence[Any]:
    """Rows that belong to keys: `{keys}` in the statement is a table `k` with them as JSON arrays in `value`."""
    source = f"{_JSON_ROWS[connection.dialect.name]} AS k"
    rows = orjson.dumps([[*key] for key in keys]).decode()
    return connection.execute(_prepared(statement.replace("{keys}", source)), {"rows": rows}).all()


def upsert(table: Table, given: dict[str, str] | None = None) -> TextClause:
    """Insert a row by the names of its columns; of one that is there all others are set, or as `given` says."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    rest = {name: f"excluded.{name}" for name in names if name not in keys} | (given if given is not None else {})
    change = ", ".join(f"{name} = {value}" for name, value in rest.items())
    return text(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {change}"
    )


@cache
def _prepared(statement: str) -> TextClause:
    return text(statement)
