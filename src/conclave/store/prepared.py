"""Statements of the hot paths: built by the library, run on the driver's own cursor.

What the library does around each execution takes ten times as long as the statement itself takes
SQLite, and a change of one object needs four of them.  Only for columns whose values the drivers of
both engines take and give as they are: numbers, text, bytes and, to be stored, truth values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import CompilerElement


class Prepared:
    """A statement with named parameters, compiled once for each engine."""

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Final = cast(CompilerElement, statement)
        self._columns: Final = columns
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, object]) -> Sequence[Any]:
        """Return the rows that the statement gives; raises as the connection's `execute`."""
        # All of them, since SQLite ends a statement with its last row.
        return self._execute(connection, values).fetchall()

    def change(self, connection: Connection, values: Mapping[str, object]) -> int:
        """Return how many rows the statement changed; raises as `run` does."""
        return self._execute(connection, values).rowcount

    def _execute(self, connection: Connection, values: Mapping[str, object]) -> DBAPICursor:
        dialect = connection.dialect
        text, order = self._compiled.get(dialect.name) or self._compile(dialect)
        parameters: Any = values if order is None else [values[name] for name in order]
        driver = dialect.loaded_dbapi
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, parameters)
        except driver.Error as error:
            raise DBAPIError.instance(
                text, None, error, driver.Error, hide_parameters=True, dialect=dialect
            ) from error
        return cursor

    def _compile(self, dialect: Dialect) -> tuple[str, list[str] | None]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
        order = cast(SQLCompiler, compiled).positiontup
        self._compiled[dialect.name] = (str(compiled), order)
        return self._compiled[dialect.name]
