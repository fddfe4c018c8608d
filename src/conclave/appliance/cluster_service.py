"""The cluster service: its configuration, start and stop, and the daemon's calls into it.

Invariant: the service runs only on a partition that passes rule S1, and the member is authorized
only by the CO's password since the last start: a stop, a restart or the daemon's death ends the
authorization, a crash of a child does not (rule S4).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from conclave import faults
from conclave.appliance import cluster_config
from conclave.appliance.admin_listener import AdminListener
from conclave.appliance.cluster_config import ClusterConfig, IdentityMode, ListenerConfig
from conclave.appliance.cluster_processes import ClusterProcesses
from conclave.appliance.cluster_settings import ClusterSettings
from conclave.appliance.doors import Door
from conclave.appliance.member_identity import MemberIdentity
from conclave.appliance.paths import StatePaths
from conclave.clock import ApplianceClock
from conclave.cluster.membership import check_start
from conclave.errors import ConclaveError, Conflict, NotAllowed, NotFound
from conclave.hsm.hsm import Hsm
from conclave.service.messages import (
    Authorize,
    AuthorizeResult,
    ClusterList,
    ClusterSummary,
    CreateCluster,
    MemberList,
    Nothing,
    Quiet,
)

__all__ = ["ClusterConfig", "ClusterService", "ClusterServiceStatus", "ListenerConfig"]

CALL_SECONDS: Final = 30.0

ServiceState = Literal["stopped", "starting", "running"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterServiceStatus:
    """What runs: `pids` has `cluster`, `worker-0` ... for the processes of the service."""

    status: Literal["running", "stopped"]
    state: ServiceState
    on_boot: bool
    authorized: bool
    pids: dict[str, int]
    restart_required: tuple[str, ...]
    """Why a restart is required; empty when what runs is what is configured."""


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
        make_processes: Callable[[ClusterConfig], ClusterProcesses],
        admin: AdminListener,
    ) -> None:
        self._paths = paths
        self._configured = configured
        self._hsm = hsm
        self._identity = identity
        self._clock = clock
        self._make_processes = make_processes
        self._admin = admin
        self._processes: ClusterProcesses | None = None
        self._state: ServiceState = "stopped"
        self._changing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []

    def attach_admin_door(self, door: Door) -> None:
        """Name the listener that is open while the service runs."""
        self._admin.attach(door)

    def on_serving(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every start, creation and authorization."""
        self._listeners.append(listener)

    # ---- configuration

    def config(self) -> ClusterConfig:
        """Return the configuration."""
        return self._configured.config()

    async def set_core_address(self, address: str) -> None:
        """Fix the core address: one of the appliance's, once until factory reset (S6)."""
        async with self._changing:
            await self._configured.set_core_address(address)

    async def set_listener(
        self, service: str, *, interface: str | None = None, port: int | None = None
    ) -> None:
        """Bind admin or crypto to an interface, a port, or both; None leaves it as it is."""
        async with self._changing:
            await self._configured.set_listener(service, interface, port)

    async def set_identity(self, mode: str) -> None:
        """Choose single or dual identity; Conflict once a cluster exists (K1)."""
        async with self._changing:
            await self._configured.set_identity(mode)

    async def set_on_boot(self, value: bool) -> None:
        """Say whether the service starts with the appliance; starts and stops nothing (S3)."""
        async with self._changing:
            await self._configured.set_on_boot(value)

    # ---- start and stop

    async def start(self, *, force: bool = False) -> None:
        """Start and wait until ready; `force` passes over the certificate's validity only."""
        async with self._changing:
            if self._state != "running":
                await self._start(force=force)

    async def stop(self) -> None:
        """Stop, wiping the SMK: the member must be authorized again."""
        async with self._changing:
            await self._stop()

    async def restart(self, *, force: bool = False) -> None:
        """Stop and start: the member must be authorized again (S4)."""
        async with self._changing:
            await self._check_start(force=force)
            await self._stop()
            await self._start(force=force)

    async def factory_reset(self) -> None:
        """Remove cluster store, core address and certificates; keep HSM, partition and SMK (S8)."""
        async with self._changing:
            await self._stop()
            directory = self._paths.cluster
            await asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, directory)
            await self._identity.forget()
            self._admin.use(None)
            await self._configured.reset()
            self._paths.make()

    async def start_on_boot(self) -> None:
        """Start when it was enabled; a refusal is logged, the appliance serves without it."""
        if self._configured.stored.on_boot:
            try:
                await self.start()
            except ConclaveError as refusal:
                _log.error("the cluster service did not start: %s", refusal.message)

    def stop_soon(self) -> None:
        """Stop because the HSM lost the SMK: what it zeroizes must not go on serving."""
        if self._state != "stopped":
            _log.warning("the HSM lost the SMK: the cluster service stops")
            self._stopping = asyncio.create_task(self.stop())

    def status(self) -> ClusterServiceStatus:
        """Return status, state and processes."""
        processes = self._processes
        return ClusterServiceStatus(
            status="running" if self._state == "running" else "stopped",
            state=self._state,
            on_boot=self._configured.stored.on_boot,
            authorized=processes is not None and processes.authorized,
            pids={} if processes is None else processes.pids(),
            restart_required=()
            if processes is None
            else cluster_config.restart_causes(processes.config, self.config()),
        )

    def set_clock_offset(self, offset_ms: int) -> None:
        """Pass another appliance time on to the running processes."""
        if self._processes is not None:
            self._processes.set_clock_offset(offset_ms)

    # ---- the cluster

    async def call(
        self, method: str, params: Quiet, *, timeout_seconds: float = CALL_SECONDS
    ) -> Any:
        """Call a method of `conclave.service.messages.METHODS` in the cluster process.

        Raises NotAllowed (SERVICE_STOPPED) unless the service runs, and what the method raises.
        """
        return await self._running().call(method, params, timeout_seconds=timeout_seconds)

    async def create_cluster(
        self, label: str, so_password: bytes, *, source: str = "local"
    ) -> ClusterSummary:
        """Create a cluster of one after the SO's password was checked."""
        async with self._changing:
            return await self._create_cluster(label, so_password, source)

    async def _create_cluster(self, label: str, so_password: bytes, source: str) -> ClusterSummary:
        self._running()
        self._hsm.cluster_partition()
        config = self.config()
        address = self._configured.core_address()
        clusters = cast(ClusterList, await self.call("list_clusters", Nothing()))
        if clusters.clusters:
            message = f"The appliance is in the cluster {clusters.clusters[0].label} already."
            raise Conflict(faults.CLUSTER_EXISTS, message)
        await self._hsm.verify_so(so_password, source=source)
        request = CreateCluster(
            label=label,
            cluster_id=str(uuid.uuid4()),
            member_id=str(uuid.uuid4()),
            member_name=f"LNH-{self._hsm.info().serial}",
            address=address,
            admin_port=config.admin.port,
            crypto_port=config.crypto.port,
            dual_identity=config.identity == "dual",
        )
        try:
            return cast(ClusterSummary, await self.call("create_cluster", request))
        finally:
            await self._remember_cluster()
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
        async with self._changing:
            processes = self._running()
            self._hsm.cluster_partition()
            await self._require_local_member(member_id)
            smk = await self._hsm.unlock_smk(partition_label, co_password, source=source)
            request = Authorize(smk=smk, member_key_spki_der=await self._identity.public_key_der())
            answer = cast(AuthorizeResult, await self.call("authorize", request))
            processes.keep_smk(smk)
            await self._use_certificate(processes, answer, member_id)
            self._tell()

    # ---- parts

    async def _use_certificate(
        self, processes: ClusterProcesses, answer: AuthorizeResult, member_id: str
    ) -> None:
        former = self._identity.certificate()
        certificate, ca = answer.member_certificate_pem, answer.ca_certificate_pem
        changed = former is None or (former.certificate_pem, former.ca_pem) != (
            certificate.encode(),
            ca.encode(),
        )
        if changed:
            await self._identity.set_certificate(certificate, ca, member_id)
            self._admin.use(self._identity.certificate())
        if changed or not processes.has_workers:
            await processes.start_workers()

    async def _check_start(self, *, force: bool) -> None:
        self._hsm.cluster_partition()
        self._configured.core_address()
        loop = asyncio.get_running_loop()
        try:
            now = self._clock.now()
            await loop.run_in_executor(None, check_start, self._paths.cluster_store, now)
        except Conflict as refusal:
            if not force or refusal.fault is not faults.CERTIFICATE_VALIDITY:
                raise
            _log.warning("started with force: %s", refusal.message)

    async def _remember_cluster(self) -> None:
        """Note what the cluster's store says; what failed is caught up with by the next start."""
        try:
            found = cast(ClusterList, await self.call("list_clusters", Nothing())).clusters
            mode: IdentityMode | None = None
            if found:
                mode = "dual" if found[0].dual_identity else "single"
            await self._configured.remember_cluster(mode)
        except ConclaveError as failure:
            _log.warning("whether there is a cluster was not noted: %s", failure.message)

    async def _start(self, *, force: bool) -> None:
        await self._check_start(force=force)
        self._paths.make()
        processes = self._make_processes(self.config())
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
        await self._remember_cluster()
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    async def _stop(self) -> None:
        processes, self._processes = self._processes, None
        self._state = "stopped"
        if processes is None:
            return
        try:
            await self._admin.close()
        finally:
            await processes.stop()

    def _running(self) -> ClusterProcesses:
        if self._processes is None or self._state != "running":
            cure = "wait until it has started" if self._state == "starting" else "start it first"
            message = f"The cluster service is {self._state}: {cure}."
            raise NotAllowed(faults.SERVICE_STOPPED, message)
        return self._processes

    async def _require_local_member(self, member_id: str) -> None:
        members = cast(MemberList, await self.call("list_members", Nothing())).members
        if not members:
            message = "There is no cluster on this appliance: create one first."
            raise NotFound(faults.CLUSTER_NOT_FOUND, message)
        if not any(member.local and member.member_id == member_id for member in members):
            message = f"This appliance is not the member {member_id!r}."
            raise NotFound(faults.MEMBER_NOT_FOUND, message)
