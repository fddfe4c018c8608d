"""Statements of the hot paths: built by the library, run on the driver's own cursor.

What the library does around each execution takes ten times as long as the statement itself takes
SQLite, and a change of one object needs four of them.  Only for columns whose values the drivers of
both engines take and give as they are: numbers, text, bytes and, to be stored, truth values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import CompilerElement

T = TypeVar("T")


class Prepared:
    """A statement with named parameters, compiled once for each engine."""

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Final = cast(CompilerElement, statement)
        self._columns: Final = columns
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, object]) -> Sequence[Any]:
        """Return the rows that the statement gives; raises as the connection's `execute`."""
        # All of them, since SQLite ends a statement with its last row.
        return self._perform(connection, values, lambda cursor: cursor.fetchall())

    def change(self, connection: Connection, values: Mapping[str, object]) -> int:
        """Return how many rows the statement changed; raises as `run` does."""
        return self._perform(connection, values, lambda cursor: cursor.rowcount)

    def _perform(
        self,
        connection: Connection,
        values: Mapping[str, object],
        result: Callable[[DBAPICursor], T],
    ) -> T:
        dialect = connection.dialect
        text, order = self._compiled.get(dialect.name) or self._compile(dialect)
        parameters: Any = values if order is None else [values[name] for name in order]
        driver = connection.connection
        try:
            cursor = driver.cursor()
            cursor.execute(text, parameters)
            # A row may fail that is not the first one.
            return result(cursor)
        except dialect.loaded_dbapi.Error as error:
            raise _wrapped(error, connection, text) from error

    def _compile(self, dialect: Dialect) -> tuple[str, list[str] | None]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
        order = cast(SQLCompiler, compiled).positiontup
        self._compiled[dialect.name] = (str(compiled), order)
        return self._compiled[dialect.name]


def _wrapped(error: Exception, connection: Connection, statement: str) -> BaseException:
    dialect, driver = connection.dialect, connection.dialect.loaded_dbapi
    lost = dialect.is_disconnect(cast(Any, error), connection.connection, None)
    if lost:
        # As `execute` does, or the library would roll back what is gone, and complain of it.
        connection.invalidate(error)
    return DBAPIError.instance(
        statement,
        None,
        error,
        driver.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=dialect,
    )
