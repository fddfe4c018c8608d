"""What members do for each other beside replication: authorize, list, certify, report.

Invariants: the SMK is given to a listed member only, which the link has proven by its key, at its
registered address (rule C9); a certificate is made for a listed key only (rule C3).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from conclave import faults
from conclave.cluster import sequences
from conclave.cluster.ca import der, key_sha256
from conclave.cluster.configuration import Standing
from conclave.cluster.context import Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.hands import MemberHands
from conclave.cluster.link.hello import Peer
from conclave.cluster.link.messages import Authorization, CertifyRequest, NewMember, PortsReport
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.replication import Replication
from conclave.cluster.rotation import newest_authority
from conclave.errors import ConclaveError, Conflict, NotAllowed
from conclave.ids import MemberId
from conclave.service.messages import Authorize
from conclave.service.quiet import Nothing
from conclave.settings import ClusterTimes
from conclave.store.repository import ClusterWriter
from conclave.store.rows import MemberRow

DEFAULT_GROUP: Final = "local"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Duties:
    """The favours of one member, most of them the primary's."""

    context: Context
    coordinator: Coordinator
    neighbours: Neighbours
    replication: Replication
    hands: MemberHands
    times: ClusterTimes
    authorize: Callable[[Authorize], Awaitable[None]]
    ports: PortsReport

    # ------------------------------------------------------------------ authorization

    async def authorization(self, peer: Peer) -> Authorization:
        """Give the SMK to the listed member that returns to its registered address (rule C9)."""
        authorized = self.context.require_authorized()
        listed = self.coordinator.state.configuration.peer(peer.member_id)
        if listed is None or listed.address != peer.address:
            message = (
                f"Member {peer.member_id} calls from {peer.address}, which is not its registered"
                " address: it must be authorized by hand."
            )
            logger.warning("Authorization refused: %s", message)
            raise NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
        report = self.neighbours.report(peer.member_id)
        if report is not None and report.authorized:
            # After a restart this is so until it has answered again, a moment later.
            message = (
                f"Member {peer.member_id} answers as authorized already: a second one that uses its"
                " id is not authorized by itself."
            )
            logger.warning("Authorization refused: %s", message)
            raise NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
        if not self.times.automatic_authorization:
            message = "Automatic authorization is switched off here: authorize the member by hand."
            raise NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
        logger.warning("Member %s at %s was authorized.", peer.member_id, peer.address)
        return Authorization(smk=authorized.smk, domain=authorized.domain)

    async def ask_for_authorization(self) -> None:
        """Take the SMK from a live member, if there is one (rule C9)."""
        for peer in self.coordinator.state.others():
            report = self.neighbours.report(peer.member_id)
            if report is None or not report.authorized:
                continue
            answer: Authorization = await self.neighbours.call(
                peer.member_id, "authorize_me", Nothing(), timeout_seconds=5.0
            )
            await self.authorize(
                Authorize(smk=answer.smk, member_key_spki_der=b"", domain=answer.domain)
            )
            return

    # ------------------------------------------------------------------ changes by the primary

    async def add_member(self, new: NewMember) -> None:
        """List a new member; the first one moves the store to PostgreSQL beforehand."""
        if not self.replication.replicated:
            message = "The store is converted before a member is listed."
            raise Conflict(faults.CONVERSION_FAILED, message)
        row = MemberRow(
            member_id=new.peer.member_id,
            name=new.name,
            address=new.peer.address,
            admin_port=new.admin_port,
            crypto_port=new.crypto_port,
            group=DEFAULT_GROUP,
            key_sha256=new.peer.key_sha256,
            certificate_der=new.certificate_der,
        )
        # Kept until it is recorded, which is tried again if it fails once the member is listed.
        self.hands.new_rows = {**self.hands.new_rows, row.member_id: row}
        await self.coordinator.change(lambda state: sequences.add_member(state, new.peer))
        others = [peer.member_id for peer in self.coordinator.state.others()]
        try:
            await self.replication.instance.slots(others)
        except ConclaveError as error:
            # It is listed all the same, and makes its slot itself when it copies the store.
            logger.warning("The slots of the members could not be made: %s", error.message)

    async def remove_member(self, member_id: MemberId, how: Standing) -> None:
        """Take a member off the list."""
        await self.coordinator.change(lambda state: sequences.remove_member(state, member_id, how))

    async def set_ports(self, member_id: MemberId, ports: PortsReport) -> None:
        """Record on which ports a member listens (rule S7)."""

        def work(writer: ClusterWriter) -> None:
            for row in writer.members():
                if row.member_id == member_id:
                    changed = replace(
                        row, admin_port=ports.admin_port, crypto_port=ports.crypto_port
                    )
                    if changed != row:
                        writer.put_member(changed)

        await self.context.write(work)

    async def certify(self, member_id: MemberId, spki_der: bytes) -> bytes:
        """Certify a listed member's key anew; the key is the listed one."""
        authorized = self.context.require_authorized()
        listed = self.coordinator.state.configuration.peer(member_id)
        if listed is None or key_sha256(spki_der) != listed.key_sha256:
            message = f"Member {member_id} asks for a certificate of a key that is not its own."
            raise NotAllowed(faults.MEMBER_NOT_FOUND, message)
        settings = self.context.settings
        own = member_id == self.coordinator.state.member_id
        names = [*(settings.other_names if own else ()), listed.address]

        def work(writer: ClusterWriter) -> bytes:
            # In the transaction: a CA that was made a moment ago is not in our memory yet.
            certificate = newest_authority(writer, authorized).certify_member(
                spki_der,
                member_id,
                common_name=settings.server_common_name,
                other_names=names,
                now=self.context.clock.now(),
            )
            for row in writer.members():
                if row.member_id == member_id:
                    writer.put_member(replace(row, certificate_der=der(certificate)))
            return der(certificate)

        return await self.context.write(work)

    async def ask_for_certificate(self, spki_der: bytes) -> None:
        """Let the primary certify this member's key anew; its row brings the certificate."""
        await self.neighbours.call(
            self.coordinator.state.configuration.primary,
            "certify_me",
            CertifyRequest(key_spki_der=spki_der),
            timeout_seconds=5.0,
        )

    async def report_ports(self) -> None:
        """Let the primary record this member's ports."""
        state = self.coordinator.state
        if state.is_primary:
            await self.set_ports(state.member_id, self.ports)
        else:
            await self.neighbours.call(
                state.configuration.primary, "report_ports", self.ports, timeout_seconds=5.0
            )
