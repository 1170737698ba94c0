"""DuckDB over the parts of a run: what is summed on disk rather than in memory. Used by `findings` and `accounts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from classifier.errors import OutputError

MEMORY_LIMIT = "1GB"
"""What DuckDB may hold before it spills."""


def connect(spill: Path, **settings: str | int) -> duckdb.DuckDBPyConnection:
    """An empty DuckDB, in bounded memory, that installs and fetches nothing and draws no bars; spills to a folder."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        **settings,
    }
    db = duckdb.connect(config=config)
    db.execute("SET enable_progress_bar = false")  # which it draws on a terminal, whatever --quiet says
    return db


@contextmanager
def database(spill: Path, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """`connect`, for a run: the folder `spill` lies two below its own, and holds shards of units beside.

    Raises:
        OutputError: what it reads or spills cannot be read or written.
    """
    with connect(spill, threads=threads) as db:
        try:
            yield db
        except (duckdb.IOException, OSError, pa.ArrowException) as error:
            raise OutputError(
                f"{spill.parent.parent}: a part cannot be read, or no room is left to merge evidence; check space, or "
                "start over with --fresh."
            ) from error


def parquet_source(paths: Sequence[Path]) -> str:
    """Parquet files as a table function of SQL; brackets keep DuckDB from taking wildcards in a path for a pattern."""
    escaped = ["".join(f"[{c}]" if c in "*?[" else c for c in str(path)).replace("'", "''") for path in paths]
    names = ", ".join(f"'{path}'" for path in escaped)
    return f"read_parquet([{names}])"


def query(db: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """All rows of a query, in memory."""
    table = db.sql(sql).to_arrow_table()
    assert table is not None
    return table
