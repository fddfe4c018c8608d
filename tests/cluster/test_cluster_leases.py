"""When a lease that had ended begins again: real link, real PostgreSQL, a primary as told (C16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conclave.cluster.configuration import Configuration, MemberState, Peer, Standing
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.epochs import Epoch
from conclave.cluster.follower import Follower
from conclave.cluster.link.messages import Heartbeat, HeartbeatAnswer
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.member_state import MemberStateFile
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.replication import Replication
from conclave.cluster.replication_base import Places
from conclave.cluster.store_handle import StoreHandle
from conclave.ids import ClusterTimeMs, MemberId
from conclave.service.page import SharedPage
from conclave.settings import ClusterTimes
from conclave.store.engine import open_postgresql_writer
from conclave.store.location import StoreLocation
from conclave.store.migrations import migrate
from tests.support.link_bench import (
    CLUSTER,
    FIRST,
    SECOND,
    Credentials,
    certify,
    new_authority,
    serving,
)
from tests.support.postgresql import Member, follow, new_member
from tests.support.several import until

pytestmark = [pytest.mark.system, pytest.mark.spread]

EPOCH = Epoch(1, FIRST)
FAR = 1 << 40
"""More log than there is."""


@dataclass
class Teller:
    """The primary's end of the link: it grants, and names what the test says."""

    timeline: int = 1
    written_lsn: int = 0
    heard: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def heartbeat(self, _params: Heartbeat, _peer: Any) -> HeartbeatAnswer:
        self.heard += 1
        await self.let_go.wait()
        return HeartbeatAnswer(
            granted=True,
            epoch_number=EPOCH.number,
            epoch_promoter=EPOCH.promoter,
            cluster_time_ms=ClusterTimeMs(0),
            users_version=0,
            timeline=self.timeline,
            written_lsn=self.written_lsn,
        )

    async def beats(self, number: int) -> None:
        """Wait until so many more heartbeats came: all but the last of them are done with."""
        goal = self.heard + number

        async def came() -> bool:
            return self.heard >= goal

        await until(came)


@dataclass
class Following:
    """A follower of which all parts are real but the primary's answers."""

    follower: Follower
    teller: Teller
    page: SharedPage
    copy: Member

    async def read_write(self) -> bool:
        return self.page.lease_valid()


def replication_of(directory: Path, copy: Member, primary: Member) -> Replication:
    location = StoreLocation(directory)
    location.choose_postgresql(copy.places.run)
    socket = str(primary.places.run / copy.places.upstream_socket.name)
    tunnel = Tunnel(
        copy.upstream,
        lambda: asyncio.open_unix_connection(socket),
        uid=copy.owner.uid,
        gid=copy.owner.gid,
    )
    return Replication(
        Places(location, location.sqlite_path, copy.places),
        lambda: copy.instance,
        tunnel,
        StoreHandle(lambda _touched: None),
        member_id=copy.member_id,
        account=copy.owner,
        on_open=lambda _revision: None,
        may_lead=lambda: False,
    )


def state_of(here: Credentials, there: Credentials, port: int) -> MemberState:
    peers = (
        Peer(FIRST, "127.0.0.1", port, there.key_sha256),
        Peer(SECOND, "127.0.0.1", 0, here.key_sha256),
    )
    configuration = Configuration(EPOCH, FIRST, peers)
    return MemberState(CLUSTER, SECOND, Standing.MEMBER, configuration, EPOCH)


async def described(sent_ms: int) -> Heartbeat:
    return Heartbeat(
        sent_boot_ms=sent_ms,
        epoch_number=EPOCH.number,
        epoch_promoter=EPOCH.promoter,
        read_write=False,
    )


async def nobody(_member_id: MemberId) -> None:
    pytest.fail("there is no newer epoch")


def follower_of(
    directory: Path, state: MemberState, neighbours: Neighbours, here: Replication, page: SharedPage
) -> Follower:
    async def position() -> Any:
        return await here._store.read(lambda reader: reader.revision())

    return Follower(
        Coordinator(MemberStateFile(directory / "member.json"), state),
        neighbours,
        here,
        page,
        ClusterTimes(),
        describe=described,
        position=position,
        on_newer=nobody,
        on_users=lambda _version: None,
    )


@asynccontextmanager
async def postgresqls(directory: Path) -> AsyncIterator[tuple[Member, Member]]:
    """Yield a primary with an empty store, and a copy that follows it."""
    members = [await new_member(directory / name) for name in ("primary", "copy")]
    primary, copy = members
    try:
        await primary.instance.initialize()
        await primary.instance.start("primary")
        engine = open_postgresql_writer(primary.places.run)
        await asyncio.to_thread(migrate, engine)
        engine.dispose()
        await follow(copy, primary)
        yield primary, copy
    finally:
        for member in members:
            await member.end()


@asynccontextmanager
async def following(directory: Path) -> AsyncIterator[Following]:
    authority, teller, page = new_authority(), Teller(), SharedPage.create()
    there, own = certify(authority, FIRST), certify(authority, SECOND)
    page.set_lease_end(0)
    async with (
        postgresqls(directory) as (primary, copy),
        serving(there, {"heartbeat": teller.heartbeat}) as (_, port),
    ):
        replication = replication_of(directory, copy, primary)
        state = state_of(own, there, port)
        neighbours = Neighbours(
            own.identity(), lambda: state, ClusterTimes(), lambda *_: None, lambda *_: None
        )
        neighbours.refresh()
        await replication.follow()
        follower = follower_of(directory, state, neighbours, replication, page)
        beating = asyncio.create_task(follower.beat_for_ever())
        try:
            yield Following(follower, teller, page, copy)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
            await neighbours.close()
            await replication.close()
            page.close()


def test_c16_a_lease_begins_when_the_copy_has_what_the_primary_names(tmp_path: Path) -> None:
    async def run() -> None:
        async with following(tmp_path) as here:
            teller = here.teller
            teller.let_go.set()
            for timeline, written in ((1, 0), (1, FAR), (2, 1), (0, 1)):
                teller.timeline, teller.written_lsn = timeline, written
                await teller.beats(3)
                assert not here.page.lease_valid(), (timeline, written)
            teller.timeline = 1
            teller.written_lsn = (await here.copy.instance.positions()).replayed
            await until(here.read_write)
            # The lease that is valid goes on, whatever has been written meanwhile.
            teller.written_lsn = FAR
            end_ms = here.page.lease_end_ms()

            async def goes_on() -> bool:
                return here.page.lease_end_ms() > end_ms + ClusterTimes().lease_ms

            await until(goes_on)

    asyncio.run(run())


def test_c16_what_was_asked_before_the_copy_was_lost_begins_no_lease(tmp_path: Path) -> None:
    async def run() -> None:
        async with following(tmp_path) as here:
            teller = here.teller
            teller.written_lsn = (await here.copy.instance.positions()).replayed
            await teller.beats(1)
            here.follower.lose_primary()
            held, teller.let_go = teller.let_go, asyncio.Event()
            held.set()
            await teller.beats(1)
            assert not here.page.lease_valid()
            teller.let_go.set()
            await until(here.read_write)

    asyncio.run(run())
