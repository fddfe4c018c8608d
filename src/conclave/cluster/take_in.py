"""Take a joiner in: the part of a join that a member of the cluster does.

Invariant: a joiner is offered membership after domain and admin password were proven, and listed
after it has committed and every member has reached it; one joins at a time.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from conclave import __version__, faults
from conclave.cluster.ca import der, key_sha256
from conclave.cluster.configuration import MemberState
from conclave.cluster.configuration import Peer as MemberPeer
from conclave.cluster.context import Context
from conclave.cluster.join_exchange import (
    JoinOffer,
    JoinRequest,
    MemberChecks,
    MemberSide,
    OfferedPeer,
    refuse_in_clear,
    run_member,
)
from conclave.cluster.join_limiter import COUNTED, JoinLimiter
from conclave.cluster.join_wire import StreamWire
from conclave.cluster.link.hello import Peer
from conclave.cluster.link.messages import NewMember
from conclave.errors import ConclaveError, Conflict, Fault, InternalFault, NotAllowed
from conclave.ids import MemberId
from conclave.service.channel_errors import error_to_wire

COMMIT_SECONDS: Final = 300.0
RECOMMENDED_MEMBERS: Final = 4
TELL_SECONDS: Final = 0.5

Progress = Callable[[str, float], None]
logger = logging.getLogger(__name__)


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """The joiner has kept what it was offered: list it."""


class Told(msgspec.Struct, frozen=True, tag="told"):
    """How far the member is."""

    step: str
    fraction: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The joiner is listed."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The joiner is not listed, and why."""

    fault: str
    message: str
    error_class: str


_told = msgspec.msgpack.Decoder(Told | Done | Failed)
_committed = msgspec.msgpack.Decoder(Committed)


def decode_told(message: bytes) -> Told | Done | Failed:
    """Read what a member tells a joiner that has committed; raise InternalFault (JOIN_BROKEN)."""
    try:
        told: Told | Done | Failed = _told.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message_text = "What the member told while it listed this one cannot be read."
        raise InternalFault(faults.JOIN_BROKEN, message_text) from error
    return told


@dataclass(slots=True)
class TakeIn:
    """The door for joiners on one member."""

    context: Context
    state: Callable[[], MemberState]
    server_certificate: Callable[[], bytes]
    verify_admin: Callable[[str, bytes], Awaitable[bool]]
    postgresql_major: Callable[[], Awaitable[int]]
    probe: Callable[[str, int], Awaitable[None]]
    """Lets every member try to reach an address; raises MEMBERS_UNREACHABLE with the pair."""
    list_member: Callable[[NewMember, Progress, Callable[[], bool]], Awaitable[None]]
    """Lists it on the primary, converting the store first if it must; the last argument tells
    whether the joiner has gone away, which ends a conversion under way."""
    on_wrong_guess: Callable[[str, str, Fault], Awaitable[None]]
    """Told of a refused join that may be a guess: address, user if one was named, and why."""
    limiter: JoinLimiter = field(default_factory=JoinLimiter)
    _progress: tuple[str, float] = ("", 0.0)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        """Run the member's side of a join."""
        authorized = self.context.authorized
        if authorized is None or not authorized.domain:
            logger.warning("A join of %s was refused: the member is not authorized.", peer.address)
            message = "The member that was asked is not authorized, so nobody can join at it."
            refusal = NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
            await StreamWire(reader, writer).send(refuse_in_clear(refusal))
            return
        state = self.state()
        wire = StreamWire(reader, writer)
        offered: list[JoinRequest] = []
        users: list[str] = []

        async def make_offer(request: JoinRequest) -> JoinOffer:
            offered.append(request)
            return await self._offer(request)

        async def verify_admin(user_id: str, password: bytes) -> bool:
            users.append(user_id)
            return await self.verify_admin(user_id, password)

        checks = MemberChecks(
            cluster_id=state.cluster_id,
            now_ms=self.context.clock.now_ms,
            require_fit=self._require_fit,
            verify_admin=verify_admin,
            make_offer=make_offer,
        )
        side = MemberSide(
            authorized.domain,
            state.member_id,
            checks,
            self.limiter,
            server_certificate_der=self.server_certificate(),
            ca_certificate_der=state.certificate_authorities[0],
        )
        try:
            offer = await run_member(side, wire, peer.address)
        except ConclaveError as error:
            logger.warning("A join of %s was refused: %s", peer.address, error.message)
            if error.fault.rest_id in COUNTED:
                await self.on_wrong_guess(peer.address, "".join(users), error.fault)
            return
        try:
            await self._after_offer(side, wire, offered[-1], offer)
        finally:
            self.limiter.release(MemberId(offered[-1].member.member_id))

    async def _after_offer(
        self, side: MemberSide, wire: StreamWire, request: JoinRequest, offer: JoinOffer
    ) -> None:
        """Wait for the joiner's commitment, list it, and tell it how far that is."""
        stream = side.stream
        try:
            message = await wire.receive(COMMIT_SECONDS)
            _committed.decode(stream.open(message))
        except (ConclaveError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("A joiner that was offered membership did not commit: %s", error)
            return
        # From here on it only listens: it wants to be listed until it ends the connection.
        listing = asyncio.ensure_future(self._list(request, offer, lambda: wire.ended))
        try:
            while not (await asyncio.wait({listing}, timeout=TELL_SECONDS))[0]:
                await self._tell(side, wire, Told(*self._progress))
        finally:
            # Listed or not is decided by the primary, not by who is told of it.
            await asyncio.wait({listing})
        try:
            listing.result()
        except ConclaveError as error:
            logger.warning("A joiner was not listed: %s", error.message)
            await self._tell(side, wire, Failed(*error_to_wire(error)[:3]))
            return
        logger.info("Member %s is listed.", request.member.member_id)
        await self._tell(side, wire, Done())

    async def _tell(
        self, side: MemberSide, wire: StreamWire, message: Told | Done | Failed
    ) -> None:
        """Tell the joiner, best effort: one that is gone learns it from the primary."""
        try:
            await wire.send(side.stream.seal(msgspec.msgpack.encode(message)))
        except ConclaveError as error:
            logger.info("A joiner could not be told: %s", error.message)

    async def _list(self, request: JoinRequest, offer: JoinOffer, gone: Callable[[], bool]) -> None:
        member = request.member

        def note(step: str, fraction: float) -> None:
            self._progress = (step, fraction)

        note("reaching the new member from every member", 0.0)
        await self.probe(member.address, member.core_port)
        new = NewMember(
            peer=MemberPeer(
                MemberId(member.member_id),
                member.address,
                member.core_port,
                key_sha256(member.key_spki_der),
            ),
            name=member.name,
            admin_port=member.admin_port,
            crypto_port=member.crypto_port,
            certificate_der=offer.member_certificate_der,
        )
        await self.list_member(new, note, gone)

    async def _require_fit(self, request: JoinRequest) -> None:
        major = await self.postgresql_major()
        if request.postgresql_major not in (0, major):
            message = (
                f"The cluster runs PostgreSQL {major}, the joiner has"
                f" {request.postgresql_major}: install the same major version."
            )
            raise NotAllowed(faults.VERSION_MISMATCH, message)
        if request.software_version != __version__:
            message = (
                f"The cluster runs Conclave {__version__}, the joiner"
                f" {request.software_version}: install the same release."
            )
            raise NotAllowed(faults.VERSION_MISMATCH, message)
        state = self.state()
        taken = {peer.address: peer.member_id for peer in state.configuration.peers}
        if request.member.address in taken:
            message = (
                f"Member {taken[request.member.address]} has the address"
                f" {request.member.address} already: delete it first, or join from another."
            )
            raise Conflict(faults.CLUSTER_EXISTS, message)

    async def _offer(self, request: JoinRequest) -> JoinOffer:
        authorized = self.context.require_authorized()
        state = self.state()
        settings = self.context.settings
        member = request.member
        certificate = authorized.authority.certify_member(
            member.key_spki_der,
            MemberId(member.member_id),
            common_name=settings.server_common_name,
            other_names=[member.address],
            now=self.context.clock.now(),
        )
        row = await self.context.read(lambda reader: reader.cluster_state())
        count = len(state.configuration.peers) + 1
        warning = ""
        if count > RECOMMENDED_MEMBERS:
            warning = f"{count} members are more than the {RECOMMENDED_MEMBERS} recommended."
            logger.warning("A join: %s", warning)
        return JoinOffer(
            smk=authorized.smk,
            domain=authorized.domain,
            cluster_id=state.cluster_id,
            label=row.label if row else "",
            dual_identity=authorized.dual_identity,
            member_certificate_der=der(certificate),
            ca_certificates_der=list(state.certificate_authorities),
            members=[
                OfferedPeer(
                    member_id=peer.member_id,
                    address=peer.address,
                    core_port=peer.core_port,
                    key_sha256=peer.key_sha256,
                )
                for peer in state.configuration.peers
            ],
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            primary=state.configuration.primary,
            warning=warning,
        )


class _Proof(msgspec.Struct, array_like=True, frozen=True):
    """What the appliance keeps of a user's password, as the cluster mirrors it."""

    salt: bytes
    verifier: bytes
    version: bytes
    builtin: bool
    must_change: bool


def admin_salt(verifier: bytes) -> bytes:
    """Return the salt of a mirrored user's password."""
    return msgspec.msgpack.decode(verifier, type=_Proof).salt


def proves_admin(verifier: bytes, derived: bytes) -> bool:
    """Tell whether a derived key is the user's, and no first password that must be changed."""
    proof = msgspec.msgpack.decode(verifier, type=_Proof)
    return hmac.compare_digest(proof.verifier, derived) and not proof.must_change
