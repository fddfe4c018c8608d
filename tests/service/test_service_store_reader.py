"""Rule C15: a worker takes the generation before it reads, and tags what it read with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from conclave import faults
from conclave.errors import Unavailable
from conclave.ids import KeyringId, ObjectId, RowRevision
from conclave.service.page import SharedPage
from conclave.service.store_reader import LoadedKeyring, LoadedToken, StoreReader
from conclave.store.engine import open_reader_engine, open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import ClientRow, KeyringRow, ObjectRow
from tests.store.test_store_contract import new_client, new_keyring, new_object

T = TypeVar("T")
ROW = new_keyring()
CLIENT = new_client()
OBJECT = new_object(ROW)


class OvertakenReader(ClusterReader):
    """A store that is changed, and whose change is bumped, just after each of our reads."""

    page: SharedPage

    def keyring(self, keyring_id: KeyringId) -> KeyringRow | None:
        row = super().keyring(keyring_id)
        self.page.bump_keyring(keyring_id)
        self.page.bump_global()
        return row

    def keyrings(self, first_slot: int = 0, limit: int = 0) -> list[KeyringRow]:
        rows = super().keyrings(first_slot, limit)
        self.page.set_log_position(RowRevision(self.page.log_position() + 1))
        self.page.bump_global()
        return rows

    def client_by_key(self, key_sha256: bytes) -> ClientRow | None:
        row = super().client_by_key(key_sha256)
        self.page.bump_clients()
        return row

    def objects(self, keyring_id: KeyringId, ids: Sequence[ObjectId]) -> list[ObjectRow]:
        rows = super().objects(keyring_id, ids)
        self.page.bump_keyring(keyring_id)
        return rows


class BarredReader(ClusterReader):
    """A store whose objects may be counted and not read."""

    def object_revisions(self, keyring_id: KeyringId) -> list[tuple[ObjectId, RowRevision]]:
        raise AssertionError(keyring_id)

    def objects(self, keyring_id: KeyringId, ids: Sequence[ObjectId]) -> list[ObjectRow]:
        raise AssertionError(keyring_id)


class HeldReader(ClusterReader):
    """A store whose reads wait until they are let go."""

    entered: threading.Event
    let_go: threading.Event

    def keyring(self, keyring_id: KeyringId) -> KeyringRow | None:
        row = super().keyring(keyring_id)
        self.entered.set()
        assert self.let_go.wait(10)
        return row


@contextmanager
def store_reader(
    directory: Path,
    opener: Callable[[Path, SharedPage], ClusterReader],
    patience_seconds: float = 20.0,
) -> Iterator[tuple[StoreReader, SharedPage]]:
    path = directory / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    with engine.begin() as connection:
        writer = ClusterWriter(connection)
        writer.insert_keyrings([ROW])
        writer.insert_object(OBJECT)
        writer.insert_client(CLIENT)
    engine.dispose()
    page = SharedPage.create()
    reader = StoreReader(
        path, page, opener=lambda path: opener(path, page), patience_seconds=patience_seconds
    )
    try:
        yield reader, page
    finally:
        reader.close()
        page.close()


def overtaken(path: Path, page: SharedPage) -> ClusterReader:
    reader = OvertakenReader(open_reader_engine(path).connect())
    reader.page = page
    return reader


def run(scenario: Awaitable[T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await scenario

    return asyncio.run(bounded())


def kept(loaded: LoadedKeyring) -> LoadedKeyring:
    return loaded


def test_c15_a_keyring_overtaken_by_a_change_is_void_at_once(tmp_path: Path) -> None:
    with store_reader(tmp_path, overtaken) as (reader, page):
        keyring, world = page.keyring_generation(ROW.keyring_id), page.global_generation()
        loaded = run(reader.keyring(ROW.keyring_id, {}, kept))
        assert loaded.row is not None
        assert [item.object_id for item in loaded.changed] == [OBJECT.object_id]
        assert (loaded.generation, loaded.global_generation) == (keyring, world)
        assert loaded.generation != page.keyring_generation(ROW.keyring_id)
        assert loaded.global_generation != page.global_generation()


def test_c15_a_list_of_keyrings_overtaken_by_a_change_is_void_at_once(tmp_path: Path) -> None:
    with store_reader(tmp_path, overtaken) as (reader, page):
        loaded = run(reader.tokens())
        assert [row.label for row in loaded.rows] == [ROW.label]
        assert loaded.log_position == page.log_position() - 1
        assert loaded.global_generation == page.global_generation() - 1


def test_describing_a_keyring_reads_none_of_its_objects(tmp_path: Path) -> None:
    def barred(path: Path, _page: SharedPage) -> ClusterReader:
        return BarredReader(open_reader_engine(path).connect())

    with store_reader(tmp_path, barred) as (reader, _page):
        assert run(reader.token(ROW.keyring_id)) == LoadedToken(ROW, 1)
        assert run(reader.token(KeyringId(bytes(16)))) == LoadedToken(None, 0)


def test_c15_a_client_overtaken_by_a_revocation_is_read_again(tmp_path: Path) -> None:
    with store_reader(tmp_path, overtaken) as (reader, page):
        loaded = run(reader.client(CLIENT.key_sha256))
        assert loaded.row == CLIENT
        assert loaded.client_generation == page.client_generation() - 1


def test_c15_nobody_joins_a_read_that_began_before_his_question(tmp_path: Path) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def held(path: Path, _page: SharedPage) -> ClusterReader:
        reader = HeldReader(open_reader_engine(path).connect())
        reader.entered, reader.let_go = entered, let_go
        return reader

    async def scenario(reader: StoreReader, page: SharedPage) -> None:
        early = asyncio.create_task(reader.keyring(ROW.keyring_id, {}, kept))
        assert await asyncio.to_thread(entered.wait, 10)
        page.bump_keyring(ROW.keyring_id)
        late = asyncio.create_task(reader.keyring(ROW.keyring_id, {}, kept))
        await asyncio.sleep(0)
        let_go.set()
        assert (await early).generation == page.keyring_generation(ROW.keyring_id) - 1
        assert (await late).generation == page.keyring_generation(ROW.keyring_id)

    with store_reader(tmp_path, held) as (reader, page):
        run(scenario(reader, page))


class Counting:
    """Open the store, and count how often."""

    opened = 0

    def __call__(self, path: Path, _page: SharedPage) -> ClusterReader:
        self.opened += 1
        return ClusterReader(open_reader_engine(path).connect())


def test_a_new_global_generation_opens_the_store_anew(tmp_path: Path) -> None:
    counting = Counting()
    with store_reader(tmp_path, counting) as (reader, page):
        run(reader.tokens())
        run(reader.tokens())
        assert counting.opened == 1
        page.bump_global()
        run(reader.tokens())
        assert counting.opened == 2


def test_a_read_waits_for_a_store_that_is_away_and_others_go_on(tmp_path: Path) -> None:
    async def scenario(reader: StoreReader, page: SharedPage, counting: Counting) -> None:
        hidden = (tmp_path / "cluster.db").rename(tmp_path / "away.db")
        page.bump_global()
        waiting = asyncio.create_task(reader.tokens())
        other = asyncio.create_task(reader.members())
        async with asyncio.timeout(60):
            while counting.opened < 4:  # noqa: ASYNC110 - the other thread's attempts
                await asyncio.sleep(0.01)
        assert not waiting.done()
        hidden.rename(tmp_path / "cluster.db")
        tokens, members = await waiting, await other
        assert [row.label for row in tokens.rows] == [ROW.label]
        assert (members.rows, members.visible) == ([], ())

    counting = Counting()
    with store_reader(tmp_path, counting) as (reader, page):
        run(scenario(reader, page, counting))


def test_a_store_that_stays_away_is_told_and_may_come_back(tmp_path: Path) -> None:
    with store_reader(tmp_path, Counting(), patience_seconds=0.1) as (reader, page):
        hidden = (tmp_path / "cluster.db").rename(tmp_path / "away.db")
        with pytest.raises(Unavailable) as away:
            run(reader.client(CLIENT.key_sha256))
        assert away.value.fault is faults.BUSY
        hidden.rename(tmp_path / "cluster.db")
        assert run(reader.client_of_id(CLIENT.client_id)).row == CLIENT
        assert page.global_generation() == 0
