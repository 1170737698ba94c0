"""Opening a store: SQLite or PostgreSQL by its URL, with what makes a commit last. Stands after `schema`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from classifier.errors import ProbewatchError, UsageError

BUSY_SECONDS = 10
"""How long one process waits for another's transaction."""
STATEMENT_SECONDS = 60
"""PostgreSQL gives up a statement then."""
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0
"""An answer that has not come then will not: PostgreSQL itself would have given up before."""
_SQLITE_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"busy_timeout = {BUSY_SECONDS * 1000}",
    "cache_size = -65536",
)
_CONFLICTS = ("23", "40")  # classes of SQLSTATE: a unique key, a deadlock
_EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"


class StoreError(ProbewatchError):
    """The store cannot be reached, or refuses."""


class StoreConflictError(StoreError):
    """Another process changed the same rows at the same time: nothing was committed, and trying again may do."""


class Store:
    """A database with the tables of `schema`. Thread-safe; one a process."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.engine = _engine(url)
        self.driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        """What every error of the driver is; `writing` and `reading` raise StoreError for it."""

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def is_there(self) -> bool:
        """Whether there is a database: opening one in a file would make it."""
        return not self.is_sqlite or Path(str(self.url.database)).exists()

    @contextmanager
    def writing(self, seconds: float = ANSWER_SECONDS) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, durably, unless an error leaves it.

        `seconds`: how long each answer of the database is waited for (SQLite: BUSY_SECONDS, whatever is given).

        Raises:
            StoreError: the database cannot be reached, or was lost; nothing, or all, was committed.
        """
        with self._connected(seconds) as connection:
            connection.begin()  # statements that go straight to the driver would not
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def reading(self, seconds: float = ANSWER_SECONDS) -> Iterator[Connection]:
        """One consistent view. Raises StoreError as `writing` does."""
        with self._connected(seconds) as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[Connection]:
        with _store_errors(self.url, self.driver_error), self.engine.connect() as connection:
            if not self.is_sqlite:
                _set_patience(connection, seconds)
            yield connection

    def writer(self) -> Writer:
        """What writes many short transactions, one after the other; whoever asks for it closes it."""
        return Writer(self)

    def close(self) -> None:
        self.engine.dispose()


class Writer:
    """A connection that is kept from one transaction to the next, for one thread that has many to commit.

    `Store.writing` takes one from the pool each time, which for an event or two costs as much as recording them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Connection | None = None

    @contextmanager
    def writing(self, seconds: float = ANSWER_SECONDS) -> Iterator[Connection]:
        """As `Store.writing`. After an error the next transaction is on another connection."""
        with _store_errors(self._store.url, self._store.driver_error):
            try:
                connection = self._begun(seconds)
                yield connection
                _driver_of(connection).execute("COMMIT")
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the connection, and of what is not committed on it; the next transaction opens another."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.invalidate()
            kept.close()

    def _begun(self, seconds: float) -> Connection:
        """The connection, in a transaction; another one if it was lost while nobody looked."""
        if self._kept is not None:
            try:
                return self._begin(self._kept, seconds)
            except self._store.driver_error as error:
                if not self._store.engine.dialect.is_disconnect(error, _driver_of(self._kept), None):  # type: ignore[arg-type]
                    raise
                self.close()
        self._kept = self._store.engine.connect()
        if not self._store.is_sqlite:
            _driver_of(self._kept).autocommit = True  # transactions begin where we say
        return self._begin(self._kept, seconds)

    def _begin(self, connection: Connection, seconds: float) -> Connection:
        if not self._store.is_sqlite:
            _set_patience(connection, seconds)
        _driver_of(connection).execute("BEGIN IMMEDIATE" if self._store.is_sqlite else "BEGIN")
        return connection


def open_store(url: str) -> Store:
    """The store at a URL, `sqlite:///FILE` or `postgresql://...`; connects when it is first used.

    Raises:
        UsageError: no such kind of URL, or the folder of the file is not there.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        elif parsed.get_backend_name() != "sqlite" or not parsed.database:
            raise UsageError(f"The store got a URL of the kind {parsed.drivername}: {_EXPECTED}.")
        elif not Path(parsed.database).absolute().parent.is_dir():
            raise UsageError(f"The folder of the store {parsed.database} is not there: make it, or name another.")
        return Store(parsed)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"The store got a URL that cannot be read: {_EXPECTED}.") from error
    except ModuleNotFoundError as error:
        raise UsageError("PostgreSQL needs the postgres extra: pip install 'probewatch[postgres]'.") from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return _postgres_engine(url)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: object, _: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # transactions begin where we say
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    return engine


def _postgres_engine(url: URL) -> Engine:
    from service.store.patient import BRIEF_SECONDS, PatientConnection

    options = {"connect_timeout": round(BRIEF_SECONDS), "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000}"}
    engine = create_engine(url, pool_pre_ping=True, connect_args=options)

    @event.listens_for(engine, "do_connect")
    def _connect(_: object, __: object, arguments: Any, named: Any) -> object:
        return PatientConnection.connect(*arguments, **named)

    @event.listens_for(engine, "reset")
    def _be_brief(connection: Any, *_: object) -> None:
        connection.patience = BRIEF_SECONDS

    return engine


def _set_patience(connection: Connection, seconds: float) -> None:
    _driver_of(connection).patience = seconds


def _driver_of(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection


@contextmanager
def _store_errors(url: URL, of_driver: type[Exception]) -> Iterator[None]:
    """The driver's errors, whichever way they come, as the store's own."""
    try:
        yield
    except (DBAPIError, of_driver) as error:
        origin = error.orig if isinstance(error, DBAPIError) else error
        place = url.render_as_string(hide_password=True)
        state = getattr(origin, "sqlstate", None)
        kind = StoreConflictError if state is not None and state[:2] in _CONFLICTS else StoreError
        raise kind(
            f"The store {place} cannot be used ({type(origin).__name__}): see that it is there, up to date "
            "(probewatch store upgrade) and has room."
        ) from error
