"""The writer thread: commit, bump, answer; nothing half done when the disk is full."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from conclave import faults
from conclave.cluster.store_threads import ReaderThread, WriterThread
from conclave.errors import BadInput, InternalFault, Unavailable
from conclave.store.engine import open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import (
    MAX_SEEN,
    ClusterReader,
    ClusterWriter,
    Touched,
    open_reader,
)
from conclave.store.rows import UserRow
from tests.store.test_store_contract import new_keyring, new_object
from tests.support.cluster_bench import gathered


@dataclass
class Threads:
    engine: Engine
    writer: WriterThread
    reader: ReaderThread
    published: list[Touched] = field(default_factory=list)


@asynccontextmanager
async def threads(
    directory: Path, *, max_queued: int = 100, on_publish: Callable[[], None] | None = None
) -> AsyncIterator[Threads]:
    path = directory / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    published: list[Touched] = []

    def publish(touched: Touched) -> None:
        if on_publish is not None:
            on_publish()
        published.append(touched)

    writer = WriterThread(engine, publish, max_queued=max_queued)
    reader = ReaderThread(lambda: open_reader(path))
    try:
        yield Threads(engine, writer, reader, published)
    finally:
        await asyncio.to_thread(writer.close)
        reader.close()
        engine.dispose()


def labels(reader: ClusterReader) -> set[str]:
    return {row.label for row in reader.keyrings()}


def test_c15_a_change_is_committed_then_published_then_answered(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def look() -> None:
        reader = open_reader(tmp_path / "cluster.db")
        seen.append(labels(reader))
        reader.close()

    async def scenario() -> None:
        async with threads(tmp_path, on_publish=look) as store:
            row = new_keyring()
            await store.writer.write(lambda writer: writer.insert_keyrings([row]))
            assert seen == [{"ring"}]
            assert [item.keyrings for item in store.published] == [{row.keyring_id}]

    asyncio.run(scenario())


def test_jobs_that_wait_are_committed_together_and_fail_apart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path) as store:
            gate = threading.Event()

            def insert(number: int) -> Callable[[ClusterWriter], None]:
                def work(writer: ClusterWriter) -> None:
                    writer.insert_keyrings([new_keyring(f"ring{number}", number)])
                    if number % 3 == 0:
                        raise BadInput(faults.BAD_REQUEST, "No multiples of three.")

                return work

            first = asyncio.create_task(store.writer.write(lambda _writer: gate.wait(10)))
            jobs = [asyncio.create_task(store.writer.write(insert(n))) for n in range(9)]
            await asyncio.sleep(0)
            gate.set()
            answers = await gathered(first, *jobs)
            failed = [number for number, a in enumerate(answers[1:]) if isinstance(a, BadInput)]
            assert failed == [0, 3, 6]
            found = await store.reader.read(labels)
            assert found == {f"ring{number}" for number in (1, 2, 4, 5, 7, 8)}
            assert len(store.published) <= 2

    asyncio.run(scenario())


def test_what_one_job_has_read_is_read_again_after_any_change_but_of_objects(
    tmp_path: Path,
) -> None:
    asked: list[set[str]] = []

    def look(writer: ClusterWriter) -> set[str]:
        def ask() -> set[str]:
            asked.append(labels(writer))
            return asked[-1]

        return writer.once((b"labels",), ask)

    def look_and_insert(writer: ClusterWriter) -> None:
        look(writer)
        writer.insert_keyrings([new_keyring("ring", 1)])

    def refuse(writer: ClusterWriter) -> None:
        writer.insert_keyrings([new_keyring("refused", 2)])
        look(writer)
        raise BadInput(faults.BAD_REQUEST, "Not this one.")

    async def scenario() -> None:
        async with threads(tmp_path) as store:
            gate, write = threading.Event(), store.writer.write
            first = asyncio.create_task(write(lambda _writer: gate.wait(10)))
            jobs = [
                write(look, objects_only=True),
                write(look, objects_only=True),
                write(look_and_insert),
                write(look, objects_only=True),
                write(refuse),
                write(look, objects_only=True),
                write(look),
            ]
            tasks = [asyncio.create_task(job) for job in jobs]
            await asyncio.sleep(0)
            gate.set()
            answers = await gathered(first, *tasks)
            assert [a for a in answers if isinstance(a, set)] == [set(), set(), *[{"ring"}] * 3]
            assert len(asked) == 6  # by all but the second

    asyncio.run(scenario())


def test_a_lone_job_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    def refuse(writer: ClusterWriter) -> None:
        writer.insert_keyrings([new_keyring("refused", 2)])
        raise BadInput(faults.BAD_REQUEST, "Not this one.")

    def break_a_rule(writer: ClusterWriter) -> None:
        writer.insert_keyrings([new_keyring("first", 3), new_keyring("second", 3)])

    async def scenario() -> None:
        async with threads(tmp_path) as store:
            for job, error in ((refuse, BadInput), (break_a_rule, InternalFault)):
                with pytest.raises(error):
                    await store.writer.write(job)
                assert await store.reader.read(labels) == set()
            await store.writer.write(lambda w: w.insert_keyrings([new_keyring("kept", 4)]))
            assert await store.reader.read(labels) == {"kept"}

    asyncio.run(scenario())


def test_a_refusal_that_cannot_be_taken_back_is_no_unknown_outcome(tmp_path: Path) -> None:
    def lose_and_refuse(writer: ClusterWriter) -> None:
        writer.insert_keyrings([new_keyring("refused", 2)])
        driver = writer.connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.close()  # so that ROLLBACK fails
        raise BadInput(faults.BAD_REQUEST, "Not this one.")

    async def scenario() -> None:
        async with threads(tmp_path) as store:
            with pytest.raises(InternalFault, match="nothing was changed") as caught:
                await store.writer.write(lose_and_refuse)
            assert caught.value.fault is faults.STORAGE_FAILED
            assert store.published == []
            await store.writer.write(lambda w: w.insert_keyrings([new_keyring("kept", 4)]))
            assert await store.reader.read(labels) == {"kept"}

    asyncio.run(scenario())


def test_what_was_read_is_known_to_later_batches_until_the_connection_is_lost(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def look(name: str) -> Callable[[ClusterWriter], set[str]]:
        def ask(writer: ClusterWriter) -> set[str]:
            asked.append(name)
            return labels(writer)

        return lambda writer: writer.once((b"labels",), lambda: ask(writer))

    def lose(_writer: ClusterWriter) -> None:
        raise OperationalError("SELECT", None, sqlite3.OperationalError("disk I/O error"))

    async def scenario() -> None:
        async with threads(tmp_path) as store:
            write = store.writer.write
            assert await write(look("first"), objects_only=True) == set()
            assert await write(look("known"), objects_only=True) == set()
            await write(lambda w: w.insert_keyrings([new_keyring("ring", 1)]))
            assert await write(look("after a change"), objects_only=True) == {"ring"}
            with pytest.raises(InternalFault):
                await write(lose, objects_only=True)
            assert await write(look("on a new connection"), objects_only=True) == {"ring"}
            assert asked == ["first", "after a change", "on a new connection"]

    asyncio.run(scenario())


def test_what_is_remembered_of_the_store_is_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path) as store:
            asked: list[int] = []

            def look(writer: ClusterWriter) -> None:
                for number in (*range(MAX_SEEN + 1), 0, MAX_SEEN):
                    writer.once((number.to_bytes(2),), partial(asked.append, number))

            await store.writer.write(look, objects_only=True)
            assert asked == [*range(MAX_SEEN + 1), 0]

    asyncio.run(scenario())


def test_a_full_queue_is_busy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path, max_queued=2) as store:
            gate, started = threading.Event(), threading.Event()

            def hold(_writer: ClusterWriter) -> None:
                started.set()
                gate.wait(10)

            tasks = [asyncio.create_task(store.writer.write(hold))]
            await asyncio.to_thread(started.wait, 10)
            tasks += [asyncio.create_task(store.writer.write(hold)) for _ in range(3)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            gate.set()
            (refused,) = done
            error = refused.exception()
            assert isinstance(error, Unavailable)
            assert error.fault is faults.BUSY
            await gathered(*tasks)

    asyncio.run(scenario())


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path) as store:
            row = new_keyring()
            await store.writer.write(lambda writer: writer.insert_keyrings([row]))

            def limit(pages: int) -> Callable[[ClusterWriter], object]:
                statement = f"PRAGMA max_page_count={pages}"
                return lambda writer: writer._connection.exec_driver_sql(statement).scalar()

            def fill(writer: ClusterWriter) -> None:
                for _ in range(50):
                    big = new_object(row)
                    writer.insert_object(big)
                    user = UserRow("u", "r", "", "", os.urandom(20_000), True, 1)
                    writer.put_users([user], version=writer.users_version())

            await store.writer.write(limit(30))
            small = asyncio.create_task(
                store.writer.write(lambda writer: writer.insert_keyrings([new_keyring("b", 1)]))
            )
            with pytest.raises(Unavailable) as error:
                await store.writer.write(fill)
            assert error.value.fault is faults.STORAGE_FULL
            await gathered(small)
            assert await store.reader.read(lambda r: r.object_count(row.keyring_id)) == 0
            # The connection was opened again, so the limit is gone: there is room.
            await store.writer.write(fill)
            assert await store.reader.read(lambda r: r.object_count(row.keyring_id)) == 50

    asyncio.run(scenario())


def test_a_commit_that_fails_is_an_unknown_outcome(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path) as store:

            def insert(label: str, slot: int) -> Callable[[ClusterWriter], None]:
                return lambda writer: writer.insert_keyrings([new_keyring(label, slot)])

            def break_commit(_connection: object) -> None:
                cause = sqlite3.OperationalError("disk I/O error")
                cause.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise OperationalError("COMMIT", {}, cause)

            event.listen(store.engine, "commit", break_commit)
            with pytest.raises(Unavailable) as error:
                await store.writer.write(insert("a", 0))
            assert error.value.fault is faults.OUTCOME_UNKNOWN
            event.remove(store.engine, "commit", break_commit)
            assert await store.reader.read(labels) == set()
            # It may have been committed after all, and nobody may repeat it: caches are void.
            assert store.published == [Touched(everything=True)]
            await store.writer.write(insert("b", 1))

    asyncio.run(scenario())


def test_a_store_that_cannot_be_opened_again_is_once_it_is_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with threads(tmp_path) as store:
            path, away = tmp_path / "cluster.db", tmp_path / "away.db"
            await store.writer.write(lambda writer: writer.insert_keyrings([new_keyring()]))
            path.rename(away)
            for _ in range(2):
                with pytest.raises(InternalFault) as error:
                    await store.writer.write(
                        lambda writer: writer._connection.exec_driver_sql("no statement")
                    )
                assert error.value.fault is faults.STORAGE_FAILED
            away.rename(path)
            await store.writer.write(
                lambda writer: writer.insert_keyrings([new_keyring("back", 1)])
            )
            assert await store.reader.read(labels) == {"ring", "back"}

    asyncio.run(scenario())


def test_a_broken_constraint_is_our_own_fault_and_takes_one_job_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the constraint and the statement, and none of the values."""
    row = new_keyring()

    async def scenario() -> None:
        async with threads(tmp_path) as store:
            good = store.writer.write(lambda writer: writer.insert_keyrings([row]))
            bad = store.writer.write(lambda writer: writer.insert_keyrings([row]))
            answers = await gathered(good, bad)
            assert answers[0] is None
            assert isinstance(answers[1], InternalFault)
            assert await store.reader.read(labels) == {"ring"}

    asyncio.run(scenario())
    assert "UNIQUE constraint failed" in caplog.text
    assert row.serial not in caplog.text
