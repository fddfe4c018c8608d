"""A copy that was started anew shows its readers nothing older than what it had acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psycopg
import pytest

from conclave.errors import Unavailable
from conclave.store.postgresql import admission, configuration
from conclave.store.postgresql.account import Directories
from tests.support.postgresql import Member, follow_from, new_members, until

SLOW = "recovery_min_apply_delay = '1h'\n"
"""Lets a copy answer, since its data are consistent, and replay no commit."""


def rows(member: Member, role: str) -> list[int]:
    """Return what is in the table, as a role sees it on a new connection."""
    with psycopg.connect(
        host=str(member.places.run), user=role, dbname="conclave", autocommit=True
    ) as connection:
        return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n").fetchall()]


def execute(member: Member, statement: bytes) -> None:
    with psycopg.connect(
        host=str(member.places.run), user="conclave", dbname="conclave", autocommit=True
    ) as connection:
        connection.execute(statement)


async def acknowledged_then_killed(pristine: Directories, primary: Member, copy: Member) -> None:
    """Let a copy acknowledge a row that its data files do not have, and kill it."""
    await asyncio.to_thread(execute, primary, b"CREATE TABLE t (n int PRIMARY KEY)")
    await follow_from(pristine, copy, primary)
    await primary.instance.set_synchronous([copy.member_id])
    for member in (primary, copy):
        await member.instance.checkpoint()
    await asyncio.to_thread(execute, primary, b"INSERT INTO t VALUES (1)")
    await copy.instance.kill()
    await copy.proxy.lead_to(None)  # all that follows needs no primary


async def replays_at_once(copy: Member) -> None:
    """Let a running copy replay what it has been slow with."""
    settings = copy.places.run / configuration.MAIN_FILE
    settings.write_text(settings.read_text().replace(SLOW, ""))
    pid = copy.instance.pid
    assert pid is not None
    os.kill(pid, signal.SIGHUP)


def scenario(directory: Path, pristine: Directories, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(primary: Member, copy: Member) -> None:
        await acknowledged_then_killed(pristine, primary, copy)
        with monkeypatch.context() as slowly:
            slowly.setattr(configuration, "_FIXED", configuration._FIXED + SLOW)
            slowly.setattr(admission, "ADMIT_SECONDS", 0.3)
            await copy.instance.start("standby")
            assert rows(copy, "conclave") == []  # it answers, and has lost what it acknowledged
            assert not (await copy.instance.positions()).own_log_replayed
            with pytest.raises(Unavailable, match="has not replayed its own log"):
                await copy.instance.admit_readers()
            with pytest.raises(psycopg.OperationalError, match="rejects connection"):
                rows(copy, "conclave_reader")
        await replays_at_once(copy)
        await copy.instance.admit_readers()
        assert rows(copy, "conclave_reader") == [1]

    async def run() -> None:
        async with new_members(directory, 2, pristine) as (primary, copy):
            await work(primary, copy)

    asyncio.run(run())


def test_c17_a_copy_is_closed_to_readers_until_it_has_replayed_what_it_had(
    tmp_path: Path, pristine: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario(tmp_path, pristine, monkeypatch)


def test_a_primary_and_a_promoted_copy_take_readers(tmp_path: Path, pristine: Directories) -> None:
    async def run() -> None:
        async with new_members(tmp_path, 2, pristine) as (primary, copy):
            await acknowledged_then_killed(pristine, primary, copy)
            assert rows(primary, "conclave_reader") == [1]
            await copy.instance.start("standby")
            await copy.instance.promote()
            await copy.instance.admit_readers()
            assert (await copy.instance.positions()).own_log_replayed
            assert rows(copy, "conclave_reader") == [1]

    asyncio.run(run())


def test_the_end_of_a_server_is_told_before_its_last_words_are_waited_for(
    tmp_path: Path, pristine: Directories
) -> None:
    async def run() -> None:
        async with new_members(tmp_path, 1, pristine) as (primary,):
            pid = primary.instance.pid
            assert pid is not None

            async def ended() -> bool:
                return not primary.instance.running

            os.kill(pid, signal.SIGKILL)
            await until(ended, "the end of PostgreSQL")
            await asyncio.sleep(0)
            assert primary.exits == [-signal.SIGKILL]

    asyncio.run(run())
