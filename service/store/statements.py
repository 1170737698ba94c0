"""SQL that both databases understand, and the one word in which they differ. Stands after `schema`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Table

_JSON_ROWS = {"sqlite": "json_each(?)", "postgresql": "json_array_elements(CAST(? AS json))"}


def lookup(connection: Connection, statement: str, keys: Iterable[Sequence[object]]) -> Sequence[Any]:
    """Rows that belong to keys: `{keys}` in the statement is a table `k` with them as JSON arrays in `value`."""
    source = f"{_JSON_ROWS[connection.dialect.name]} AS k"
    rows = orjson.dumps([[*key] for key in keys]).decode()
    return connection.exec_driver_sql(_spelt(statement.replace("{keys}", source), connection), (rows,)).all()


def write_many(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Execute a statement for each of the rows that take the places of its question marks; nothing without rows.

    Straight to the driver: tens of rows are written for every answer.
    """
    if rows:
        connection.exec_driver_sql(_spelt(statement, connection), list(rows))


def upsert(table: Table, given: dict[str, str] | None = None) -> str:
    """Insert a row, in the order of the table's columns; of one that is there all but the key is set, or as `given`
    says."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    rest = {name: f"excluded.{name}" for name in names if name not in keys} | (given if given is not None else {})
    change = ", ".join(f"{name} = {value}" for name, value in rest.items())
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {change}"
    )


def _spelt(statement: str, connection: Connection) -> str:
    """A statement with the marks that the driver knows."""
    return statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")
