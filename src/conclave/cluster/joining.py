"""Join: what the appliance that joins does, and what the member does that takes it in.

Invariant: until the joiner commits, nothing is changed on either side, and before the primary lists
it, joiner and members have reached each other, each pair both ways (rule B4).  From then on the
joiner is a member that is not visible: whatever happens, it goes on by itself until it is, or an
administrator deletes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from conclave import __version__, faults
from conclave.cluster.ca import key_sha256, pem, pems
from conclave.cluster.configuration import Configuration, MemberState, Peer, Standing
from conclave.cluster.context import Context
from conclave.cluster.epochs import Epoch
from conclave.cluster.join_exchange import (
    JoinerSide,
    JoiningMember,
    JoinOffer,
    JoinRequest,
    Trust,
    run_joiner,
)
from conclave.cluster.join_wire import StreamWire
from conclave.cluster.link.client import open_join
from conclave.cluster.link.hello import PROTOCOL_VERSION, Hello, Verdict
from conclave.cluster.take_in import Committed, Done, Told, decode_told
from conclave.errors import Conflict, Unavailable
from conclave.ids import ClusterId, MemberId
from conclave.service.channel_errors import error_from_wire
from conclave.service.messages import JoinPrepare, JoinPrepared, JoinProgress
from conclave.service.quiet import Nothing

CONNECT_SECONDS: Final = 10.0
PROBE_SECONDS: Final = 3.0
VISIBLE_SECONDS: Final = 120.0
ADMIN: Final = "admin"
_NO_EPOCH: Final = Epoch(0, MemberId(""))

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    params: JoinPrepare
    side: JoinerSide
    offer: JoinOffer
    wire: StreamWire
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Joining:
    """Handlers of the joiner's methods; the daemon calls them in their order."""

    context: Context
    key_pem: bytes
    core_port: int
    postgresql_major: Callable[[], Awaitable[int]]
    require_alone: Callable[[], Awaitable[None]]
    begin: Callable[[MemberState], Awaitable[None]]
    """Starts this member in the state of a joiner."""
    complete: Callable[[JoinOffer, Callable[[str, float], None]], Awaitable[None]]
    """Copies the store and authorizes; returns when the member is visible."""
    abandon: Callable[[], Awaitable[None]]
    """Forgets the cluster that was not joined."""
    is_listed: Callable[[], Awaitable[bool]]
    """Tells whether the members took this one in, when that was not said."""
    _attempt: _Attempt | None = None
    _progress: JoinProgress = field(default_factory=lambda: JoinProgress(step="", fraction=0.0))

    def _note(self, step: str, fraction: float) -> None:
        self._progress = JoinProgress(step=step, fraction=fraction)

    async def progress(self, _params: Nothing, _role: str) -> JoinProgress:
        """Tell how far the join is."""
        return self._progress

    async def prepare(self, params: JoinPrepare, _role: str) -> JoinPrepared:
        """Prove the domain, send the admin password, and fetch what makes this one a member."""
        await self.require_alone()
        self._drop()
        self._note("proving the cloning domain", 0.0)
        trust = Trust.given(
            default_domain=params.default_domain, fingerprint=params.remote_fingerprint
        )
        hello = Hello(
            protocol_version=PROTOCOL_VERSION,
            cluster_id=params.cluster_id,
            member_id=params.member_id,
            epoch=_NO_EPOCH,
            membership_hash=b"",
            software_version=__version__,
            channel="join",
        )
        try:
            reader, writer, certificate = await open_join(
                params.remote_address, self.core_port, hello, _accept, CONNECT_SECONDS
            )
        except Unavailable as error:
            if error.fault is not faults.BUSY:
                raise
            # Nobody is busy: whoever gave the address is to look at it, and at the network.
            raise Unavailable(faults.MEMBERS_UNREACHABLE, error.message) from error
        try:
            side = JoinerSide(
                params.domain,
                await self._request(params),
                trust,
                server_certificate_der=certificate,
            )
            wire = StreamWire(reader, writer)
            offer = await run_joiner(side, wire)
        except BaseException:
            writer.transport.abort()
            raise
        self._attempt = _Attempt(params, side, offer, wire, writer)
        self._note("the cluster offers membership", 0.0)
        return JoinPrepared(
            smk=offer.smk,
            cluster_id=offer.cluster_id,
            label=offer.label,
            dual_identity=offer.dual_identity,
            member_id=params.member_id,
            member_certificate_pem=pem(offer.member_certificate_der),
            ca_certificate_pem=pems(offer.ca_certificates_der),
        )

    async def commit(self, _params: Nothing, _role: str) -> Nothing:
        """Become a member: listed, copied, authorized, visible."""
        attempt = self._attempt
        if attempt is None:
            message = "Nothing was prepared: the join must begin anew."
            raise Conflict(faults.JOIN_BROKEN, message)
        try:
            await self._probe_members(attempt.offer)
            await self.begin(self._state(attempt))
            await self._take_in(attempt)
        except BaseException:
            await self.abandon()
            raise
        finally:
            self._drop()
        await self.complete(attempt.offer, self._note)
        self._note("joined", 1.0)
        return Nothing()

    async def abort(self, _params: Nothing, _role: str) -> Nothing:
        """Give the join up, if it was not committed."""
        self._drop()
        return Nothing()

    # ------------------------------------------------------------------ parts

    async def _request(self, params: JoinPrepare) -> JoinRequest:
        member = JoiningMember(
            member_id=params.member_id,
            name=params.member_name,
            address=params.address,
            admin_port=params.admin_port,
            crypto_port=params.crypto_port,
            core_port=self.core_port,
            key_spki_der=_public_key_der(self.key_pem),
        )
        return JoinRequest(
            cluster_id=params.cluster_id,
            admin_user=ADMIN,
            admin_password=params.remote_admin_password,
            member=member,
            appliance_time_ms=self.context.clock.now_ms(),
            software_version=__version__,
            postgresql_major=await self.postgresql_major(),
        )

    def _state(self, attempt: _Attempt) -> MemberState:
        offer, params = attempt.offer, attempt.params
        member_id = MemberId(params.member_id)
        epoch = Epoch(offer.epoch_number, MemberId(offer.epoch_promoter))
        peers = [
            Peer(MemberId(each.member_id), each.address, each.core_port, each.key_sha256)
            for each in offer.members
        ]
        key = key_sha256(_public_key_der(self.key_pem))
        peers.append(Peer(member_id, params.address, self.core_port, key))
        return MemberState(
            cluster_id=ClusterId(offer.cluster_id),
            member_id=member_id,
            standing=Standing.JOINING,
            configuration=Configuration(epoch, MemberId(offer.primary), tuple(peers)),
            accepted=epoch,
            certificate_authorities=tuple(offer.ca_certificates_der),
            certificate=offer.member_certificate_der,
        )

    async def _probe_members(self, offer: JoinOffer) -> None:
        self._note("reaching every member", 0.0)
        for member in offer.members:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    _, writer = await asyncio.open_connection(member.address, member.core_port)
            except (OSError, TimeoutError) as error:
                message = (
                    f"This appliance does not reach member {member.member_id} at"
                    f" {member.address}, port {member.core_port}: {error or 'no answer'}."
                )
                raise Unavailable(faults.MEMBERS_UNREACHABLE, message) from error
            writer.close()

    async def _take_in(self, attempt: _Attempt) -> None:
        """Ask to be listed, and follow what the member does for it."""
        stream = attempt.side.stream
        await attempt.wire.send(stream.seal(msgspec.msgpack.encode(Committed())))
        while True:
            try:
                message = await attempt.wire.receive()
            except Unavailable:
                # Whether it is listed is decided by the primary, not by who could tell of it.
                if await self.is_listed():
                    return
                raise
            told = decode_told(stream.open(message))
            match told:
                case Told(step=step, fraction=fraction):
                    self._note(step, fraction)
                case Done():
                    return
                case _:
                    raise error_from_wire((told.fault, told.message, told.error_class))

    def _drop(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.writer.transport.abort()


def _accept(_hello: Hello, _key: bytes | None) -> Verdict:
    """Let the exchange decide about the member: nothing is known of it yet."""
    return Verdict.accept()


def _public_key_der(key_pem: bytes) -> bytes:
    key = load_pem_private_key(key_pem, None)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
