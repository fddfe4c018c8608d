"""What every part of a member can reach, and what a member says of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conclave.cluster.ca import pems, spki_of_key
from conclave.cluster.configuration import MemberState
from conclave.cluster.context import Authorized, Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.duties import Duties
from conclave.cluster.follower import Follower
from conclave.cluster.hands import MemberHands
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import (
    Heartbeat,
    Pong,
)
from conclave.cluster.link.server import LinkServer
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.notices import Notices
from conclave.cluster.primary import Primary
from conclave.cluster.pulse import Pulse
from conclave.cluster.replication import Replication
from conclave.cluster.replication_base import Places
from conclave.errors import ConclaveError
from conclave.ids import RowRevision
from conclave.settings import ClusterTimes, PostgresqlSettings
from conclave.store.rows import MemberRow

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


class MemberBase:
    """The parts of a member; `Member` puts them together."""

    context: Context
    home: Home
    notices: Notices
    coordinator: Coordinator
    identity: LinkIdentity
    neighbours: Neighbours
    replication: Replication
    primary: Primary
    hands: MemberHands
    follower: Follower
    duties: Duties
    server: LinkServer
    pulse: Pulse
    restart_required: bool
    issuers: tuple[bytes, ...] | None
    """Key identifiers of the CAs whose certificates its workers show, as the daemon says."""
    users_version: int
    background: set[asyncio.Task[None]]

    @property
    def state(self) -> MemberState:
        """Return what this member durably knows."""
        return self.coordinator.state

    def run_beside(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine beside the others; what the cluster refuses is logged."""

        async def run() -> None:
            try:
                await work
            except ConclaveError as error:
                logger.info("What a member told could not be acted on: %s", error.message)
            except Exception:  # the boundary of a task that nobody waits for
                logger.exception("What a member told could not be acted on by an error of ours.")

        task = asyncio.get_running_loop().create_task(run())
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        # It may be cancelled before it has begun.
        task.add_done_callback(lambda _task: work.close())

    def use_certificate(self) -> None:
        """Show the certificate that the state holds."""
        state = self.state
        self.identity.replace(
            pems((state.certificate, *state.cross_certificates)).encode(),
            self.home.key_pem,
            pems(state.certificate_authorities).encode(),
        )

    @property
    def key_spki_der(self) -> bytes:
        """Return this member's public key, as SubjectPublicKeyInfo."""
        return spki_of_key(self.home.key_pem)

    async def take_certificate(self, row: MemberRow, authorized: Authorized) -> bool:
        """Keep and show the certificate that the cluster's CA made for this member.

        Returns whether it is another one than before.
        """
        new_key = new_certificate = False

        def change(state: MemberState) -> MemberState:
            nonlocal new_key, new_certificate
            own = state.configuration.peer(row.member_id)
            configuration = state.configuration
            new_key = own is not None and own.key_sha256 != row.key_sha256
            if own is not None and new_key:
                peer = replace(own, key_sha256=row.key_sha256)
                configuration = configuration.with_peer(configuration.epoch, peer)
            changed = replace(
                state,
                configuration=configuration,
                certificate=row.certificate_der,
                certificate_authorities=authorized.authorities,
                cross_certificates=authorized.keys.cross_certificates,
            )
            new_certificate = changed != state
            return changed

        await self.coordinator.save(change)
        if new_certificate:
            self.use_certificate()
        if new_key:
            # A certificate of the same key changes nothing for who is connected.
            self.neighbours.drop_connections()
        return new_certificate

    # ------------------------------------------------------------------ what it says of itself

    def describe(self) -> Pong:
        """Return what other members are told."""
        state = self.state
        return Pong(
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            accepted_number=state.accepted.number,
            accepted_promoter=state.accepted.promoter,
            gave_up=state.gave_up,
            authorized=self.context.authorized is not None,
            read_write=self.context.page.lease_valid(),
            restart_required=self.restart_required,
            version=self.context.settings.package_version,
            issuers=self.issuers,
        )

    async def _heartbeat(self, sent_ms: int) -> Heartbeat:
        state = self.state
        return Heartbeat(
            sent_boot_ms=sent_ms,
            epoch_number=state.epoch.number,
            epoch_promoter=state.epoch.promoter,
            read_write=self.context.page.lease_valid(),
        )

    async def _position(self) -> RowRevision:
        return await self.context.read(lambda reader: reader.revision())

    def note_users(self, version: int) -> None:
        """Take note of the users' version that the primary has."""
        if version != self.users_version:
            self.users_version = version
            self.run_beside(self.notices.change(users_version=version))
