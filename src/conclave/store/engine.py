"""Open a cluster store.

Invariant: what COMMIT has answered survives the death of the process and of the machine.  SQLite:
write-ahead log with synchronous=FULL, one writer that takes its lock at BEGIN; deleted bytes are
overwritten (secure_delete), since rows hold sealed keys.  PostgreSQL: COMMIT returns when every
synchronous standby has replayed it, or `replication_was_cancelled` tells that it did not.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from conclave.store.postgresql.configuration import DATABASE, OWNER, READER
from conclave.store.prepared import Prepared

# Imported when PostgreSQL is opened: see store/postgresql/control.py.
if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_MS: Final = 5000
_BEGIN_IMMEDIATE: Final = Prepared(text("BEGIN IMMEDIATE"))
_WRITER_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA temp_store=MEMORY",
)
CONNECT_SECONDS: Final = 5
_CANCELLED: Final = "unreplicated"
_READER_OPTIONS: Final = (
    "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=10s"
)
_READER_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA query_only=ON",
    "PRAGMA temp_store=MEMORY",
)


def open_writer_engine(path: Path) -> Engine:
    """Open or make the SQLite store at `path` for its only writer, mode 0600."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.close(descriptor)
    engine = create_engine(
        _url(path), poolclass=NullPool, connect_args=_CONNECT, hide_parameters=True
    )
    _prepare(engine, _WRITER_PRAGMAS)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def open_reader_engine(path: Path) -> Engine:
    """Open the SQLite store at `path` for reading only; each statement sees the newest commit."""
    engine = create_engine(
        _url(path, mode="ro"),
        poolclass=StaticPool,
        connect_args=_CONNECT,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    _prepare(engine, _READER_PRAGMAS)
    return engine


def open_postgresql_writer(run_dir: Path, *, database: str = DATABASE) -> Engine:
    """Open the PostgreSQL behind a socket directory for its only writer."""
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        connect_args=_postgresql(run_dir, database, OWNER, "conclave_writer"),
        hide_parameters=True,
    )
    event.listen(engine, "connect", _watch_notices)
    return engine


def open_postgresql_reader(run_dir: Path, *, database: str = DATABASE) -> Engine:
    """Open the PostgreSQL behind a socket directory for reading only, one connection.

    Each statement sees the newest commit that this member has replayed.
    """
    parameters = _postgresql(run_dir, database, READER, "conclave_reader")
    return create_engine(
        "postgresql+psycopg://",
        poolclass=StaticPool,
        connect_args=parameters | {"options": _READER_OPTIONS},
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


def postgresql_was_lost(error: DBAPIError) -> bool:
    """Tell whether a statement failed because the connection to PostgreSQL was lost."""
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(error.orig, driver.OperationalError)


def replication_was_cancelled(connection: Connection) -> bool:
    """Tell whether a COMMIT of this connection returned before its standbys had it.

    PostgreSQL calls that a success with a warning; it is an unknown outcome.  Always false on
    SQLite.  Once true, it stays so for the connection's life.
    """
    return bool(connection.info.get(_CANCELLED))


def _postgresql(run_dir: Path, database: str, user: str, name: str) -> dict[str, Any]:
    return {
        "host": str(run_dir),
        "dbname": database,
        "user": user,
        "application_name": name,
        "connect_timeout": CONNECT_SECONDS,
    }


def _watch_notices(connection: Any, record: Any) -> None:
    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized != "WARNING":
            return
        # The words are English: the server's lc_messages is C.
        if "synchronous replication" in (diagnostic.message_primary or ""):
            record.info[_CANCELLED] = True

    connection.add_notice_handler(note)


_CONNECT: Final = {"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}


def _url(path: Path, mode: str = "rw") -> URL:
    return URL.create(
        "sqlite", database=path.absolute().as_uri(), query={"mode": mode, "uri": "true"}
    )


def _prepare(engine: Engine, pragmas: tuple[str, ...]) -> None:
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling would begin too late and commit before DDL.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma)

    event.listen(engine, "connect", connect)


def _begin_immediate(connection: Connection) -> None:
    _BEGIN_IMMEDIATE.change(connection, {})
