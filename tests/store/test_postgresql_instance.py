"""The PostgreSQL of a member: roles, the list of standbys, promotions, crashes, copies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conclave import faults
from conclave.errors import Conflict, InternalFault, Unavailable
from conclave.ids import MemberId
from conclave.store.postgresql import replacing
from conclave.store.postgresql.account import Directories
from conclave.store.postgresql.binaries import Binaries
from conclave.store.postgresql.control import Control
from conclave.store.postgresql.instance import Instance
from conclave.store.postgresql.server import processes_in
from conclave.store.postgresql.status import (
    Lsn,
    format_lsn,
    member_name,
    member_of,
    parse_lsn,
    shutdown_position,
)
from tests.support.postgresql import (
    Member,
    copy_data,
    follow,
    follow_from,
    hang,
    new_members,
    streams,
    until,
)

GHOST = MemberId("00000000-0000-4000-8000-000000000001")


def execute(member: Member, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement as the owner, in the way of a writer: its commit waits for the standbys."""
    with psycopg.connect(
        host=str(member.places.run), user="conclave", dbname="conclave", autocommit=True
    ) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def ask(member: Member, statement: str) -> list[tuple[Any, ...]]:
    return await asyncio.to_thread(execute, member, statement)


def process_named(name: str, member: Member) -> int:
    """Return the one process of a member's PostgreSQL that calls itself so."""
    (found,) = [
        pid
        for pid in processes_in(member.places.data)
        if name in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    ]
    return found


async def waits_for_standbys(primary: Member) -> bool:
    rows = await ask(primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    return rows != [(0,)]


def scenario(
    directory: Path,
    pristine: Directories,
    count: int,
    work: Callable[[list[Member]], Coroutine[Any, Any, None]],
) -> None:
    async def run() -> None:
        async with new_members(directory, count, pristine) as members:
            await work(members)

    asyncio.run(run())


def test_a_copy_bears_that_its_primary_is_out_of_reach_for_a_moment(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, standby = members
        await standby.proxy.lead_to(primary.places)
        copy = partial(standby.instance.base_backup, standby.upstream, standby.member_id)
        standby.proxy.turned_away = 1000
        with pytest.raises(Unavailable, match="closed the connection"):
            await copy(lambda _part: None)
        standby.proxy.turned_away = 1
        await copy(lambda _part: None)
        await standby.instance.start("standby")
        await streams(standby, primary)

    scenario(tmp_path, pristine, 2, work)


def test_a_standby_shows_a_commit_as_soon_as_it_is_acknowledged(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, standby = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        parts: list[float] = []
        await standby.proxy.lead_to(primary.places)
        await standby.instance.base_backup(standby.upstream, standby.member_id, parts.append)
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        await standby.instance.start("standby")
        await streams(standby, primary)
        await primary.instance.set_synchronous([standby.member_id])
        for number in range(20):
            await ask(primary, "INSERT INTO t SELECT count(*) FROM t")
            assert await ask(standby, "SELECT max(n) FROM t") == [(number,)]
        behind, ahead = await standby.instance.positions(), await primary.instance.positions()
        assert (behind.in_recovery, ahead.in_recovery) == (True, False)
        assert behind.replayed <= ahead.written
        assert behind.timeline == ahead.timeline == 1
        (row,) = await primary.instance.replication()
        assert row.member_id == standby.member_id
        assert row.replayed <= row.sent
        # The slot keeps the log for the member, and goes with it.
        report = await primary.instance.slots([standby.member_id, GHOST])
        assert report.lost == ()
        await primary.instance.set_synchronous([])
        await standby.instance.stop()
        await primary.instance.slots([GHOST])
        rows = await ask(primary, "SELECT slot_name FROM pg_replication_slots")
        assert rows == [(member_name(GHOST),)]

    scenario(tmp_path, pristine, 2, work)


def test_a_hung_standby_is_dropped_and_the_commit_that_waits_returns(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, good, bad = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        await follow_from(pristine, good, primary)
        await follow_from(pristine, bad, primary)
        await primary.instance.set_synchronous([good.member_id, bad.member_id])
        await ask(primary, "INSERT INTO t VALUES (1)")
        hang(bad)
        commit = asyncio.create_task(ask(primary, "INSERT INTO t VALUES (2)"))
        await until(lambda: waits_for_standbys(primary), "a commit that waits")
        await asyncio.sleep(0.1)
        assert not commit.done()
        await primary.instance.set_synchronous([good.member_id])
        await asyncio.wait_for(commit, 5)
        assert await ask(primary, "SELECT max(n) FROM t") == [(2,)]
        assert await ask(good, "SELECT max(n) FROM t") == [(2,)]
        hang(bad, signal.SIGCONT)
        await streams(bad, primary)
        await primary.instance.set_synchronous([bad.member_id, good.member_id])
        await ask(primary, "INSERT INTO t VALUES (3)")
        assert await ask(bad, "SELECT max(n) FROM t") == [(3,)]

    scenario(tmp_path, pristine, 3, work)


def test_an_order_to_a_hung_server_ends_at_its_deadline(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        (primary,) = members
        await primary.instance.positions()
        hang(primary)
        with pytest.raises(Unavailable) as error:
            await asyncio.wait_for(primary.instance.positions(), 10)
        assert error.value.fault is faults.POSTGRESQL_UNAVAILABLE
        hang(primary, signal.SIGCONT)
        await primary.instance.positions()
        hang(primary)
        await asyncio.wait_for(primary.instance.kill(), 10)
        assert processes_in(primary.places.data) == []
        assert primary.exits == []

    scenario(tmp_path, pristine, 1, work)


def test_a_promotion_clears_the_copied_list_and_the_diverged_primary_is_rewound(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        old, new = members
        await ask(old, "CREATE TABLE t (n int PRIMARY KEY)")
        await ask(old, "ALTER SYSTEM SET synchronous_standby_names = '1 (m_ghost)'")
        await follow(new, old)
        await new.proxy.lead_to(None)
        await new.instance.promote()
        await asyncio.wait_for(ask(new, "INSERT INTO t VALUES (1)"), 5)
        assert (await new.instance.positions()).timeline == 2
        # Meanwhile the old primary goes on by itself: rows that nobody else has.
        await ask(old, "INSERT INTO t VALUES (100)")
        await old.instance.kill()
        assert await old.instance.shutdown_position() is None
        await old.proxy.lead_to(new.places)
        await new.instance.slots([old.member_id])
        await old.instance.rewind(old.upstream)
        with pytest.raises(Conflict, match="rewound in part"):
            await old.instance.start("standby")
        await old.instance.start("standby", rewound=True)
        await streams(old, new)
        replacing.unmark(old.places.data)
        await old.instance.stop()
        await old.instance.start("standby")
        await streams(old, new)
        await new.instance.set_synchronous([old.member_id])
        await ask(new, "INSERT INTO t VALUES (2)")
        assert await ask(old, "SELECT n FROM t ORDER BY n") == [(1,), (2,)]

    scenario(tmp_path, pristine, 2, work)


def killed_in_rewinding(member: Member) -> Instance:
    """Return the PostgreSQL of a member whose pg_rewind is killed once it may change something."""
    real = member.instance._binaries
    # Not below the test's own directory, which is closed to PostgreSQL's account.
    directory = member.places.data.with_name("programs")
    directory.mkdir()
    directory.chmod(0o755)
    for program in real.directory.iterdir():
        (directory / program.name).symlink_to(program)
    killed = directory / "pg_rewind"
    killed.unlink()
    killed.write_text(
        f'#!/bin/sh\ncase "$*" in *--dry-run*) exec {real.program("pg_rewind")} "$@" ;; esac\n'
        "kill -9 $$\n"
    )
    killed.chmod(0o755)
    return another(member, replace(real, directory=directory))


def another(member: Member, programs: Binaries) -> Instance:
    """Return the PostgreSQL of a member after a restart of its process."""
    return Instance(
        programs, member.places.data, member.places.run, member.owner, member_id=member.member_id
    )


def test_data_that_were_rewound_in_part_are_started_in_no_role_but_replaced(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        old, new = members
        await ask(old, "CREATE TABLE t (n int PRIMARY KEY)")
        await follow(new, old)
        await new.proxy.lead_to(None)
        await new.instance.promote()
        await ask(old, "INSERT INTO t VALUES (100)")
        await old.instance.stop()
        await old.proxy.lead_to(new.places)
        with pytest.raises(Conflict):
            await killed_in_rewinding(old).rewind(old.upstream)
        restarted = another(old, old.instance._binaries)
        for role in ("standby", "primary"):
            with pytest.raises(Conflict) as error:
                await restarted.start(role)
            assert error.value.fault is faults.STORE_DIVERGED
        await new.instance.slots([old.member_id])
        await old.instance.base_backup(old.upstream, old.member_id, lambda _part: None)
        await old.instance.start("standby")
        await streams(old, new)
        assert await ask(old, "SELECT n FROM t") == []

    scenario(tmp_path, pristine, 2, work)


def test_data_that_a_copy_replaces_are_kept_whole_where_they_are_told_to_be(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, other = members
        copy_data(pristine, other)
        await other.instance.start("primary")
        await ask(other, "CREATE TABLE only_here (n int)")
        await other.instance.kill()
        await other.proxy.lead_to(primary.places)
        kept = other.places.data.with_name("export") / "kept"
        await other.instance.base_backup(
            other.upstream, other.member_id, lambda _part: None, kept=kept
        )
        await other.instance.start("standby")
        await streams(other, primary)
        await other.instance.kill()
        shutil.rmtree(other.places.data)
        kept.rename(other.places.data)
        await other.instance.start("primary")
        assert await ask(other, "SELECT count(*) FROM only_here") == [(0,)]

    scenario(tmp_path, pristine, 2, work)


def test_a_planned_hand_over_loses_nothing_and_needs_no_copy(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        old, new = members
        await ask(old, "CREATE TABLE t (n int PRIMARY KEY)")
        await follow_from(pristine, new, old)
        await old.instance.set_synchronous([new.member_id])
        await ask(old, "INSERT INTO t VALUES (1)")
        await old.instance.checkpoint()
        await old.instance.stop()
        position = await old.instance.shutdown_position()
        assert position is not None
        expected: Lsn = position

        async def has_all() -> bool:
            return (await new.instance.positions()).replayed >= expected

        await until(has_all, "the whole log")
        await new.instance.promote()
        await new.instance.slots([old.member_id])
        await old.proxy.lead_to(new.places)
        await old.instance.start("standby")
        await streams(old, new)
        await new.instance.set_synchronous([old.member_id])
        await ask(new, "INSERT INTO t VALUES (2)")
        assert await ask(old, "SELECT n FROM t ORDER BY n") == [(1,), (2,)]

    scenario(tmp_path, pristine, 2, work)


def test_a_killed_postmaster_is_reported_and_started_again_with_its_rows(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        (primary,) = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        await ask(primary, "INSERT INTO t VALUES (1)")
        assert primary.instance.pid
        os.kill(primary.instance.pid, signal.SIGKILL)

        async def is_told() -> bool:
            return primary.exits == [-signal.SIGKILL]

        await until(is_told, "the end of postgres")
        assert not primary.instance.running
        with pytest.raises(Unavailable):
            await primary.instance.positions()
        await primary.instance.start("primary")
        assert await ask(primary, "SELECT n FROM t") == [(1,)]
        # One that was asked to end is nobody's news.
        await primary.instance.stop()
        assert len(primary.exits) == 1

    scenario(tmp_path, pristine, 1, work)


def test_c17_a_server_of_which_a_process_was_killed_ends_instead_of_recovering_by_itself(
    tmp_path: Path, pristine: Directories
) -> None:
    """A copy would be read, as if nothing had been, while it goes through its log once more."""

    async def work(members: list[Member]) -> None:
        primary, standby = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        await follow_from(pristine, standby, primary)
        postmaster = standby.instance.pid
        os.kill(process_named("background writer", standby), signal.SIGKILL)

        async def is_told() -> bool:
            return len(standby.exits) == 1

        await until(is_told, "the end of postgres")
        assert not standby.instance.running
        assert postmaster not in processes_in(standby.places.data)
        await standby.instance.start("standby")
        await streams(standby, primary)

    scenario(tmp_path, pristine, 2, work)


def test_a_server_that_an_earlier_parent_left_behind_is_ended_first(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        (primary,) = members
        left = primary.instance._server
        other = primary.instance.__class__(
            primary.instance._binaries,
            primary.places.data,
            primary.places.run,
            primary.owner,
            member_id=primary.member_id,
        )
        pid = left.pid
        await other.start("primary")
        assert pid not in processes_in(primary.places.data)
        assert other.pid in processes_in(primary.places.data)
        assert await ask(primary, "SELECT 1") == [(1,)]
        await other.stop()

    scenario(tmp_path, pristine, 1, work)


def test_an_interrupted_copy_leaves_the_data_and_is_made_again(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, standby = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        await standby.proxy.lead_to(None)
        with pytest.raises(Unavailable):
            await standby.instance.base_backup(
                standby.upstream, standby.member_id, lambda _part: None
            )
        assert not standby.instance.initialized
        (standby.places.data.with_name("data.new") / "rest").parent.mkdir(exist_ok=True)
        await follow(standby, primary)
        assert await ask(standby, "SELECT count(*) FROM t") == [(0,)]
        with pytest.raises(InternalFault, match="stopped"):
            await standby.instance.rewind(standby.upstream)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await ask(standby, "INSERT INTO t VALUES (1)")

    scenario(tmp_path, pristine, 2, work)


def test_a_copy_that_was_killed_is_not_recovered_as_if_it_were_a_primary(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        primary, standby = members
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        await follow_from(pristine, standby, primary)
        await primary.instance.set_synchronous([standby.member_id])
        await standby.instance.kill()
        # Twice: a second attempt must not take it for a primary either.
        for _ in range(2):
            with pytest.raises(Conflict) as error:
                await standby.instance.rewind(standby.upstream)
            assert error.value.fault is faults.STORE_DIVERGED
        await standby.instance.start("standby")
        await streams(standby, primary)
        await ask(primary, "INSERT INTO t VALUES (1)")
        assert await ask(standby, "SELECT n FROM t") == [(1,)]

    scenario(tmp_path, pristine, 2, work)


def test_foreign_data_cannot_be_rewound_and_say_so(tmp_path: Path, pristine: Directories) -> None:
    async def work(members: list[Member]) -> None:
        primary, other = members
        await other.instance.initialize()
        await other.instance.start("primary")
        await other.instance.stop()
        await other.proxy.lead_to(primary.places)
        with pytest.raises(Conflict) as error:
            await other.instance.rewind(other.upstream)
        assert error.value.fault is faults.STORE_DIVERGED

    scenario(tmp_path, pristine, 2, work)


def test_nothing_listens_on_tcp_and_the_reader_cannot_write(
    tmp_path: Path, pristine: Directories
) -> None:
    async def work(members: list[Member]) -> None:
        (primary,) = members
        assert await ask(primary, "SHOW listen_addresses") == [("",)]
        await ask(primary, "CREATE TABLE t (n int PRIMARY KEY)")
        assert primary.places.run.stat().st_mode & 0o777 == 0o700

        def read() -> None:
            with psycopg.connect(
                host=str(primary.places.run), user="conclave_reader", dbname="conclave"
            ) as connection:
                assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("INSERT INTO t VALUES (1)")

        await asyncio.to_thread(read)

    scenario(tmp_path, pristine, 1, work)


def test_names_and_positions_are_read_and_written() -> None:
    assert member_name(GHOST) == "m_00000000000040008000000000000001"
    assert member_of(member_name(GHOST)) == GHOST
    assert member_of("m_nobody1") is None
    assert member_of("psql") is None
    assert format_lsn(parse_lsn("16/B374D848")) == "16/B374D848"
    assert parse_lsn("1/0") == 1 << 32
    with pytest.raises(ValueError, match="position"):
        parse_lsn("0")
    text = "Database cluster state:   {}\nLatest checkpoint location:   0/10\n"
    assert shutdown_position(text.format("shut down")) == 16
    assert shutdown_position(text.format("in production")) is None


def test_a_question_ends_with_its_connection(tmp_path: Path, pristine: Directories) -> None:
    """Whoever ends a hung server closes the connection, on which others may wait just then."""

    async def work(members: list[Member]) -> None:
        control = Control(members[0].places.run)
        question = asyncio.create_task(control.ask("SELECT pg_sleep(60)", seconds=60))

        async def asked() -> bool:
            active = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            return await ask(members[0], active) == [(1,)]

        await until(asked, "the question")
        await control.close()
        with pytest.raises(Unavailable):
            await question
        assert await control.ask("SELECT 1") == [(1,)]
        await control.close()

    scenario(tmp_path, pristine, 1, work)
