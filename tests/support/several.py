"""Several members of one cluster: real cluster and login processes, real PostgreSQL, real links."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import msgspec

from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, new_salt
from conclave.errors import ConclaveError
from conclave.service.channel import ChannelClient
from conclave.service.messages import (
    Authorize,
    DerivedKey,
    HashPassword,
    JoinPrepare,
    JoinPrepared,
    MemberList,
    MemberSummary,
    UserRecord,
    UserRecords,
)
from conclave.service.page import SharedPage
from conclave.service.quiet import Nothing
from conclave.store.location import EngineName
from conclave.store.postgresql import account as accounts
from tests.support.cluster_bench import ClusterBench

DOMAIN = b"a cloning domain"
ADMIN_PASSWORD = b"Admin-password-1"
WAIT_SECONDS = 90.0
House = TypeVar("House", bound="Several")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds; what the cluster refuses meanwhile is no failure."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await condition():
                    return
            except ConclaveError:
                pass
            await asyncio.sleep(0.02)


@dataclass
class Several:
    """Members in the order in which they joined."""

    directory: Path
    members: list[ClusterBench] = field(default_factory=list)
    made: int = 0
    postgresql_directory: str = ""

    def prepare(self, directory: Path) -> None:
        """Do what an appliance with this state directory needs before it starts: nothing."""

    def make(self, directory: Path) -> ClusterBench:
        """Make an appliance's processes, which do not run yet."""
        return ClusterBench(
            directory, SharedPage.create(), postgresql_directory=self.postgresql_directory
        )

    async def first(self, *, engine: EngineName = "sqlite") -> ClusterBench:
        """Make a cluster of one, with an admin."""
        bench = await self.alone()
        await bench.create(engine=engine)
        await self.authorize(bench)
        await self._put_admin(bench)
        return bench

    async def authorize(self, bench: ClusterBench) -> None:
        """Give a member the SMK, as an administrator does after a restart."""
        await bench.daemon.call(
            "authorize",
            Authorize(smk=bench.smk, member_key_spki_der=bench.spki, domain=DOMAIN),
            timeout_seconds=WAIT_SECONDS,
        )

    async def join(
        self,
        at: ClusterBench,
        *,
        domain: bytes = DOMAIN,
        password: bytes = ADMIN_PASSWORD,
        cluster_id: str = "",
    ) -> ClusterBench:
        """Let a new member join at another one; it is a member when this returns."""
        bench = await self.alone()
        await self.join_with(bench, at, domain=domain, password=password, cluster_id=cluster_id)
        return bench

    async def join_with(
        self,
        bench: ClusterBench,
        at: ClusterBench,
        *,
        domain: bytes = DOMAIN,
        password: bytes = ADMIN_PASSWORD,
        cluster_id: str = "",
    ) -> None:
        """Let an appliance without cluster join."""
        await self._prepare(bench, at, domain=domain, password=password, cluster_id=cluster_id)
        await bench.daemon.call("join_commit", Nothing(), timeout_seconds=2 * WAIT_SECONDS)

    async def prepare_join(self, at: ClusterBench) -> ClusterBench:
        """Return a new appliance that has prepared its join, but has not committed it."""
        bench = await self.alone()
        await self._prepare(bench, at, domain=DOMAIN, password=ADMIN_PASSWORD, cluster_id="")
        return bench

    async def _prepare(
        self,
        bench: ClusterBench,
        at: ClusterBench,
        *,
        domain: bytes,
        password: bytes,
        cluster_id: str,
    ) -> None:
        bench.member_id = str(uuid4())
        params = JoinPrepare(
            cluster_id=cluster_id or at.cluster_id,
            remote_address=at.address,
            remote_admin_password=password,
            remote_fingerprint="",
            domain=domain,
            default_domain=False,
            member_id=bench.member_id,
            member_name=f"member-{len(self.members)}",
            address=bench.address,
            admin_port=50070,
            crypto_port=50052,
        )
        prepared: JoinPrepared = await bench.daemon.call(
            "join_prepare", params, timeout_seconds=WAIT_SECONDS
        )
        bench.smk, bench.cluster_id = prepared.smk, prepared.cluster_id

    async def alone(self) -> ClusterBench:
        """Start an appliance's processes without a cluster."""
        self.made += 1
        directory = self.directory / f"m{self.made}"
        directory.mkdir(mode=0o700)
        self.prepare(directory)
        bench = self.make(directory)
        bench.start_login()
        bench.start_cluster()
        self.members.append(bench)
        await bench.ready()
        return bench

    async def _put_admin(self, bench: ClusterBench) -> None:
        salt = new_salt(LOW_COST_FOR_TESTS)
        login = ChannelClient(bench.socket("login"), bench.secrets["daemon"])
        answer: DerivedKey = await login.call(
            "hash_password", HashPassword(password=ADMIN_PASSWORD, salt=salt, source="test")
        )
        await login.close()
        verifier = msgspec.msgpack.encode((salt, answer.key, os.urandom(16), True, False))
        admin = UserRecord(
            user_id="admin",
            role="admin",
            full_name="",
            email="",
            verifier=verifier,
            enabled=True,
            revision=1,
        )
        await bench.daemon.call("put_users", UserRecords(users=[admin], version=0))

    async def seen_by(self, bench: ClusterBench) -> dict[str, MemberSummary]:
        """Return the members as one of them sees them."""
        answer: MemberList = await bench.daemon.call("list_members", Nothing())
        return {member.member_id: member for member in answer.members}

    async def all_read_write(self) -> None:
        """Wait until every member sees every member Read-Write."""

        async def condition() -> bool:
            views = [await self.seen_by(bench) for bench in self.members]
            return all(
                len(view) == len(self.members)
                and all(member.read_write and member.authorized for member in view.values())
                for view in views
            )

        await until(condition)


@asynccontextmanager
async def ended(house: House) -> AsyncIterator[House]:
    """Yield a house, and end whatever was started in it."""
    try:
        yield house
    finally:
        account = accounts.find()
        for bench in house.members:
            await bench.close()
        for bench in house.members:
            await asyncio.to_thread(accounts.remove, bench.directory, account)


@asynccontextmanager
async def several(directory: Path) -> AsyncIterator[Several]:
    """Yield a house without members, and end whatever was started in it."""
    async with ended(Several(directory)) as house:
        yield house
