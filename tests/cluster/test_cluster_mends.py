"""Copies that are mended, and those that are not: PostgreSQL and the tunnel are real."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from conclave import faults
from conclave.cluster.link.streams import StreamPair
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.pulse import Pulse
from conclave.cluster.replication import Replication
from conclave.errors import ConclaveError, Unavailable
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql import replacing
from tests.cluster.test_cluster_leases import postgresqls, replication_of
from tests.support.postgresql import Member, hang
from tests.support.several import until

pytestmark = [pytest.mark.system, pytest.mark.spread]


@dataclass
class Copy:
    """A copy whose primary may be lost."""

    replication: Replication
    member: Member
    primary: Member
    connections: int = 0
    lost: bool = False
    lost_by_a_start: bool = False
    """The primary is lost once this copy's PostgreSQL runs and asks for a stream."""

    async def connect(self) -> StreamPair:
        self.connections += 1
        if self.lost_by_a_start and self.replication.running:
            self.lost = True
        if self.lost:
            raise Unavailable(faults.MEMBERS_UNREACHABLE, "The primary is lost.")
        return await asyncio.open_unix_connection(self.primary.places.run / accounts.SOCKET_NAME)

    def may_mend(self) -> bool:
        return self.replication.may_mend

    async def readable(self) -> bool:
        return bool(await self.replication._store.read(lambda reader: reader.revision() >= 0))


def progress(_step: str, _fraction: float) -> None:
    return


def with_copy(
    scenario: Callable[[Copy], Awaitable[None]],
) -> Callable[[Path], None]:
    """Run a test with a copy that follows."""

    @asynccontextmanager
    async def following(directory: Path) -> AsyncIterator[Copy]:
        async with postgresqls(directory) as (primary, member):
            replication = replication_of(directory, member, primary)
            copy = Copy(replication, member, primary)
            owner = member.owner
            replication.tunnel = Tunnel(member.upstream, copy.connect, uid=owner.uid, gid=owner.gid)
            await replication.follow()
            try:
                yield copy
            finally:
                await replication.close()

    async def run(directory: Path) -> None:
        async with following(directory) as copy:
            await scenario(copy)

    def test(tmp_path: Path) -> None:
        asyncio.run(run(tmp_path))

    test.__name__ = scenario.__name__
    return test


@with_copy
async def test_a_change_of_role_that_ends_with_the_copy_open_is_counted(copy: Copy) -> None:
    before = copy.replication.openings
    await copy.member.instance.kill()
    await copy.replication.follow(wait=False)
    assert copy.replication.openings == before + 1
    await copy.member.instance.kill()
    (copy.member.places.data / "global/pg_control").unlink()
    with pytest.raises(ConclaveError):
        await copy.replication.follow(wait=False)
    assert copy.replication.openings == before + 1


@with_copy
async def test_a_copy_that_was_rewound_in_part_is_left_to_be_mended(copy: Copy) -> None:
    """A deletion that has succeeded does not fail by it."""
    await copy.member.instance.kill()
    replacing.mark(copy.member.places.data)
    await copy.replication.follow()
    mark = accounts.rewinding_mark(copy.member.places.data)
    assert mark.exists()
    assert not copy.replication.running
    await copy.replication.mend(progress)
    assert not mark.exists()
    assert await copy.readable()


@with_copy
async def test_a_copy_that_was_rewound_is_usable_though_its_primary_dies_at_once(
    copy: Copy,
) -> None:
    await copy.member.instance.promote()
    copy.lost_by_a_start = True
    with pytest.raises(ConclaveError):
        await copy.replication.mend(progress)
    assert copy.lost
    assert not accounts.rewinding_mark(copy.member.places.data).exists()
    await copy.replication.follow(wait=False)
    assert await copy.readable()
    found = await copy.replication.positions()
    assert found is not None
    assert found.timeline == 1


@with_copy
async def test_a_mend_that_failed_is_not_tried_again_at_once(copy: Copy) -> None:
    copy.lost = True
    await copy.member.instance.kill()
    replacing.mark(copy.member.places.data)
    assert copy.may_mend()
    with pytest.raises(ConclaveError):
        await copy.replication.mend(progress)
    assert not copy.may_mend()
    tried = copy.connections
    await copy.replication.mend(progress)
    assert copy.connections == tried

    async def again() -> bool:
        return copy.may_mend()

    await until(again)
    copy.lost = False
    await copy.replication.mend(progress)
    assert copy.may_mend()
    assert await copy.readable()


@with_copy
async def test_who_follows_another_primary_mends_a_broken_copy_at_once(copy: Copy) -> None:
    copy.lost = True
    await copy.member.instance.kill()
    replacing.mark(copy.member.places.data)
    with pytest.raises(ConclaveError):
        await copy.replication.mend(progress)
    await copy.replication.follow()
    assert copy.may_mend()


@with_copy
async def test_c27_a_copy_that_hangs_while_its_role_is_changed_is_killed(copy: Copy) -> None:
    """It is asked again and again, and never left alone."""
    member, killed = copy.member, asyncio.Event()
    pulse = Pulse(copy.replication, member.places.run, killed.set)

    async def change() -> None:
        while not killed.is_set():
            with suppress(ConclaveError):
                await copy.replication.follow(wait=False)
            await asyncio.sleep(0)  # one that is refused at once lets nobody else on

    hang(member, signal.SIGSTOP)
    changing = asyncio.create_task(change())
    watching = asyncio.create_task(pulse.watch_for_ever())
    await asyncio.wait_for(killed.wait(), 60)
    changing.cancel()
    watching.cancel()
    await asyncio.wait({changing, watching})
    await pulse.close()
