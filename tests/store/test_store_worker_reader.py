"""A worker's reader over a change of engine and a restart of PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Engine

from conclave.service.page import SharedPage
from conclave.service.store_reader import StoreReader
from conclave.store.engine import open_postgresql_writer, open_writer_engine
from conclave.store.location import SQLITE_FILE, StoreLocation
from conclave.store.migrations import migrate
from conclave.store.postgresql.account import Directories
from conclave.store.repository import ClusterWriter
from tests.store.test_store_contract import new_keyring
from tests.support.postgresql import Member, copy_data, new_member


def fill(engine: Engine, label: str) -> None:
    migrate(engine)
    with engine.begin() as connection:
        ClusterWriter(connection).insert_keyrings([new_keyring(label=label)])
    engine.dispose()


async def labels(reader: StoreReader) -> list[str]:
    return [row.label for row in (await reader.tokens()).rows]


async def change_engine_and_restart(
    directory: Path, member: Member, reader: StoreReader, page: SharedPage
) -> None:
    assert await labels(reader) == ["in sqlite"]
    StoreLocation(directory).choose_postgresql(member.places.run)
    page.bump_global()
    assert await labels(reader) == ["in postgresql"]
    await member.instance.stop("immediate")
    waiting = asyncio.create_task(labels(reader))
    await member.instance.start("primary")
    assert await waiting == ["in postgresql"]
    await member.instance.stop("fast")
    await member.instance.start("primary")
    assert await labels(reader) == ["in postgresql"]


def test_a_reader_follows_the_engine_and_outlives_postgresql(
    tmp_path: Path, pristine: Directories
) -> None:
    async def scenario() -> None:
        member = await new_member(tmp_path / "member")
        page = SharedPage.create()
        reader = StoreReader(tmp_path / SQLITE_FILE, page, patience_seconds=20.0)
        try:
            copy_data(pristine, member)
            await member.instance.start("primary")
            fill(open_postgresql_writer(member.places.run), "in postgresql")
            fill(open_writer_engine(tmp_path / SQLITE_FILE), "in sqlite")
            async with asyncio.timeout(60):
                await change_engine_and_restart(tmp_path, member, reader, page)
        finally:
            reader.close()
            page.close()
            await member.end()

    asyncio.run(scenario())
