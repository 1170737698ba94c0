"""Bringing the tables up to date, all steps in one transaction. Stands after `opening`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from service.store.opening import Store, StoreError

_LOCK = 0x70726F6265  # any number that others do not use


def upgrade(store: Store) -> bool:
    """Bring the tables to this version's; says whether there was anything to do. Safe to run from many at once.

    Raises:
        StoreError: the database cannot be reached, or is of a newer version.
    """
    with store.writing() as connection:
        if not store.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        before = _revision(connection, store)
        if before == head():
            return False
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return True


def check_version(store: Store) -> None:
    """Raises StoreError unless the tables are those of this version."""
    with store.reading() as connection:
        found = _revision(connection, store)
    if found != head():
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
