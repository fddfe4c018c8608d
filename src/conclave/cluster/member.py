"""A member of a cluster: its parts put together, started, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from conclave.cluster import lineage
from conclave.cluster.configuration import Configuration, MemberState, Standing
from conclave.cluster.configuration import Peer as MemberPeer
from conclave.cluster.context import Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.duties import Duties
from conclave.cluster.epochs import Epoch
from conclave.cluster.follower import Follower
from conclave.cluster.hands import MemberHands
from conclave.cluster.judging import hello_of
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import (
    PortsReport,
)
from conclave.cluster.link.server import JoinHandler, LinkLimits, LinkServer
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.link_handlers import LinkHandlers
from conclave.cluster.member_base import Home
from conclave.cluster.member_role import MemberRole
from conclave.cluster.member_state import MemberStateFile
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.notices import Notices
from conclave.cluster.primary import Primary
from conclave.cluster.pulse import Pulse
from conclave.cluster.replication import Replication
from conclave.cluster.rotation import rotate_keys
from conclave.ids import MemberId
from conclave.service.channel import Handler
from conclave.service.messages import Authorize
from conclave.service.quiet import Nothing
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql import binaries as programs
from conclave.store.postgresql.instance import Instance
from conclave.store.repository import Touched
from conclave.store.rows import ClusterStateRow, MemberRow

JOIN_SECONDS: Final = 900.0
"""Of a whole join on the member's side, the conversion of the store included."""
GOODBYE_SECONDS: Final = 1.0
ROLE_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a member needs of the process around it."""

    methods: Mapping[str, Handler]
    """The local handlers of methods that other members forward."""
    authorize: Callable[[Authorize], Awaitable[None]]
    publish: Callable[[Touched], None]
    join_handler: JoinHandler
    on_left: Callable[[], None]
    """Forgets the cluster, which this member is not in any more, beside all else."""
    tend_certificates: Callable[[], Awaitable[None]]
    """Does what is due of this member's certificate and the cluster's keys."""


class Member(MemberRole):
    """All parts of this member, from its start to its stop or its leave."""

    def __init__(
        self,
        context: Context,
        home: Home,
        file: MemberStateFile,
        state: MemberState,
        notices: Notices,
        *,
        outside: Outside,
        completes_join: bool,
    ) -> None:
        self.context = context
        self.home = home
        self.notices = notices
        self.file = file
        self.completes_join = completes_join
        self.restart_required = False
        self.issuers = None
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
        self._tasks: list[asyncio.Task[None]] = []
        self.background: set[asyncio.Task[None]] = set()
        self.role_taken = False
        self.role_tried = asyncio.Event()
        self.members_seen: tuple[object, ...] = ()
        self.learning: set[MemberId] = set()
        self.deleted_by: dict[MemberId, lineage.Refusal] = {}
        self.ending = False
        self.on_left = outside.on_left
        self.tend_certificates = outside.tend_certificates
        self._make_replication()
        self._make_watchers()
        self._make_duties(outside)

    def _make_replication(self) -> None:
        account = accounts.find(self.home.postgresql.account)
        directories = self.home.places.postgresql

        def make_instance() -> Instance:
            found = programs.find(self.home.postgresql.directory)
            return Instance(
                programs.reachable(found, account),
                directories.data,
                directories.run,
                account,
                member_id=self.state.member_id,
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
            self.home.places,
            make_instance,
            tunnel,
            self.context.store,
            member_id=self.state.member_id,
            account=account,
            on_open=self._store_opened,
            may_lead=lambda: self.state.may_write,
        )
        self.replication.before_loss = self.keep_extra_rows

    def _make_watchers(self) -> None:
        self.primary = Primary(
            self.coordinator,
            self.neighbours,
            self.replication,
            self.context.store,
            times=self.home.times,
            set_own_lease=self._set_own_lease,
        )
        self.hands = MemberHands(
            self.context,
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
            self.context.page,
            self.home.times,
            describe=self._heartbeat,
            position=self._position,
            on_newer=self.learn_from,
            on_users=self.note_users,
        )

    def _make_duties(self, outside: Outside) -> None:
        self.duties = Duties(
            self.context,
            self.coordinator,
            self.neighbours,
            self.replication,
            self.hands,
            self.home.times,
            outside.authorize,
            PortsReport(admin_port=self.home.admin_port, crypto_port=self.home.crypto_port),
        )
        handlers = LinkHandlers(
            self.context,
            self.coordinator,
            self.hands,
            self.primary,
            outside.methods,
            self.describe,
            lambda: self.users_version,
            outside.publish,
            self.follower.lose_primary,
            self.duties,
        )
        self.server = LinkServer(
            self.identity,
            self._judge,
            lambda channel: hello_of(self.coordinator.state, channel),
            handlers.table(),
            self._open_local,
            join_handler=outside.join_handler,
            limits=LinkLimits(join_seconds=JOIN_SECONDS),
        )
        self.pulse = Pulse(
            self.replication,
            self.home.places.postgresql.run,
            lambda: self._postgresql_died(-signal.SIGKILL),
        )

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen to the other members, take the role, and keep it."""
        self.use_certificate()
        state = self.state
        own = state.configuration.peer(state.member_id)
        if state.standing in (Standing.LEFT, Standing.DELETED) or own is None:
            self._state_changed(state)
            return
        self.context.page.set_lease_end(0)
        await self.server.start(own.address, own.core_port)
        self.neighbours.refresh()
        for work in (
            self.neighbours.ping_for_ever,
            self.follower.beat_for_ever,
            self.primary.watch_for_ever,
            self.pulse.watch_for_ever,
            self.tend_for_ever,
            self.renew_for_ever,
        ):
            self._tasks.append(asyncio.create_task(_kept_going(work)))
        # Most members have their role at once; who waits for others goes on beside its callers.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROLE_SECONDS):
                await self.role_tried.wait()

    async def close(self, *, goodbye: bool) -> None:
        """Stop all parts; say goodbye when the workers are gone.

        The primary waits no longer for a member that said it; the others of a primary that said it
        know at once that they have lost it, not when their leases end.
        """
        tasks, self._tasks = self._tasks, []
        for task in (*tasks, *self.background):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.context.page.set_lease_end(0)
        if goodbye:
            self.primary.end()
            told = [self.state.configuration.primary]
            if self.state.is_primary:
                told = [peer.member_id for peer in self.state.others()]
            await self.neighbours.tell_all(told, "goodbye", Nothing(), GOODBYE_SECONDS)
        await self.pulse.close()
        await self.replication.close()
        await self.server.close()
        await self.neighbours.close()


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
