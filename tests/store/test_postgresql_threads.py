"""The writer and reader threads on PostgreSQL: what its failures mean to whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from conclave import faults
from conclave.cluster.store_handle import StoreHandle
from conclave.cluster.store_threads import ReaderThread, WriterThread, storage_error
from conclave.errors import Conflict, InternalFault, NotAllowed, Unavailable
from conclave.store.engine import open_postgresql_reader, open_postgresql_writer
from conclave.store.migrations import migrate
from conclave.store.postgresql.account import SOCKET_NAME, Directories
from conclave.store.repository import ClusterReader, ClusterWriter, Touched
from conclave.store.rows import KeyringRow
from tests.store.test_postgresql_instance import GHOST, ask, waits_for_standbys
from tests.store.test_store_contract import new_keyring, new_object
from tests.support.postgresql import Member, follow_from, new_members, until


@dataclass
class Threads:
    member: Member
    writer: WriterThread
    reader: ReaderThread
    published: list[Touched]

    async def insert(self, row: KeyringRow) -> None:
        await self.writer.write(lambda writer: writer.insert_keyrings([row]))

    async def labels(self) -> set[str]:
        return await self.reader.read(lambda reader: {row.label for row in reader.keyrings()})


@asynccontextmanager
async def threads(member: Member) -> AsyncIterator[Threads]:
    run_dir = member.places.run
    engine = open_postgresql_writer(run_dir)
    if not (await member.instance.positions()).in_recovery:
        await asyncio.to_thread(migrate, engine)
    published: list[Touched] = []
    writer = WriterThread(engine, published.append)
    reader = ReaderThread(lambda: ClusterReader(open_postgresql_reader(run_dir).connect()))
    try:
        yield Threads(member, writer, reader, published)
    finally:
        await asyncio.to_thread(writer.close)
        reader.close()


@pytest.mark.parametrize(
    "order",
    [
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
    ],
)
def test_a_wait_for_standbys_that_is_broken_off_is_an_unknown_outcome(
    tmp_path: Path, pristine: Directories, order: str
) -> None:
    """PostgreSQL calls the cancelled one a success, with a warning."""

    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,), threads(member) as store:
            await member.instance.set_synchronous([GHOST])
            waiting = asyncio.create_task(store.insert(new_keyring("a", 0)))
            await until(lambda: waits_for_standbys(member), "a commit that waits")
            await ask(member, order)
            with pytest.raises(Unavailable) as error:
                await asyncio.wait_for(waiting, 10)
            assert error.value.fault is faults.OUTCOME_UNKNOWN
            assert store.published == [Touched(everything=True)]
            await member.instance.set_synchronous([])
            await store.insert(new_keyring("b", 1))
            # It is there nevertheless, which is why nobody may repeat it unasked.
            assert await store.labels() == {"a", "b"}
            assert len(store.published) == 2

    asyncio.run(work())


def test_both_threads_go_on_after_a_restart(tmp_path: Path, pristine: Directories) -> None:
    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,), threads(member) as store:
            await store.insert(new_keyring("a", 0))
            assert await store.labels() == {"a"}
            await member.instance.kill()
            for _ in range(2):
                with pytest.raises(Unavailable) as error:
                    await store.insert(new_keyring("lost", 7))
                assert error.value.fault is faults.POSTGRESQL_UNAVAILABLE
                with pytest.raises(Unavailable) as error:
                    await store.labels()
                assert error.value.fault is faults.POSTGRESQL_UNAVAILABLE
            await member.instance.start("primary")
            await store.insert(new_keyring("b", 1))
            assert await store.labels() == {"a", "b"}
            await member.instance.stop()
            await member.instance.start("primary")
            # The reader's connection is broken and it has not noticed.
            assert await store.labels() == {"a", "b"}

    asyncio.run(work())


def test_a_lost_connection_of_hot_statements_is_no_fault_of_its_own(
    tmp_path: Path, pristine: Directories, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,), threads(member) as store:
            row = new_keyring("a", 0)
            thing = new_object(row)
            expected = [(thing.object_id, thing.revision)]
            await store.insert(row)
            await store.writer.write(lambda writer: writer.insert_object(thing), objects_only=True)

            async def revisions() -> list[tuple[bytes, int]]:
                return list(await store.reader.read(lambda r: r.object_revisions(row.keyring_id)))

            assert await revisions() == expected
            await member.instance.stop()
            await member.instance.start("primary")
            assert await revisions() == expected
            with pytest.raises(Unavailable) as error:
                await store.writer.write(
                    lambda writer: writer.delete_object(
                        row.keyring_id, thing.object_id, thing.revision
                    ),
                    objects_only=True,
                )
            assert error.value.fault is faults.POSTGRESQL_UNAVAILABLE
            assert await revisions() == expected
            assert "Exception during reset" not in caplog.text

    asyncio.run(work())


def test_a_lone_job_that_refuses_leaves_nothing_behind(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,), threads(member) as store:
            row = new_keyring("a", 0)
            await store.insert(row)
            thing = new_object(row)

            def twice(writer: ClusterWriter) -> None:
                writer.insert_object(thing)
                writer.insert_object(thing)

            for _ in range(2):
                with pytest.raises(Conflict):
                    await store.writer.write(twice, objects_only=True)
            with pytest.raises(InternalFault):
                await store.insert(row)
            stored = await store.reader.read(lambda r: r.object_revisions(row.keyring_id))
            assert list(stored) == []
            await store.writer.write(lambda w: w.insert_object(thing), objects_only=True)
            stored = await store.reader.read(lambda r: r.object_revisions(row.keyring_id))
            assert list(stored) == [(thing.object_id, thing.revision)]

    asyncio.run(work())


def test_a_standby_takes_no_changes(tmp_path: Path, pristine: Directories) -> None:
    async def work() -> None:
        async with new_members(tmp_path, 2, pristine) as (primary, standby):
            async with threads(primary) as first:
                await first.insert(new_keyring("a", 0))
            await follow_from(pristine, standby, primary)
            await standby.instance.admit_readers()
            async with threads(standby) as store:
                with pytest.raises(NotAllowed) as error:
                    await store.insert(new_keyring("b", 1))
                assert error.value.fault is faults.MEMBER_READ_ONLY
                assert await store.labels() == {"a"}
                assert store.published == []

    asyncio.run(work())


def test_a_job_that_breaks_a_rule_takes_only_its_own_changes_back(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,), threads(member) as store:
            row = new_keyring("a", 0)
            thing = new_object(row)

            def twice(writer: ClusterWriter) -> None:
                writer.insert_object(thing)

            jobs = [
                store.insert(row),
                store.insert(row),
                store.writer.write(twice),
                store.writer.write(twice),
                store.insert(new_keyring("b", 1)),
            ]
            answers = await asyncio.gather(*jobs, return_exceptions=True)
            kinds = [type(answer) for answer in answers]
            nothing = type(None)
            assert kinds == [nothing, InternalFault, nothing, Conflict, nothing]
            assert await store.labels() == {"a", "b"}

    asyncio.run(work())


def test_a_full_disk_is_told_as_such() -> None:
    cause = psycopg.errors.DiskFull("no space left on device")
    for committing in (False, True):
        error = storage_error(OperationalError("INSERT", {}, cause), committing=committing)
        assert error.fault is faults.STORAGE_FULL


def test_a_connect_that_gets_no_answer_holds_up_the_threads_alone(tmp_path: Path) -> None:
    """Its socket is served by this very event loop, which no connect may occupy."""

    async def work() -> None:
        async def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            await writer.wait_closed()

        handle = StoreHandle(lambda _touched: None)
        async with await asyncio.start_unix_server(turn_away, tmp_path / SOCKET_NAME):
            handle.use(
                lambda: ClusterReader(open_postgresql_reader(tmp_path).connect()),
                open_postgresql_writer(tmp_path),
            )
            for asked in (
                handle.write(lambda writer: writer.revision()),
                handle.read(lambda reader: reader.revision()),
            ):
                with pytest.raises(Unavailable) as error:
                    await asyncio.wait_for(asked, 20)
                assert error.value.fault is faults.POSTGRESQL_UNAVAILABLE
            await asyncio.to_thread(handle.close)

    asyncio.run(work())
