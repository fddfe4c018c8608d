"""What a join needs of the process on either side: the joiner's, and that of who takes it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from conclave import faults
from conclave.cluster.configuration import MemberState
from conclave.cluster.context import Context
from conclave.cluster.join_exchange import JoinOffer
from conclave.cluster.link.messages import NewMember, Probe
from conclave.cluster.link_handlers import probe_from
from conclave.cluster.member import Member
from conclave.cluster.member_base import Home
from conclave.cluster.membership import Membership
from conclave.cluster.take_in import admin_salt, proves_admin
from conclave.errors import Conflict, Unavailable
from conclave.service.channel import ChannelClient
from conclave.service.messages import (
    Authorize,
    DerivedKey,
    HashPassword,
)
from conclave.store.postgresql import binaries as programs

VISIBLE_SECONDS: Final = 120.0
LISTED_SECONDS: Final = 30.0
"""How long a joiner whose connection broke waits for the primary to take it for a member."""
POLL_SECONDS: Final = 0.05
PROBE_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 10.0
HASH_SECONDS: Final = 15.0

Progress = Callable[[str, float], None]


class RuntimeJoins:
    """A process that can join, and let others join."""

    context: Context
    home: Home
    login: ChannelClient
    member: Member | None
    membership: Membership

    def state(self) -> MemberState:
        """Return the member's state; Unavailable (BUSY) without a cluster."""
        if self.member is None:
            raise Unavailable(faults.BUSY, "This appliance is in no cluster at present.")
        return self.member.state

    def server_certificate(self) -> bytes:
        """Return the certificate that the link shows, DER."""
        return self.member.identity.certificate_der() if self.member is not None else b""

    async def postgresql_major(self) -> int:
        """Return the major version that this member has; NotFound without PostgreSQL."""
        return await programs.major(self.home.postgresql.directory)

    async def require_alone(self) -> None:
        """Refuse a join where a cluster is."""
        row = await self.context.read(lambda reader: reader.cluster_state())
        if self.member is not None or row is not None:
            label = row.label if row is not None else ""
            message = f"The appliance is in the cluster {label!r} already: it cannot join another."
            raise Conflict(faults.CLUSTER_EXISTS, message)

    async def authorize_from_live(self, params: Authorize) -> None:
        """Take the SMK that a member gave."""
        await self.membership.authorize(params, "daemon")

    async def verify_admin(self, user_id: str, password: bytes) -> bool:
        """Hold an admin's password against the cluster's list of users."""
        users = await self.context.read(lambda reader: reader.users())
        user = next((row for row in users if row.user_id == user_id), None)
        if user is None or user.role != "admin" or not user.enabled:
            return False
        request = HashPassword(
            password=password, salt=admin_salt(user.verifier), source="daemon|join"
        )
        answer: DerivedKey = await self.login.call(
            "hash_password", request, timeout_seconds=HASH_SECONDS
        )
        return proves_admin(user.verifier, answer.key)

    async def probe(self, address: str, port: int) -> None:
        """Let every member try to reach an address (rule B4)."""
        member = self.member
        if member is None:
            return
        probe = Probe(address=address, port=port)
        await probe_from(member.state.member_id, probe)
        for peer in member.state.others():
            await member.neighbours.call(
                peer.member_id, "probe", probe, timeout_seconds=PROBE_SECONDS
            )

    async def list_member(
        self, new: NewMember, progress: Progress, gone: Callable[[], bool]
    ) -> None:
        """List a joiner on the primary; the first one moves the store to PostgreSQL."""
        member = self.member
        if member is None:
            raise Unavailable(faults.BUSY, "This appliance is in no cluster at present.")
        if not member.state.is_primary:
            await member.neighbours.call(
                member.state.configuration.primary, "add_member", new, timeout_seconds=60.0
            )
            return
        if not member.replication.replicated:
            await self.move_store(progress, gone)
        await member.duties.add_member(new)

    async def move_store(self, progress: Progress, gone: Callable[[], bool]) -> None:
        """Move the store of a cluster of one to PostgreSQL; writes wait meanwhile."""
        member = self.member
        if member is None:
            raise Unavailable(faults.BUSY, "This appliance is in no cluster at present.")
        await self.context.store.pause(PAUSE_SECONDS)
        try:
            await member.replication.convert(progress, gone)
        finally:
            self.context.store.resume()
        self.context.page.bump_global()

    async def is_listed(self) -> bool:
        """Tell whether the primary takes this joiner for a member; waits for a while."""
        member = self.member
        if member is None:
            return False
        primary = member.state.configuration.primary
        try:
            async with asyncio.timeout(LISTED_SECONDS):
                while not member.neighbours.sees(primary):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def complete_join(self, offer: JoinOffer, progress: Progress) -> None:
        """Copy the store, authorize, and return when this member is Read-Write."""
        member = self.member
        if member is None:
            raise Unavailable(faults.BUSY, "This appliance is in no cluster at present.")
        try:
            await member.complete_copy(progress)
        except BaseException:
            member.go_on_alone()
            raise
        await self.authorize_from_live(
            Authorize(smk=offer.smk, member_key_spki_der=b"", domain=offer.domain)
        )
        progress("becoming visible", 1.0)
        try:
            async with asyncio.timeout(VISIBLE_SECONDS):
                while not self.context.page.lease_valid():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            message = (
                "The member has joined, but has not caught up yet: it becomes Read-Write by itself."
            )
            raise Unavailable(faults.MEMBER_BEHIND, message) from None
