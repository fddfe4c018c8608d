"""Handlers of the methods that change who is in the cluster, and in which part.

Invariant: what is refused is refused before anything is changed; who runs a change is the primary,
except that a primary which nobody sees is deleted by the member that is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.cluster import sequences
from conclave.cluster.configuration import Standing
from conclave.cluster.context import Context, require_cluster
from conclave.cluster.link.hello import LinkRefused
from conclave.cluster.link.messages import Forward, PortsReport
from conclave.cluster.member import Member
from conclave.errors import BadInput, ConclaveError, Conflict, NotAllowed, NotFound, Unavailable
from conclave.ids import MemberId
from conclave.service.messages import (
    DeletedMember,
    DeleteMember,
    GroupList,
    GroupSummary,
    MemberList,
    MemberReport,
    MemberSummary,
    PromoteMember,
    SetGroup,
)
from conclave.service.quiet import Nothing
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import MemberRow

MAX_GROUPS: Final = 64
LEAVE_SECONDS: Final = 15.0
ASK_AGAIN_SECONDS: Final = 5.0
"""How long it is found out whether a member has left whose primary's answer was lost."""
PAUSE_SECONDS: Final = 0.1
FORWARD_SECONDS: Final = 40.0

logger = logging.getLogger(__name__)


async def be_removed(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask the primary to be removed, until it is known to be done.

    The primary cuts who has left off, and its answer may be lost with that; asked again, it refuses
    the link of one that has left.  Raises what the last question raised.
    """
    again_until_ms = boot_time_ms() + ASK_AGAIN_SECONDS * 1000
    while True:
        try:
            await ask()
        except LinkRefused as refusal:
            if refusal.verdict.reason != Standing.LEFT.value:
                raise
        except Unavailable:
            if boot_time_ms() >= again_until_ms:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        return


@dataclass(slots=True)
class ClusterOperations:
    """Handlers; `member` is None before the cluster's first authorization."""

    context: Context
    find_member: Callable[[], Member | None]
    end: Callable[[], Awaitable[None]]
    """Forgets the cluster on this appliance."""

    def _member(self) -> Member:
        member = self.find_member()
        if member is None:
            message = "This member was never authorized: authorize it first."
            raise NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
        return member

    # ------------------------------------------------------------------ showing

    async def list_members(self, _params: Nothing, _role: str) -> MemberList:
        """Return the members as this one sees them; raise NotFound when there is no cluster."""
        return await self.context.read(self._members)

    def _members(self, reader: ClusterReader) -> MemberList:
        state = require_cluster(reader)
        member = self.find_member()
        local = member.state.member_id if member is not None else state.primary
        primary = member.state.configuration.primary if member is not None else state.primary
        return MemberList(
            members=[self._summary(row, local=local, primary=primary) for row in reader.members()]
        )

    def _summary(self, row: MemberRow, *, local: MemberId, primary: MemberId) -> MemberSummary:
        member = self.find_member()
        is_local = row.member_id == local
        report = None
        last_contact_ms = 0
        if member is not None and not is_local:
            report = member.neighbours.report(row.member_id)
            heard_ms = member.neighbours.last_heard_ms(row.member_id)
            if heard_ms:
                last_contact_ms = self.context.cluster_time_ms() - (boot_time_ms() - heard_ms)
        if is_local and member is not None:
            report = member.describe()
        authorized = self.context.authorized is not None if is_local else False
        own_version = self.context.settings.package_version
        return MemberSummary(
            member_id=row.member_id,
            name=row.name,
            address=row.address,
            admin_port=row.admin_port,
            crypto_port=row.crypto_port,
            group=row.group,
            primary=row.member_id == primary,
            authorized=report.authorized if report is not None else authorized,
            visible=is_local or report is not None,
            read_write=report.read_write if report else is_local and self._writes_here(),
            local=is_local,
            restart_required=report.restart_required if report is not None else False,
            version=report.version if report is not None else own_version if is_local else "",
            last_contact_ms=last_contact_ms,
            behind_bytes=-1 if member is None else member.primary.behind_bytes(row.member_id),
        )

    def _writes_here(self) -> bool:
        return self.context.page.lease_valid()

    async def list_groups(self, _params: Nothing, _role: str) -> GroupList:
        """Return the affinity groups that have members."""

        def work(reader: ClusterReader) -> GroupList:
            require_cluster(reader)
            groups: dict[str, list[str]] = {}
            for row in reader.members():
                groups.setdefault(row.group, []).append(row.member_id)
            return GroupList(
                groups=[GroupSummary(name=name, member_ids=groups[name]) for name in sorted(groups)]
            )

        return await self.context.read(work)

    async def report(self, params: MemberReport, _role: str) -> Nothing:
        """Take note of what the daemon says of its member, and tell the primary its ports."""
        member = self.find_member()
        if member is None:
            return Nothing()
        member.restart_required = params.restart_required
        member.issuers = params.issuers
        member.duties.ports = PortsReport(
            admin_port=params.admin_port, crypto_port=params.crypto_port
        )
        await member.duties.report_ports()
        return Nothing()

    # ------------------------------------------------------------------ changing

    async def set_group(self, params: SetGroup, _role: str) -> Nothing:
        """Move a member to a group, as the primary; a new group is made, up to 64."""

        def work(writer: ClusterWriter) -> None:
            require_cluster(writer)
            rows = {row.member_id: row for row in writer.members()}
            row = rows.get(MemberId(params.member_id))
            if row is None:
                raise no_member(params.member_id)
            groups = {other.group for other in rows.values() if other is not row}
            if len(groups | {params.group}) > MAX_GROUPS:
                message = f"A cluster has at most {MAX_GROUPS} affinity groups."
                raise Conflict(faults.GROUP_LIMIT, message)
            if row.group != params.group:
                writer.put_member(replace(row, group=params.group))

        await self.context.write(work)
        return Nothing()

    async def promote(self, params: PromoteMember, _role: str) -> Nothing:
        """Hand the cluster from this primary to another member."""
        member = self._member()
        target = MemberId(params.member_id)
        if member.state.configuration.peer(target) is None:
            raise no_member(params.member_id)
        await member.coordinator.change(lambda state: sequences.promote(state, target))
        return Nothing()

    async def leave(self, _params: Nothing, _role: str) -> Nothing:
        """Take this member out of its cluster; a primary hands over first (rule B2)."""
        member = self._member()
        state = member.state
        if len(state.configuration.peers) == 1:
            message = "The last member cannot leave: a factory reset of the service ends a cluster."
            raise Conflict(faults.LAST_MEMBER, message)
        if state.is_primary:
            await self._hand_over_to_any(member)
        primary = member.state.configuration.primary
        if not member.neighbours.sees(primary):
            message = f"The primary {primary} is not visible to this member, so it cannot leave."
            raise NotAllowed(faults.MEMBER_NOT_VISIBLE, message)
        member.follower.retire()
        try:
            await be_removed(
                lambda: member.neighbours.call(
                    primary, "remove_me", Nothing(), timeout_seconds=LEAVE_SECONDS
                )
            )
        except BaseException:
            member.follower.come_back()
            raise
        await self.end()
        return Nothing()

    @staticmethod
    async def _hand_over_to_any(member: Member) -> None:
        state = member.state
        candidates = [each for each in state.visible if each != state.member_id]
        if not candidates:
            message = "No other member is Read-Write, so the primary cannot hand over and leave."
            raise NotAllowed(faults.MEMBER_NOT_READ_WRITE, message)
        await member.coordinator.change(lambda state: sequences.promote(state, candidates[0]))

    async def delete_member(self, params: DeleteMember, role: str) -> DeletedMember:
        """Delete a member that nobody sees; if it is primary, another one is promoted."""
        member = self._member()
        state = member.state
        target = MemberId(params.member_id)
        if state.configuration.peer(target) is None:
            raise no_member(params.member_id)
        if target == state.member_id:
            message = f"Member {target} is this one: it can leave, not delete itself."
            raise BadInput(faults.BAD_REQUEST, message)
        heard_ms = member.neighbours.last_heard_ms(target)
        last_contact_ms = 0
        if heard_ms:
            last_contact_ms = self.context.cluster_time_ms() - (boot_time_ms() - heard_ms)
        primary = state.configuration.primary
        if primary == target:
            await member.coordinator.change(
                lambda state: sequences.delete_primary(state, force=params.force)
            )
        elif state.is_primary:
            delete = sequences.delete_closed if state.handing_over else sequences.delete_other
            await member.coordinator.change(lambda state: delete(state, target, force=params.force))
        else:
            return await self._forward_deletion(member, params, role)
        after = member.state
        return DeletedMember(
            promoted_id=after.configuration.primary if primary == target else "",
            not_reached=[
                peer.member_id
                for peer in after.others()
                if not member.neighbours.sees(peer.member_id)
            ],
            last_contact_ms=last_contact_ms,
        )

    @staticmethod
    async def _forward_deletion(member: Member, params: DeleteMember, role: str) -> DeletedMember:
        forward = Forward(method="delete_member", params=msgspec.msgpack.encode(params), role=role)
        primary = member.state.configuration.primary
        try:
            answer = await member.neighbours.call(
                primary, "forward", forward, timeout_seconds=FORWARD_SECONDS
            )
        except Unavailable as error:
            if error.fault is not faults.BUSY:
                raise
            message = f"The primary {primary} is not reached: bring it back, or delete it first."
            raise NotAllowed(faults.PRIMARY_UNREACHABLE, message) from error
        return msgspec.msgpack.decode(answer.result, type=DeletedMember)


def no_member(member_id: str) -> ConclaveError:
    """Return the error for a member that is not in the cluster."""
    message = f"The cluster has no member {member_id[:64]!r}."
    return NotFound(faults.MEMBER_NOT_FOUND, message)
