"""The cluster service: its configuration, start and stop, and the daemon's calls into it.

Invariant: the service runs only on a partition that passes rule S1, and the member is authorized
only by the CO's password since the last start: a stop, a restart or the daemon's death ends the
authorization, a crash of a child does not (rule S4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from conclave import faults
from conclave.appliance.admin_listener import AdminListener
from conclave.appliance.boot_start import BootStart
from conclave.appliance.changes import Changes
from conclave.appliance.cluster_config import ClusterConfig, ListenerConfig
from conclave.appliance.cluster_files import remove_cluster_files
from conclave.appliance.cluster_join import JoinRequest, Tell
from conclave.appliance.cluster_processes import ClusterProcesses
from conclave.appliance.cluster_settings import ClusterSettings
from conclave.appliance.cluster_watch import ClusterWatch
from conclave.appliance.doors import Door
from conclave.appliance.member_identity import MemberIdentity
from conclave.appliance.member_steps import CALL_SECONDS, MemberSteps
from conclave.appliance.package_version import ClusterPackage, Release
from conclave.appliance.paths import StatePaths
from conclave.clock import ApplianceClock
from conclave.errors import Conflict, NotAllowed
from conclave.hsm.hsm import Hsm
from conclave.service.messages import (
    ClusterSummary,
    DeletedMember,
    MemberReport,
    Notice,
    RefusedJoin,
)
from conclave.service.quiet import Quiet
from conclave.store.location import EngineName

__all__ = ["ClusterConfig", "ClusterService", "ClusterServiceStatus", "ListenerConfig"]

ServiceState = Literal["stopped", "starting", "running", "removed"]
"""removed: the processes run, and serve nothing until the factory reset."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterServiceStatus:
    """What runs: `pids` has `cluster`, `worker-0` ... for the processes of the service."""

    status: Literal["running", "stopped"]
    state: ServiceState
    on_boot: bool
    has_cluster: bool
    """A cluster was made or joined here, whether or not the service runs."""
    authorized: bool
    pids: dict[str, int]
    restart_required: tuple[str, ...]
    """Why a restart is required; empty when what runs is what is configured."""


class Listeners:
    """Who wants to be called when something happens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def add(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time from now on."""
        self._listeners.append(listener)

    def notify(self) -> None:
        """Call all of them."""
        for listener in self._listeners:
            listener()


class News:
    """What of the cluster process's notices others are told of, each thing once."""

    def __init__(self, on_users_change: Listeners) -> None:
        self.on_refused_join: Callable[[RefusedJoin], None] = lambda _refused: None
        """Called for each join that guessed wrong here."""
        self._on_users_change = on_users_change
        self._last_refused_join = 0
        self._users_version: int | None = None

    def take(self, notice: Notice) -> None:
        """Tell what is new in a notice."""
        for refused in notice.refused_joins:
            if refused.number > self._last_refused_join:
                self._last_refused_join = refused.number
                self.on_refused_join(refused)
        if notice.users_version != self._users_version:
            self._users_version = notice.users_version
            self._on_users_change.notify()


class ClusterService:
    """Start, stop, configure and call the cluster service."""

    def __init__(
        self,
        *,
        paths: StatePaths,
        configured: ClusterSettings,
        hsm: Hsm,
        identity: MemberIdentity,
        clock: ApplianceClock,
        make_processes: Callable[[ClusterConfig, Release], ClusterProcesses],
        admin: AdminListener,
        package: ClusterPackage,
    ) -> None:
        self._paths = paths
        self._configured = configured
        self._hsm = hsm
        self._identity = identity
        self._clock = clock
        self._make_processes = make_processes
        self._admin = admin
        self._steps = MemberSteps(hsm=hsm, identity=identity, configured=configured, admin=admin)
        self._processes: ClusterProcesses | None = None
        self._watch: ClusterWatch | None = None
        self._state: ServiceState = "stopped"
        self._changes = Changes()
        self._boot = BootStart(lambda: configured.stored)
        self._stopping: asyncio.Task[None] | None = None
        self.on_serving: Final = Listeners()
        """After every start, creation and authorization."""
        self.on_users_change: Final = Listeners()
        """After a join, and when the cluster's users may have changed."""
        self.news: Final = News(self.on_users_change)
        self._package = package

    def attach_admin_door(self, door: Door) -> None:
        """Name the listener that is open while the service runs."""
        self._admin.attach(door)

    # ---- configuration

    def config(self) -> ClusterConfig:
        """Return the configuration."""
        return self._configured.config()

    async def set_core_address(self, address: str) -> None:
        """Fix the core address: one of the appliance's, once until factory reset (S6)."""
        async with self._changes.one():
            await self._configured.set_core_address(address)

    async def set_listener(
        self, service: str, *, interface: str | None = None, port: int | None = None
    ) -> None:
        """Bind admin or crypto to an interface, a port, or both; None leaves it as it is."""
        async with self._changes.one():
            await self._configured.set_listener(service, interface, port, self._clock.now_ms())
            self._report_soon()

    async def set_identity(self, mode: str) -> None:
        """Choose single or dual identity; Conflict once a cluster exists (K1)."""
        async with self._changes.one():
            await self._configured.set_identity(mode)

    async def set_on_boot(self, value: bool) -> None:
        """Say whether the service starts with the appliance; starts and stops nothing (S3)."""
        async with self._changes.one():
            await self._configured.set_on_boot(value)

    # ---- start and stop

    async def start(self, *, force: bool = False) -> None:
        """Start and wait until ready; `force` passes over the certificate's validity only."""
        async with self._changes.one(), self._package.held():
            if self._state in ("stopped", "starting"):
                await self._start(force=force)

    async def stop(self) -> None:
        """Stop, wiping the SMK: the member must be authorized again; a join is called off."""
        async with self._changes.ending():
            await self._stop()

    async def restart(self, *, force: bool = False) -> None:
        """Stop and start: the member must be authorized again (S4); refused during a join."""
        async with self._changes.one(), self._package.held():
            self._check_start(force=force)
            await self._stop()
            await self._start(force=force)

    async def factory_reset(self) -> None:
        """Remove cluster store, core address and certificates; keep HSM, partition and SMK (S8)."""
        async with self._changes.ending():
            await self._stop()
            account = self._configured.postgresql_account
            await asyncio.to_thread(remove_cluster_files, self._paths, account)
            await self._identity.forget()
            self._admin.use(None)
            await self._configured.reset()
            self._paths.make()

    async def start_on_boot(self) -> None:
        """Start when it was enabled; a refusal is logged, and what may pass is tried again."""
        await self._boot.run(self._start_at_boot)

    def stop_soon(self) -> None:
        """Stop because the HSM lost the SMK: what it zeroizes must not go on serving."""
        if self._state != "stopped":
            _log.warning("the HSM lost the SMK: the cluster service stops")
            self._stopping = asyncio.create_task(self.stop())

    def status(self) -> ClusterServiceStatus:
        """Return status, state and processes."""
        processes = self._processes
        return ClusterServiceStatus(
            status="running" if self._state in ("running", "removed") else "stopped",
            state=self._state,
            on_boot=self._configured.stored.on_boot,
            has_cluster=self._configured.stored.cluster_created,
            authorized=processes is not None and processes.authorized,
            pids={} if processes is None else processes.pids(),
            restart_required=self._steps.restart_causes(processes, self._package.version),
        )

    @property
    def processes(self) -> ClusterProcesses | None:
        """Return what runs."""
        return self._processes

    def set_clock_offset(self, offset_ms: int) -> None:
        """Pass another appliance time on to the running processes."""
        if self._processes is not None:
            self._processes.set_clock_offset(offset_ms)

    # ---- the cluster

    async def call(
        self, method: str, params: Quiet, *, timeout_seconds: float = CALL_SECONDS
    ) -> Any:
        """Call a method of `conclave.service.methods.METHODS` in the cluster process.

        Raises NotAllowed (SERVICE_STOPPED) unless the service runs, and what the method raises.
        """
        return await self._running().call(method, params, timeout_seconds=timeout_seconds)

    async def create_cluster(
        self, label: str, so_password: bytes, engine: EngineName = "sqlite", source: str = "local"
    ) -> ClusterSummary:
        """Create a cluster of one after the SO's password was checked."""
        async with self._changes.one():
            try:
                running = self._running()
                return await self._steps.create_cluster(running, label, so_password, engine, source)
            finally:
                self._tell()

    async def authorize(
        self,
        member_id: str,
        partition_label: str,
        co_password: bytes,
        *,
        source: str = "local",
    ) -> None:
        """Open the SMK with the CO's password and give it to the cluster process."""
        async with self._changes.one():
            running = self._running()
            await self._steps.authorize(running, member_id, partition_label, co_password, source)
            self._tell()

    def check_join(self, remote_address: str) -> None:
        """Refuse what can be refused before any password is looked at."""
        self._running()
        self._changes.require_short()
        self._steps.check_join(remote_address)

    async def join(self, request: JoinRequest, tell: Tell) -> None:
        """Join a cluster, which takes minutes or hours; `tell` is told how far it is.

        Raises NotAllowed (SERVICE_STOPPED) when a stop ends it.
        """
        self.check_join(request.remote_address)
        await self._changes.long(lambda: self._steps.join(self._running(), request, tell))
        self._report_soon()
        # The cluster's users replace this appliance's, not the other way round.
        self.on_users_change.notify()

    async def leave(
        self,
        member_id: str,
        partition_label: str,
        co_password: bytes,
        *,
        source: str = "local",
    ) -> None:
        """Take this member out of its cluster; the service goes on without one (B2)."""
        async with self._changes.one():
            processes = self._running()
            try:
                await self._steps.leave(processes, member_id, partition_label, co_password, source)
            finally:
                self._tell()

    async def delete_member(
        self, member_id: str, co_password: bytes, *, force: bool = False, source: str = "local"
    ) -> DeletedMember:
        """Delete a member that nobody sees, after the CO's password was checked."""
        return await self._steps.delete_member(
            self._running(), member_id, co_password, force, source
        )

    # ---- parts

    def _check_start(self, *, force: bool) -> None:
        self._package.require_startable()
        self._hsm.cluster_partition()
        self._configured.core_address()
        try:
            self._identity.check_validity(self._clock.now())
        except Conflict as refusal:
            if not force or refusal.fault is not faults.CERTIFICATE_VALIDITY:
                raise
            _log.warning("started with force: %s", refusal.message)

    async def _start_at_boot(self) -> None:
        async with self._changes.one(), self._package.held():
            if self._boot.wanted and self._state == "stopped":
                await self._start(force=False)

    async def _start(self, *, force: bool) -> None:
        self._check_start(force=force)
        self._paths.make()
        # The member link needs the key before any cluster certified it.
        await self._identity.public_key_der()
        processes = self._make_processes(self.config(), await self._package.current())
        self._state = "starting"
        self._processes = processes
        try:
            await processes.start()
            self._admin.use(self._identity.certificate())
            await self._admin.open(processes.config)
        except BaseException:
            self._state = "stopped"
            self._processes = None
            await processes.stop()
            raise
        self._state = "running"
        await self._steps.remember_cluster(processes)
        self._watch = ClusterWatch(processes, apply=self.apply_notice, report=self._report)
        self._watch.start()
        self._tell()

    def _tell(self) -> None:
        self._report_soon()
        self.on_serving.notify()

    async def _stop(self) -> None:
        self._boot.call_off()
        processes, self._processes = self._processes, None
        watch, self._watch = self._watch, None
        self._state = "stopped"
        if watch is not None:
            await watch.stop()
        if processes is None:
            return
        try:
            await self._admin.close()
        finally:
            await processes.stop()

    def _running(self) -> ClusterProcesses:
        if self._state == "removed":
            message = (
                "This member was deleted from its cluster: factory-reset the cluster service, then"
                " it may create or join one."
            )
            raise NotAllowed(faults.MEMBER_REMOVED, message)
        if self._processes is None or self._state != "running":
            cure = "wait until it has started" if self._state == "starting" else "start it first"
            message = f"The cluster service is {self._state}: {cure}."
            raise NotAllowed(faults.SERVICE_STOPPED, message)
        return self._processes

    # ---- what the cluster process tells, and is told

    async def apply_notice(self, notice: Notice) -> None:
        """Do what the cluster process's news ask for; nothing when all is as they say."""
        async with self._changes.patient():
            if (processes := self._processes) is None:
                return
            self._state = "removed" if notice.removed == "deleted" else "running"
            await self._steps.apply(processes, notice)
        self._report_soon()
        self.news.take(notice)

    async def _report(self) -> MemberReport:
        return self._steps.report(self._processes, await self._package.look())

    def _report_soon(self) -> None:
        if self._watch is not None:
            self._watch.report_soon()
