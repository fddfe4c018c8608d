"""A connection for orders to PostgreSQL that never waits longer than it is told.

Its commits are local: an order must not wait for the very standbys that it is about.

Invariant: a connection is closed only when no question is under way on it.  The driver goes on with
a question whose connection is closed: it uses what was freed, or the event loop looks at a file
that is gone, either of which ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString

from conclave import faults
from conclave.errors import InternalFault, Unavailable
from conclave.store.postgresql.configuration import OWNER

# Imported by whoever asks: the driver takes 9 MB, which a store on SQLite has no use for.
if TYPE_CHECKING:
    import psycopg

ANSWER_SECONDS: Final = 3.0
_OPTIONS: Final = "-c synchronous_commit=local"

Rows = list[tuple[Any, ...]]


class Control:
    """One connection to the server behind a socket directory, opened when it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: psycopg.AsyncConnection | None = None
        self._question: asyncio.Task[Rows] | None = None
        self._lock = asyncio.Lock()

    async def ask(
        self,
        statement: LiteralString,
        parameters: Sequence[object] = (),
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> Rows:
        """Return the rows of a statement, [] when it has none.

        Raises Unavailable when the server is not there or does not answer within `seconds`,
        InternalFault when it refuses the statement.
        """
        import psycopg

        try:
            async with asyncio.timeout(seconds), self._lock:
                return await self._ask(statement, parameters)
        except TimeoutError as cause:
            message = f"PostgreSQL did not answer within {seconds:g} s."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause
        except psycopg.OperationalError as cause:
            message = f"PostgreSQL cannot be reached: {_one_line(cause)}."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause
        except psycopg.Error as cause:
            message = f"PostgreSQL refused an order: {_one_line(cause)}."
            raise InternalFault(faults.POSTGRESQL_FAILED, message) from cause

    async def close(self) -> None:
        """Close the connection, on which a question ends; the next one opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.shield(_close(connection, self._question))

    async def _ask(self, statement: LiteralString, parameters: Sequence[object]) -> Rows:
        import psycopg

        if self._connection is None:
            self._connection = await self._connect()
        # `close` may come in between, from whoever ends the server.
        connection = self._connection
        question = asyncio.create_task(_execute(connection, statement, parameters))
        self._question = question
        try:
            return await asyncio.shield(question)
        except (asyncio.CancelledError, psycopg.OperationalError):
            # Cut, not cancelled: the driver would ask a server to cancel that may hang.
            if self._connection is connection:
                await self.close()
            raise

    async def _connect(self) -> psycopg.AsyncConnection:
        import psycopg

        return await psycopg.AsyncConnection.connect(
            host=str(self._directory),
            user=OWNER,
            dbname="postgres",
            application_name="conclave_control",
            options=_OPTIONS,
            autocommit=True,
            prepare_threshold=None,
        )


async def _execute(
    connection: psycopg.AsyncConnection, statement: LiteralString, parameters: Sequence[object]
) -> Rows:
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall() if cursor.description else []


async def _close(connection: psycopg.AsyncConnection, question: asyncio.Task[Rows] | None) -> None:
    import psycopg

    if question is not None and not question.done():
        _cut(connection)
        await asyncio.wait([question], timeout=ANSWER_SECONDS)  # at once: its line has ended
        if not question.done():
            return
    with contextlib.suppress(psycopg.Error):
        await connection.close()


def _cut(connection: psycopg.AsyncConnection) -> None:
    import psycopg

    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()).rstrip(".")
