"""The appliance store: one SQLite file, one thread, versioned migrations for each component.

A component keeps its own tables: it calls `await store.migrate("users", MIGRATIONS)` once when it
opens, then `await store.run(function)`; `function(connection)` runs in one transaction on the
store's thread and is committed, durably, before `run` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event, text

from conclave import faults
from conclave.errors import InternalFault, Unavailable

Result = TypeVar("Result")
Migration = str
"""One SQL statement that takes a component's tables from one version to the next."""

BUSY_TIMEOUT_MS: Final = 5000


class ApplianceStore:
    """A SQLite file that one thread owns."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="appliance-store")
        self._path = path
        self._engine: Engine | None = None

    @classmethod
    async def open(cls, path: Path) -> ApplianceStore:
        """Open or make the file, of mode 0600."""
        store = cls(path)
        await store._on_thread(store._open)
        return store

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._on_thread(self._dispose)
        self._thread.shutdown(wait=False)

    async def migrate(self, component: str, migrations: Sequence[Migration]) -> None:
        """Bring a component's tables to the version `len(migrations)`, in one transaction.

        Raises InternalFault when the file was written by a newer release.
        """
        await self.run(lambda connection: _migrate(connection, component, migrations))

    async def run(self, function: Callable[[Connection], Result]) -> Result:
        """Run `function` in one transaction on the store's thread; an exception rolls it back."""
        return await self._on_thread(lambda: self._transact(function))

    async def _on_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _open(self) -> None:
        self._path.touch(mode=0o600, exist_ok=True)
        self._engine = sqlalchemy.create_engine(
            f"sqlite:///{self._path}",
            poolclass=sqlalchemy.pool.StaticPool,
            connect_args={"isolation_level": None},
            hide_parameters=True,
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        with self._engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE TABLE IF NOT EXISTS schema_version"
                    " (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
                )
            )

    def _transact(self, function: Callable[[Connection], Result]) -> Result:
        if self._engine is None:
            raise InternalFault(faults.INTERNAL, "The appliance store is closed.")
        try:
            with self._engine.begin() as connection:
                return function(connection)
        except sqlalchemy.exc.OperationalError as cause:
            message = f"The appliance store takes nothing now: {cause.orig}. Nothing was changed."
            raise Unavailable(faults.STORAGE_FULL, message) from cause

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _configure(connection: sqlalchemy.PoolProxiedConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # The driver's own transaction handling is off; BEGIN IMMEDIATE never fails half way to a lock.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection, component: str, migrations: Sequence[Migration]) -> None:
    found = connection.execute(
        text("SELECT version FROM schema_version WHERE component = :component"),
        {"component": component},
    ).scalar()
    version = int(found or 0)
    if version > len(migrations):
        message = (
            f"The tables of {component} have version {version}; this release knows"
            f" {len(migrations)} at most. Start the release that wrote them."
        )
        raise InternalFault(faults.INTERNAL, message)
    for statement in migrations[version:]:
        connection.exec_driver_sql(statement)
    connection.execute(
        text(
            "INSERT INTO schema_version (component, version) VALUES (:component, :version)"
            " ON CONFLICT (component) DO UPDATE SET version = excluded.version"
        ),
        {"component": component, "version": len(migrations)},
    )
