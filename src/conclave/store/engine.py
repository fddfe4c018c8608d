"""Open a cluster store.

Invariant: what COMMIT has answered survives the death of the process and of the machine: write-
ahead log with synchronous=FULL, one writer that takes its lock at BEGIN.  Deleted bytes are
overwritten (secure_delete), since rows hold sealed keys.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool, StaticPool

BUSY_TIMEOUT_MS: Final = 5000
_WRITER_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA temp_store=MEMORY",
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
    connection.exec_driver_sql("BEGIN IMMEDIATE")
