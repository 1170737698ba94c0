"""A connection that is kept: what is on it after it served, after an error, and after it was lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import Connection, text

from service.store.opening import StoreConflictError, StoreError, Writer
from service.store.statements import fetch, write_many
from tests.stores import PostgresServer, new_store

INSERT = "INSERT INTO facts (name, value) VALUES (?, 'x')"


def test_a_writer_keeps_its_connection(store_url: str) -> None:
    with new_store(store_url) as store, closing(store.writer()) as writer:
        seen = []
        for name in ("a", "b"):
            with writer.writing() as connection:
                write_many(connection, INSERT, [(name,)])
                seen.append(connection.connection.driver_connection)
            with store.reading() as connection:
                assert connection.execute(text("SELECT max(name) FROM facts")).scalar() == name
        assert seen[0] is seen[1]


def fails(writer: Writer, statement: Callable[[Connection], object]) -> None:
    """A transaction whose second statement fails."""
    with writer.writing() as connection:
        write_many(connection, INSERT, [("failed",)])
        statement(connection)


def test_a_writer_leaves_nothing_of_what_fails_and_goes_on(store_url: str) -> None:
    with new_store(store_url) as store, closing(store.writer()) as writer:
        with pytest.raises(ZeroDivisionError):
            fails(writer, lambda _: 1 / 0)
        with pytest.raises(StoreError, match="cannot be used"):
            fails(writer, lambda one: one.execute(text("SELECT * FROM nothing")))
        with pytest.raises(StoreError, match="cannot be used"):
            fails(writer, lambda one: fetch(one, "SELECT nothing", []))
        with writer.writing() as connection:
            write_many(connection, INSERT, [("a",)])
        with store.reading() as connection:
            assert connection.execute(text("SELECT name FROM facts")).scalars().all() == ["a"]


def test_two_writers_wait_for_each_other(store_url: str) -> None:
    with new_store(store_url) as store, closing(store.writer()) as one, closing(store.writer()) as other:
        for writer, name in ((one, "a"), (other, "b"), (one, "c")):
            with writer.writing() as connection:
                write_many(connection, INSERT, [(name,)])
        with store.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM facts")).scalar() == 3


def test_a_writer_goes_on_where_its_connection_was_cut_between_two_transactions(postgres: PostgresServer) -> None:
    with new_store(postgres.new_database()) as store, closing(store.writer()) as writer:
        with writer.writing() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with store.writing() as connection:
            assert connection.execute(text("SELECT pg_terminate_backend(:pid, 9000)"), {"pid": pid}).scalar()
        with writer.writing() as connection:
            write_many(connection, INSERT, [("a",)])
        with pytest.raises(StoreConflictError):
            fails(writer, lambda one: write_many(one, INSERT, [("a",)]))
        with store.reading() as connection:
            assert connection.execute(text("SELECT name FROM facts")).scalars().all() == ["a"]
