"""Stores to run the contract against: one row per engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from conclave.store.engine import open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterReader, ClusterWriter, open_reader


@dataclass
class Store:
    """A migrated store with a connection for writing."""

    engine: Engine
    connection: Connection
    open_reader: Callable[[], ClusterReader]

    def write(self) -> ClusterWriter:
        """Return a writer on the connection; the test commits with `with store.transaction()`."""
        return ClusterWriter(self.connection)


def sqlite_store(directory: Path) -> Store:
    path = directory / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    return Store(engine, engine.connect(), lambda: open_reader(path))


ENGINES = {"sqlite": sqlite_store}
"""PostgreSQL joins with a row of its own."""


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Yield an empty, migrated store of each engine."""
    opened = ENGINES[request.param](tmp_path)
    yield opened
    opened.connection.close()
    opened.engine.dispose()


@pytest.fixture
def reader(store: Store) -> Iterator[ClusterReader]:
    """Yield a reader beside the writer."""
    opened = store.open_reader()
    yield opened
    opened.close()
