"""SQL that both databases understand, and the one word in which they differ. Stands after `schema`.

What every answer waits for goes straight to the driver, in the transaction of the connection: on SQLAlchemy's way a
statement costs more than in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection, Table

_JSON_ROWS = {"sqlite": "json_each(?)", "postgresql": "json_array_elements(CAST(? AS json))"}


def lookup(connection: Connection, statement: str, keys: Iterable[Sequence[object]]) -> Sequence[Any]:
    """Rows that belong to keys: `{keys}` in the statement is a table `k` with them as JSON arrays in `value`."""
    return connection.exec_driver_sql(_spelt(statement, connection.dialect.name), (_json(keys),)).all()


def fetch(connection: Connection, statement: str, keys: Iterable[Sequence[object]]) -> list[tuple[Any, ...]]:
    """`lookup`, of rows without names, straight from the driver."""
    cursor = connection.connection.cursor()
    cursor.execute(_spelt(statement, connection.dialect.name), (_json(keys),))
    return list(cursor.fetchall())


def write_many(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Execute a statement for each of the rows that take the places of its question marks; nothing without rows."""
    if rows:
        connection.connection.cursor().executemany(_spelt(statement, connection.dialect.name), rows)


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


def _json(keys: Iterable[Sequence[object]]) -> str:
    return orjson.dumps([*map(tuple, keys)]).decode()


@lru_cache
def _spelt(statement: str, dialect: str) -> str:
    """A statement with the keys as a table, and the marks that the driver knows."""
    spelt = statement.replace("{keys}", f"{_JSON_ROWS[dialect]} AS k")
    return spelt if dialect == "sqlite" else spelt.replace("?", "%s")
