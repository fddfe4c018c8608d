"""Stores to run the contract against: one row per engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from conclave.store.engine import (
    open_postgresql_reader,
    open_postgresql_writer,
    open_writer_engine,
)
from conclave.store.migrations import migrate
from conclave.store.postgresql import account
from conclave.store.postgresql.account import Directories
from conclave.store.repository import ClusterReader, ClusterWriter, open_reader
from tests.support.postgresql import House, Member, copy_data, distribution, new_member


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


def postgresql_store(house: House) -> Store:
    run_dir, database = house.member.places.run, house.new_database()
    engine = open_postgresql_writer(run_dir, database=database)
    migrate(engine)

    def open_postgresql() -> ClusterReader:
        return ClusterReader(open_postgresql_reader(run_dir, database=database).connect())

    return Store(engine, engine.connect(), open_postgresql)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directories]:
    """Yield the data of a PostgreSQL that was stopped: to be copied."""
    state_dir = tmp_path_factory.mktemp("pristine")

    async def make() -> Member:
        member = await new_member(state_dir)
        await member.instance.initialize()
        await member.instance.start("primary")
        await member.instance.stop()
        await member.proxy.close()
        return member

    member = asyncio.run(make())
    yield member.places
    account.remove(state_dir, member.owner)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, pristine: Directories) -> Iterator[House]:
    """Run one PostgreSQL for the whole session; a test takes a database of its own."""
    running = House(tmp_path_factory.mktemp("house"))
    copy_data(pristine, running.member)
    running.run(running.member.instance.start("primary"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def distribution_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Run the PostgreSQL of the distribution for the whole session."""
    running = House(tmp_path_factory.mktemp("distribution"), distribution())
    running.run(running.member.instance.initialize())
    running.run(running.member.instance.start("primary"))
    yield running
    running.close()


@pytest.fixture(params=["sqlite", "house", "distribution_house"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Yield an empty, migrated store of each engine."""
    if request.param == "sqlite":
        opened = sqlite_store(tmp_path)
    else:
        opened = postgresql_store(request.getfixturevalue(request.param))
    yield opened
    opened.connection.close()
    opened.engine.dispose()


@pytest.fixture
def reader(store: Store) -> Iterator[ClusterReader]:
    """Yield a reader beside the writer."""
    opened = store.open_reader()
    yield opened
    opened.close()
