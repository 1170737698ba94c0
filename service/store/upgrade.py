"""Bringing the tables up to date, all steps in one transaction. Stands after `opening`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from service.store.opening import Store, StoreError
from service.store.schema import COUNTED, accounts, day_totals, traffic

_LOCK = 0x70726F6265  # any number that others do not use


def upgrade(store: Store) -> bool:
    """Bring the tables to this version's; says whether there was anything to do. Safe to run from many at once.

    Raises:
        StoreError: the database cannot be reached, or is of a newer version.
    """
    with store.writing() as connection:
        if not store.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        is_old = _revision(connection, store) != head()
        if is_old:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return _add_counts(connection) or is_old


def _add_counts(connection: Connection) -> bool:
    """Columns of capabilities that the taxonomy has and the migrations do not know; says whether there were any."""
    absent = _absent_counts(connection)
    for table, name in absent:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {name} BIGINT NOT NULL DEFAULT 0")
    return bool(absent)


def _absent_counts(connection: Connection) -> list[tuple[str, str]]:
    inspector = inspect(connection)
    tables = (accounts.name, traffic.name, day_totals.name)
    known = {table: {column["name"] for column in inspector.get_columns(table)} for table in tables}
    return [(table, name) for table in tables for name in COUNTED if name not in known[table]]


def check_version(store: Store) -> None:
    """Raises StoreError unless the tables are those of this version."""
    with store.reading() as connection:
        found = _revision(connection, store)
        is_whole = found == head() and not _absent_counts(connection)
    if not is_whole:
        raise StoreError(
            f"The store has tables of version {found if found is not None else 'none'}, expected {head()}: run "
            "probewatch store upgrade."
        )


def head() -> str:
    """The version of the tables that this code works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # the migrations ship beside this file
    return revision


def known_versions() -> set[str]:
    """Versions of the tables that this code can bring up to date."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _revision(connection: Connection, store: Store) -> str | None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known_versions():
        raise StoreError(
            f"The store {store.url.render_as_string()} has tables of version {found}, which is newer than this "
            f"probewatch (version {head()}): run the newer one."
        )
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
