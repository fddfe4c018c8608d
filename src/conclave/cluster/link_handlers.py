"""What this member does for other members, one handler for each row of `LINK_METHODS`.

Invariant: a method that changes something is run for a listed member only, which the link has
proven; what it asserts about a client is checked again where it is carried out (rule C11).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave import faults
from conclave.cluster import sequences
from conclave.cluster.configuration import Standing
from conclave.cluster.context import Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.duties import Duties
from conclave.cluster.epochs import Epoch
from conclave.cluster.hands import MemberHands
from conclave.cluster.link.hello import Peer
from conclave.cluster.link.messages import (
    Authorization,
    Bump,
    CertifyAnswer,
    CertifyRequest,
    ConfigurationMessage,
    DenyLogin,
    Forward,
    Forwarded,
    Heartbeat,
    HeartbeatAnswer,
    MergeFailures,
    NewMember,
    OpenRequest,
    Pong,
    PortsReport,
    PrepareAnswer,
    PrepareRequest,
    Probe,
    SurveyAnswer,
    SurveyRequest,
)
from conclave.cluster.link.server import Handler
from conclave.cluster.local_failures import merge_here
from conclave.cluster.member_states import TAKEN_METHODS
from conclave.cluster.primary import Primary
from conclave.errors import Conflict, InternalFault, NotAllowed, Unavailable
from conclave.ids import KeyringId, LoginId, MemberId, RowRevision
from conclave.service.channel import Handler as MethodHandler
from conclave.service.messages import SpendContext
from conclave.service.methods import METHODS
from conclave.service.page import SharedPage
from conclave.service.quiet import Nothing, Quiet
from conclave.store.repository import Touched

PROBE_SECONDS: Final = 3.0
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class LinkHandlers:
    """Handlers of the methods between members."""

    context: Context
    coordinator: Coordinator
    hands: MemberHands
    primary: Primary
    methods: Mapping[str, MethodHandler]
    """The local handlers of forwarded methods."""
    describe: Callable[[], Pong]
    users_version: Callable[[], int]
    publish: Callable[[Touched], None]
    lose_primary: Callable[[], None]
    duties: Duties

    def table(self) -> dict[str, Handler]:
        """Return one handler for each method."""
        return {
            "heartbeat": self.heartbeat,
            "ping": self.ping,
            "bump": self.bump,
            "forward": self.forward,
            "deny_login": self.deny_login,
            "spend_context": self.spend_context,
            "merge_failures": self.merge_failures,
            "goodbye": self.goodbye,
            "survey": self.survey,
            "prepare": self.prepare,
            "open_epoch": self.open_epoch,
            "adopt": self.adopt,
            "configuration": self.configuration,
            "authorize_me": self.authorize_me,
            "probe": self.probe,
            "add_member": self.list_member,
            "remove_me": self.remove_me,
            "report_ports": self.report_ports,
            "certify_me": self.certify_me,
        }

    @property
    def page(self) -> SharedPage:
        """Return the shared page."""
        return self.context.page

    # ------------------------------------------------------------------ watching each other

    async def ping(self, _params: Nothing, peer: Peer) -> Pong:
        """Say how this member is."""
        self.hands.neighbours.note_heard(peer.member_id)
        return self.describe()

    async def heartbeat(self, params: Heartbeat, peer: Peer) -> HeartbeatAnswer:
        """Take a follower's sign of life; grant it a lease if it may have one."""
        state = self.coordinator.state
        same = Epoch(params.epoch_number, MemberId(params.epoch_promoter)) == state.epoch
        granted = same and self.primary.hear(peer.member_id, params)
        self.hands.neighbours.note_heard(peer.member_id)
        return HeartbeatAnswer(
            granted=granted,
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            cluster_time_ms=self.page.cluster_time_ms(),
            users_version=self.users_version(),
            timeline=self.primary.timeline,
            written_lsn=self.primary.written_lsn,
        )

    async def goodbye(self, _params: Nothing, peer: Peer) -> Nothing:
        """Wait for this member no longer: its workers are gone.  Of a primary: it is lost."""
        self.primary.note_gone(peer.member_id)
        if peer.member_id == self.coordinator.state.configuration.primary:
            self.lose_primary()
        return Nothing()

    async def bump(self, params: Bump, peer: Peer) -> Nothing:
        """Make cached rows void; refuse it of anybody but the primary of this epoch."""
        state = self.coordinator.state
        epoch = Epoch(params.epoch_number, MemberId(params.epoch_promoter))
        if epoch != state.epoch or peer.member_id != state.configuration.primary:
            message = f"This member lives in epoch {state.epoch}, not in {epoch}."
            raise Conflict(faults.EPOCH_STALE, message)
        self.publish(
            Touched(
                keyrings={KeyringId(name) for name in params.keyrings},
                clients=params.clients,
                everything=params.everything,
                # Only who is Read-Write was waited for; another one's copy may not be that far.
                revision=RowRevision(params.revision if self.page.lease_valid() else 0),
            )
        )
        return Nothing()

    async def deny_login(self, params: DenyLogin, _peer: Peer) -> Nothing:
        """Serve a login no more."""
        self.page.deny_login(LoginId(params.login_id))
        return Nothing()

    async def spend_context(self, params: SpendContext, _peer: Peer) -> Nothing:
        """Take a proof of the password that this member gave and another one's client uses."""
        return self.context.contexts.spend(params, self.page.cluster_time_ms())

    # ------------------------------------------------------------------ writes of others

    async def merge_failures(self, params: MergeFailures, _peer: Peer) -> Nothing:
        """Count what a member counted while it had lost the primary; only on the primary."""
        if not self.primary.active:
            message = "This member is not the open primary; try again."
            raise Unavailable(faults.BUSY, message)
        await merge_here(self.context, params)
        return Nothing()

    async def forward(self, params: Forward, _peer: Peer) -> Forwarded:
        """Run a method here that was called at another member; only on the primary."""
        handler = self.methods.get(params.method)
        if handler is None or params.method not in TAKEN_METHODS:
            message = f"Method {params.method[:64]!r} is not forwarded."
            raise NotAllowed(faults.NO_ACL_RULE, message)
        if not self.primary.active:
            message = "This member is not the open primary; try again."
            raise Unavailable(faults.BUSY, message)
        try:
            parameter = msgspec.msgpack.decode(params.params, type=METHODS[params.method].parameter)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"Method {params.method} was forwarded in another shape: {error}."
            raise InternalFault(faults.INTERNAL, message) from error
        result: Quiet = await handler(parameter, params.role)
        return Forwarded(result=msgspec.msgpack.encode(result))

    # ------------------------------------------------------------------ epochs

    async def survey(self, params: SurveyRequest, _peer: Peer) -> SurveyAnswer:
        """Say what this member knows of another one."""
        return SurveyAnswer(survey=await self.hands.survey(params.target))

    async def prepare(self, params: PrepareRequest, _peer: Peer) -> PrepareAnswer:
        """Promise this member to an epoch, or say what was promised before."""
        deleting = MemberId(params.deleting) if params.deleting is not None else None
        question = sequences.AskPrepare(
            params.epoch, params.living, deleting=deleting, renewing=params.renewing
        )
        promise = await self.coordinator.run(lambda state: sequences.prepare(state, question))
        return PrepareAnswer(given=promise.given, accepted=promise.accepted)

    async def open_epoch(self, params: OpenRequest, _peer: Peer) -> Nothing:
        """Become primary."""
        await self.coordinator.run(
            lambda state: sequences.open_epoch(state, params.configuration, params.position)
        )
        return Nothing()

    async def adopt(self, params: ConfigurationMessage, _peer: Peer) -> Nothing:
        """Live in a newer configuration."""
        await self.coordinator.run(lambda state: sequences.follow(state, params.configuration))
        return Nothing()

    async def configuration(self, _params: Nothing, _peer: Peer) -> ConfigurationMessage:
        """Tell the configuration that this member lives in."""
        return ConfigurationMessage(configuration=self.coordinator.state.configuration)

    # ------------------------------------------------------------------ members

    async def authorize_me(self, _params: Nothing, peer: Peer) -> Authorization:
        """Give the SMK to a listed member that returns (rule C9)."""
        return await self.duties.authorization(peer)

    async def probe(self, params: Probe, _peer: Peer) -> Nothing:
        """Try to reach an address from here."""
        await probe_from(self.coordinator.state.member_id, params)
        return Nothing()

    async def list_member(self, params: NewMember, _peer: Peer) -> ConfigurationMessage:
        """List a new member, as the primary."""
        await self.duties.add_member(params)
        return ConfigurationMessage(configuration=self.coordinator.state.configuration)

    async def remove_me(self, _params: Nothing, peer: Peer) -> Nothing:
        """Let the caller leave, as the primary."""
        await self.duties.remove_member(peer.member_id, Standing.LEFT)
        return Nothing()

    async def report_ports(self, params: PortsReport, peer: Peer) -> Nothing:
        """Take note of the caller's ports, as the primary."""
        await self.duties.set_ports(peer.member_id, params)
        return Nothing()

    async def certify_me(self, params: CertifyRequest, peer: Peer) -> CertifyAnswer:
        """Certify the caller's listed key anew, as the primary."""
        der = await self.duties.certify(peer.member_id, params.key_spki_der)
        return CertifyAnswer(certificate_der=der)


async def probe_from(own_id: MemberId, probe: Probe) -> None:
    """Try to reach an address from here; raise Unavailable (MEMBERS_UNREACHABLE) with the pair."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(probe.address, probe.port)
    except (OSError, TimeoutError) as error:
        message = (
            f"Member {own_id} does not reach {probe.address}, port {probe.port}:"
            f" {error or 'no answer'}."
        )
        raise Unavailable(faults.MEMBERS_UNREACHABLE, message) from error
    writer.close()
