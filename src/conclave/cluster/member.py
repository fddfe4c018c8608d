"""A member of a cluster: its parts put together, started in its role, and kept in it.

Invariant: the role that PostgreSQL has follows the durable state, never the other way round; a
member that cannot take its role yet is Read-Only and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from conclave import __version__, faults
from conclave.cluster import sequences
from conclave.cluster.ca import der, pem
from conclave.cluster.configuration import Configuration, MemberState, Standing
from conclave.cluster.configuration import Peer as MemberPeer
from conclave.cluster.context import Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.duties import Duties, rotate_keys
from conclave.cluster.epochs import Epoch
from conclave.cluster.follower import Follower, log_progress
from conclave.cluster.hands import MemberHands
from conclave.cluster.judging import REASON_DELETED, REASON_LEFT, hello_of, judge
from conclave.cluster.link.hello import Hello, LinkRefused, Verdict
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import (
    ConfigurationMessage,
    Heartbeat,
    Pong,
    PortsReport,
)
from conclave.cluster.link.server import JoinHandler, LinkLimits, LinkServer
from conclave.cluster.link.streams import StreamPair
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.link_handlers import LinkHandlers
from conclave.cluster.member_state import MemberStateFile
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.notices import Notices
from conclave.cluster.primary import Primary
from conclave.cluster.pulse import Pulse
from conclave.cluster.replication import Places, Progress, Replication
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId, RowRevision
from conclave.service.channel import Handler
from conclave.service.messages import Authorize, Nothing
from conclave.service.page import NO_LEASE_END
from conclave.settings import ClusterTimes, PostgresqlSettings
from conclave.store.postgresql import Instance
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql import binaries as programs
from conclave.store.repository import Touched
from conclave.store.rows import ClusterStateRow, MemberRow

TEND_SECONDS: Final = 0.5
JOIN_SECONDS: Final = 900.0
"""Of a whole join on the member's side, the conversion of the store included."""
GOODBYE_SECONDS: Final = 1.0
ROLE_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
KEPT_AUTHORITIES: Final = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Home:
    """What the daemon gave to this process for its member."""

    state_dir: Path
    places: Places
    key_pem: bytes
    times: ClusterTimes
    postgresql: PostgresqlSettings
    admin_port: int
    crypto_port: int


class Member:
    """All parts of this member, from its start to its stop or its leave."""

    def __init__(
        self,
        context: Context,
        home: Home,
        file: MemberStateFile,
        state: MemberState,
        notices: Notices,
        *,
        methods: Mapping[str, Handler],
        authorize: Callable[[Authorize], Awaitable[None]],
        publish: Callable[[Touched], None],
        join_handler: JoinHandler,
        completes_join: bool,
    ) -> None:
        self.context = context
        self.home = home
        self.notices = notices
        self.file = file
        self._completes_join = completes_join
        self.restart_required = False
        self.users_version = 0
        self.coordinator = Coordinator(file, state)
        self.identity = LinkIdentity(b"", b"", b"", state.member_id)
        self.neighbours = Neighbours(
            self.identity,
            lambda: self.coordinator.state,
            home.times,
            self._refused,
            self._heard,
        )
        account = accounts.find(home.postgresql.account)
        directories = home.places.postgresql

        def make_instance() -> Instance:
            found = programs.find(home.postgresql.directory)
            return Instance(
                programs.reachable(found, account),
                directories.data,
                directories.run,
                account,
                member_id=state.member_id,
                on_exit=self._postgresql_died,
            )

        tunnel = Tunnel(
            directories.run / accounts.UPSTREAM,
            self._open_upstream,
            mode=0o600,
            uid=account.uid,
            gid=account.gid,
        )
        self.replication = Replication(
            home.places,
            make_instance,
            tunnel,
            context.store,
            member_id=state.member_id,
            account=account,
            on_open=self._store_opened,
        )
        self.primary = Primary(
            self.coordinator,
            self.neighbours,
            self.replication,
            context.store,
            times=home.times,
            set_own_lease=self._set_own_lease,
        )
        self.hands = MemberHands(
            context,
            self.coordinator,
            self.neighbours,
            self.replication,
            self.primary,
            self._cut,
            self._state_changed,
            rotate_keys,
        )
        self.coordinator.hands = self.hands
        self.follower = Follower(
            self.coordinator,
            self.neighbours,
            self.replication,
            context.page,
            home.times,
            describe=self._heartbeat,
            position=self._position,
            on_newer=self.learn_from,
            on_users=self.note_users,
        )
        self.duties = Duties(
            context,
            self.coordinator,
            self.neighbours,
            self.replication,
            self.hands,
            home.times,
            authorize,
            PortsReport(admin_port=home.admin_port, crypto_port=home.crypto_port),
        )
        handlers = LinkHandlers(
            context,
            self.coordinator,
            self.hands,
            self.primary,
            methods,
            self.describe,
            lambda: self.users_version,
            publish,
            self.duties,
        )
        self.server = LinkServer(
            self.identity,
            self._judge,
            lambda channel: hello_of(self.coordinator.state, channel),
            handlers.table(),
            self._open_local,
            join_handler=join_handler,
            limits=LinkLimits(join_seconds=JOIN_SECONDS),
        )
        self.pulse = Pulse(
            self.replication, directories.run, lambda: self._postgresql_died(-signal.SIGKILL)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        self._role_taken = False
        self._role_tried = asyncio.Event()
        self._members_seen: tuple[object, ...] = ()
        self._learning: set[MemberId] = set()

    # ------------------------------------------------------------------ life

    @property
    def state(self) -> MemberState:
        """Return what this member durably knows."""
        return self.coordinator.state

    async def start(self) -> None:
        """Listen to the other members, take the role, and keep it."""
        self.use_certificate()
        state = self.state
        own = state.configuration.peer(state.member_id)
        if state.standing in (Standing.LEFT, Standing.DELETED) or own is None:
            await self.notices.change(removed=state.standing.value)
            return
        self.context.page.set_lease_end(0)
        await self.server.start(own.address, own.core_port)
        self.neighbours.refresh()
        for work in (
            self.neighbours.ping_for_ever,
            self.follower.beat_for_ever,
            self.primary.watch_for_ever,
            self.pulse.watch_for_ever,
            self._tend_for_ever,
        ):
            self._tasks.append(asyncio.create_task(_kept_going(work)))
        # Most members have their role at once; who waits for others goes on beside its callers.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROLE_SECONDS):
                await self._role_tried.wait()

    async def close(self, *, goodbye: bool) -> None:
        """Stop all parts; say goodbye to the primary when the workers are gone."""
        tasks, self._tasks = self._tasks, []
        for task in (*tasks, *self._background):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.context.page.set_lease_end(0)
        if goodbye and not self.state.is_primary:
            primary = self.state.configuration.primary
            await self.neighbours.tell_all([primary], "goodbye", Nothing(), GOODBYE_SECONDS)
        await self.pulse.close()
        await self.replication.close()
        await self.server.close()
        await self.neighbours.close()

    def use_certificate(self) -> None:
        """Show the certificate that the state holds."""
        state = self.state
        authorities = "".join(pem(each) for each in state.certificate_authorities)
        self.identity.replace(
            pem(state.certificate).encode(), self.home.key_pem, authorities.encode()
        )

    async def take_certificate(self, row: MemberRow, authority: x509.Certificate) -> None:
        """Keep and show the certificate that the cluster's CA made for this member."""
        encoded = der(authority)

        def change(state: MemberState) -> MemberState:
            own = state.configuration.peer(row.member_id)
            configuration = state.configuration
            if own is not None and own.key_sha256 != row.key_sha256:
                peer = replace(own, key_sha256=row.key_sha256)
                configuration = configuration.with_peer(configuration.epoch, peer)
            authorities = state.certificate_authorities
            if encoded not in authorities:
                authorities = (encoded, *authorities)[:KEPT_AUTHORITIES]
            return replace(
                state,
                configuration=configuration,
                certificate=row.certificate_der,
                certificate_authorities=authorities,
            )

        before = self.state
        if await self.coordinator.save(change) != before:
            self.use_certificate()
            self.neighbours.drop_connections()

    # ------------------------------------------------------------------ role

    async def take_role(self) -> None:
        """Lead, follow, or hand over once more, as the state says."""
        state = self.state
        if state.handing_over:
            position = await self.replication.stop()
            await self.coordinator.change(lambda state: sequences.finish_promotion(state, position))
        elif state.may_write:
            await self.coordinator.change(
                lambda state: sequences.open_epoch(state, state.configuration, None)
            )
        elif state.standing is Standing.JOINING:
            if self._completes_join:
                await self.complete_copy(log_progress)
            return
        elif self.replication.replicated:
            await self.replication.follow(wait=False)
        self._role_taken = True

    async def complete_copy(self, progress: Progress) -> None:
        """Copy the store of the primary, and be a member from then on."""
        await self.replication.copy_anew(progress)
        await self.coordinator.save(lambda state: replace(state, standing=Standing.MEMBER))
        self._role_taken = True

    async def _tend_for_ever(self) -> None:
        """Do what a role needs that no message brings about."""
        while True:
            try:
                await self._tend()
            except ConclaveError as error:
                logger.info("Tried in vain, trying again: %s", error.message)
            self._role_tried.set()
            await asyncio.sleep(TEND_SECONDS)

    async def _tend(self) -> None:
        state = self.state
        if state.standing not in (Standing.MEMBER, Standing.JOINING):
            return
        if not self._role_taken or state.handing_over or self._is_out_of_role():
            await self.take_role()
        opens = state.standing is Standing.MEMBER and self.context.store.readable
        wants_authorization = opens and not self.context.authorized
        if wants_authorization and self.home.times.automatic_authorization:
            await self.duties.ask_for_authorization()
        self._note_members()
        if self.primary.active and self._somebody_promised_more():
            await self.coordinator.change(sequences.renew)

    def _note_members(self) -> None:
        """Let clients look again when what they are told of the members has changed."""
        others = []
        for peer in self.state.others():
            report = self.neighbours.report(peer.member_id)
            others.append((peer.member_id, report and (report.authorized, report.read_write)))
        seen = (self.state.epoch, self.context.authorized is not None, *others)
        if seen != self._members_seen:
            self._members_seen = seen
            self.context.page.bump_members()

    def _is_out_of_role(self) -> bool:
        """Tell whether PostgreSQL is down, or a step towards the role was not completed."""
        if self.replication.changing:
            return False
        if self.replication.replicated and not self.replication.running:
            return True
        unopened = self.state.may_write and (self.hands.unfinished or not self.primary.begun)
        return unopened or not self.context.store.readable

    def _somebody_promised_more(self) -> bool:
        accepted = self.state.accepted.number
        reports = (self.neighbours.report(peer.member_id) for peer in self.state.others())
        return any(report is not None and report.accepted_number > accepted for report in reports)

    def _postgresql_died(self, status: int) -> None:
        logger.error("PostgreSQL ended with status %d; it is started again.", status)
        self.replication.leads = False
        self.context.store.shut()
        self.context.page.set_lease_end(0)
        self._role_taken = False

    def _store_opened(self, position: RowRevision) -> None:
        """Void what workers cached of another store, and tell how far this one is."""
        self.context.page.set_log_position(position)
        self.context.page.bump_global()

    def _set_own_lease(self, valid: bool) -> None:
        self.context.page.set_lease_end(NO_LEASE_END if valid else 0)

    # ------------------------------------------------------------------ the link

    def _judge(self, hello: Hello, key: bytes | None, _address: str) -> Verdict:
        return judge(self.state, hello, key)

    async def _open_local(self) -> StreamPair:
        path = self.home.places.postgresql.run / accounts.SOCKET_NAME
        return await asyncio.open_unix_connection(str(path))

    async def _open_upstream(self) -> StreamPair:
        state = self.state
        if state.is_primary or state.gave_up:
            message = "This member follows nobody at present."
            raise Unavailable(faults.BUSY, message)
        return await self.neighbours.open_postgresql(state.configuration.primary)

    def _cut(self, member_id: MemberId) -> None:
        self.server.cut(member_id)

    def _refused(self, member_id: MemberId, refusal: LinkRefused) -> None:
        """Learn from a member that sends this one away that it was removed."""
        verdict, state = refusal.verdict, self.state
        peer = state.configuration.peer(member_id)
        genuine = peer is not None and refusal.key_sha256 == peer.key_sha256
        if not genuine or not refusal.by_peer or verdict.epoch is None:
            return
        if verdict.reason in (REASON_LEFT, REASON_DELETED) and verdict.epoch > state.epoch:
            self._run(self._end_membership(Standing(verdict.reason), verdict.epoch))

    def _heard(self, member_id: MemberId, pong: Pong) -> None:
        epoch = Epoch(pong.epoch_number, MemberId(pong.epoch_promoter))
        if epoch > self.state.epoch and member_id not in self._learning:
            self._run(self.learn_from(member_id))

    async def learn_from(self, member_id: MemberId) -> None:
        """Ask a member for its newer configuration, and live in it."""
        self._learning.add(member_id)
        try:
            answer: ConfigurationMessage = await self.neighbours.call(
                member_id, "configuration", Nothing(), timeout_seconds=2.0
            )
            if answer.configuration.epoch > self.state.epoch:
                await self.coordinator.run(
                    lambda state: sequences.follow(state, answer.configuration)
                )
        finally:
            self._learning.discard(member_id)

    async def _end_membership(self, how: Standing, epoch: Epoch) -> None:
        state = self.state
        logger.warning("This member is no member any more: it %s in epoch %s.", how, epoch)
        configuration = state.configuration.without(
            epoch, state.member_id, how, state.configuration.primary
        )
        await self.coordinator.run(lambda state: sequences.follow(state, configuration))

    def _state_changed(self, state: MemberState) -> None:
        if state.standing in (Standing.LEFT, Standing.DELETED):
            self._run(self.notices.change(removed=state.standing.value))

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            try:
                await work
            except ConclaveError as error:
                logger.info("What a member told could not be acted on: %s", error.message)
            except Exception:  # the boundary of a task that nobody waits for
                logger.exception("What a member told could not be acted on by an error of ours.")

        task = asyncio.get_running_loop().create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # It may be cancelled before it has begun.
        task.add_done_callback(lambda _task: work.close())

    # ------------------------------------------------------------------ what it says of itself

    def describe(self) -> Pong:
        """Return what other members are told."""
        state = self.state
        return Pong(
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            accepted_number=state.accepted.number,
            authorized=self.context.authorized is not None,
            read_write=self.context.page.lease_valid(),
            restart_required=self.restart_required,
            version=__version__,
        )

    async def _heartbeat(self, sent_ms: int) -> Heartbeat:
        state = self.state
        return Heartbeat(
            member_id=state.member_id,
            sent_boot_ms=sent_ms,
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            authorized=self.context.authorized is not None,
            read_write=self.context.page.lease_valid(),
            restart_required=self.restart_required,
            version=__version__,
            received_lsn=0,
            replayed_lsn=0,
            timeline=0,
        )

    async def _position(self) -> RowRevision:
        return await self.context.read(lambda reader: reader.revision())

    def note_users(self, version: int) -> None:
        """Take note of the users' version that the primary has."""
        if version != self.users_version:
            self.users_version = version
            self._run(self.notices.change(users_version=version))


async def _kept_going(work: Callable[[], Awaitable[None]]) -> None:
    """Run what must never end; after an error that nobody foresaw it is begun anew."""
    while True:
        try:
            await work()
        except Exception:
            # The boundary of a task without which the member would stand still unnoticed.
            logger.exception("A task of the member failed by an error of ours; it goes on.")
        await asyncio.sleep(AGAIN_SECONDS)


def first_state(cluster: ClusterStateRow, row: MemberRow, core_port: int) -> MemberState:
    """Return the state of the first member of a cluster."""
    epoch = Epoch(cluster.epoch_number, cluster.epoch_member)
    member_id = row.member_id
    peer = MemberPeer(member_id, row.address, core_port, row.key_sha256)
    return MemberState(
        cluster_id=cluster.cluster_id,
        member_id=member_id,
        standing=Standing.MEMBER,
        configuration=Configuration(epoch, member_id, (peer,)),
        accepted=epoch,
        visible=(member_id,),
        certificate_authorities=(cluster.ca_certificate_der,),
        certificate=row.certificate_der,
    )
