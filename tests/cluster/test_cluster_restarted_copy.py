"""A member whose PostgreSQL is started anew shows nobody less than it had acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.configuration import OWNER, READER
from conclave.store.postgresql.control import Control
from tests.cluster.test_cluster_members import has_all, make, with_none
from tests.support.cluster_bench import ClusterBench
from tests.support.held_postgresql import other_programs
from tests.support.several import Several, until

pytestmark = [pytest.mark.system, pytest.mark.spread]

# Once the file is there, a copy that is started answers and replays no commit.
_SERVER = """\
#!/bin/sh
case "$*" in
*--version*|*--single*) exec {server} "$@" ;;
esac
[ -e {slow} ] && exec {server} "$@" -c recovery_min_apply_delay=1h
exec {server} "$@"
"""


@contextmanager
def slow_programs() -> Iterator[tuple[Path, Path]]:
    """Yield a directory of programs, and the file that makes the copies slow that they start."""

    def script(directory: Path, server: Path) -> str:
        return _SERVER.format(server=server, slow=directory / "slow")

    with other_programs(script) as directory:
        yield directory, directory / "slow"


def run_dir(bench: ClusterBench) -> Path:
    return accounts.directories(bench.directory, accounts.find()).run


def labels(bench: ClusterBench, role: str) -> list[str]:
    """Return the labels of the keyrings that a member's own PostgreSQL shows to a role."""
    with psycopg.connect(host=str(run_dir(bench)), user=role, dbname="conclave") as connection:
        return [label for (label,) in connection.execute("SELECT label FROM keyrings").fetchall()]


async def checkpoint(bench: ClusterBench) -> None:
    control = Control(run_dir(bench))
    await control.ask("CHECKPOINT", seconds=60)
    await control.close()


def kill_postgresql(bench: ClusterBench) -> None:
    data = accounts.directories(bench.directory, accounts.find()).data
    os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


async def shows_the_past(bench: ClusterBench) -> bool:
    """Tell whether a member's PostgreSQL answers its owner and has lost what it acknowledged."""
    try:
        return "acknowledged" not in await asyncio.to_thread(labels, bench, OWNER)
    except psycopg.OperationalError:
        return False


async def watch_readers(bench: ClusterBench) -> None:
    """Read as a worker does, again and again; fail when less is seen than was acknowledged."""
    while True:
        try:
            assert "acknowledged" in await asyncio.to_thread(labels, bench, READER)
        except psycopg.OperationalError:
            await asyncio.sleep(0.01)


async def waits_or_reads(bench: ClusterBench, reading: asyncio.Task[None]) -> bool:
    """Tell whether a member has tried to open its copy, and given that up; or a reader fails."""
    log = await asyncio.to_thread((bench.directory / "cluster.log").read_text)
    return reading.done() or "has not replayed its own log" in log


@with_none
async def test_c17_a_restarted_copy_is_not_read_before_it_has_what_it_acknowledged(
    house: Several,
) -> None:
    with slow_programs() as (directory, slow):
        house.postgresql_directory = str(directory)
        first = await house.first()
        second = await house.join(first)
        await house.all_read_write()
        for bench in house.members:
            await checkpoint(bench)
        await make(first, "acknowledged")
        slow.touch()
        kill_postgresql(second)
        await until(lambda: shows_the_past(second))
        assert not second.page.lease_valid()
        reading = asyncio.create_task(watch_readers(second))
        await make(first, "meanwhile")
        await until(lambda: waits_or_reads(second, reading))
        slow.unlink()
        # It may be mended already, which starts it anew as well.
        with suppress(FileNotFoundError, ProcessLookupError):
            kill_postgresql(second)
        await house.all_read_write()
        reading.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled()
        await has_all(second, ["acknowledged", "meanwhile"])
