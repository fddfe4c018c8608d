"""Statements on the driver's own cursor fail as those do that the library runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from conclave.store.engine import open_reader_engine, open_writer_engine
from conclave.store.prepared import Prepared

MANY = Prepared(
    text(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)"
        " SELECT n FROM numbers"
    )
)
OPCODES_OF_SOME_ROWS = 500


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    open_writer_engine(tmp_path / "cluster.db").dispose()
    engine = open_reader_engine(tmp_path / "cluster.db")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def driver(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


def test_what_fails_between_two_rows_is_wrapped(connection: Connection) -> None:
    assert len(MANY.run(connection, {})) == 1000
    steps = count()

    def interrupt() -> bool:
        return next(steps) > OPCODES_OF_SOME_ROWS

    driver(connection).set_progress_handler(interrupt, 1)
    with pytest.raises(OperationalError, match="interrupted") as caught:
        MANY.run(connection, {})
    assert isinstance(caught.value.orig, sqlite3.OperationalError)
    assert next(steps) > OPCODES_OF_SOME_ROWS
    assert not connection.invalidated


def test_a_connection_that_is_closed_is_told_as_an_execute_tells_it(connection: Connection) -> None:
    driver(connection).close()
    with pytest.raises(ProgrammingError, match="closed database") as caught:
        MANY.run(connection, {})
    assert isinstance(caught.value, DBAPIError)
    assert caught.value.connection_invalidated
    assert connection.invalidated
