"""The processes of a running cluster service: one cluster process, the workers, what they share.

Invariant: the SMK is held here exactly while the member is authorized, and the cloning domain with
it.  They go into the bootstrap frame of a cluster process that is respawned after a crash, and are
wiped when the service stops (rules C7 and S4); they are never written anywhere from here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from conclave import faults
from conclave.appliance.cluster_config import ClusterConfig, listen_address, open_ports
from conclave.appliance.login_service import LoginService
from conclave.appliance.member_identity import MemberCertificate, MemberIdentity
from conclave.appliance.network import bind_locally, bind_socket, close_all, listen_on
from conclave.appliance.package_version import Release
from conclave.appliance.paths import StatePaths
from conclave.appliance.renewal import Renewal
from conclave.appliance.supervisor import Child, ChildSpec, stop_all
from conclave.appliance.time import ApplianceTime
from conclave.errors import InternalFault, NotAllowed, Unavailable
from conclave.service.bootstrap import ClusterBootstrap, WorkerBootstrap, encode_bootstrap
from conclave.service.channel import ChannelClient
from conclave.service.messages import ServiceStatus
from conclave.service.meters import Meters, Reading
from conclave.service.page import SharedPage
from conclave.service.quiet import Nothing, Quiet
from conclave.settings import ApplianceConfig

CLUSTER_MODULE: Final = "conclave.cluster.process"
WORKER_MODULE: Final = "conclave.service.worker"
SECRET_BYTES: Final = 32
READY_SECONDS: Final = 60.0
CLUSTER_STOP_SECONDS: Final = 10.0
"""PostgreSQL is stopped and the other members are told before the cluster process ends."""
POLL_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class ClusterProcesses:
    """Everything between one start and one stop of the cluster service."""

    def __init__(
        self,
        *,
        settings: ApplianceConfig,
        paths: StatePaths,
        login: LoginService,
        identity: MemberIdentity,
        time: ApplianceTime,
        config: ClusterConfig,
        release: Release,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._login = login
        self._identity = identity
        self._time = time
        self.config: Final = config
        """The configuration that runs."""
        self.version: Final = release.version
        """The package's version that runs."""
        self._source_directory = release.directory
        self._secrets = {role: os.urandom(SECRET_BYTES) for role in ("daemon", "worker")}
        self._client = ChannelClient(paths.cluster_socket, self._secrets["daemon"])
        self._page = SharedPage.create()
        self._meters: dict[int, Meters] = {}
        self._crypto: list[socket.socket] = []
        """The listener of the crypto port, then those of former ones and the local one."""
        self._smk: bytearray | None = None
        self._domain = bytearray()
        self._presented = ""
        self._shown: dict[int, str] = {}
        """The certificate that each worker was started with."""
        self.on_worker_start: Callable[[], None] = lambda: None
        self._cluster = Child(self._cluster_spec())
        self._workers: list[Child] = []
        self._renewal = Renewal()

    @property
    def authorized(self) -> bool:
        """Tell whether the SMK is held."""
        return self._smk is not None

    @property
    def has_workers(self) -> bool:
        """Tell whether workers were started."""
        return bool(self._workers)

    @property
    def presented(self) -> str:
        """Return the certificate that the workers were last told to present, in PEM, or ""."""
        return self._presented

    @property
    def shown(self) -> frozenset[str]:
        """Return the certificates that workers show at present, in PEM; one, but for a moment."""
        return frozenset(self._shown.values())

    @property
    def cluster_pid(self) -> int | None:
        """Return the id of the living cluster process."""
        return self._cluster.pid

    def readings(self) -> dict[int, list[Reading]]:
        """Return what each worker counted since the start of the service."""
        return {index: list(meters.readings()) for index, meters in self._meters.items()}

    def holds(self, smk: bytes, domain: bytes) -> bool:
        """Tell whether exactly these are held."""
        return self._smk is not None and bytes(self._smk + self._domain) == smk + domain

    def pids(self) -> dict[str, int]:
        """Return the ids of the living processes by their names."""
        return {
            child.name: child.pid
            for child in (self._cluster, *self._workers)
            if child.pid is not None
        }

    async def start(self) -> None:
        """Bind the crypto port, start the processes and wait until they are ready."""
        self._page.set_appliance_offset(self._time.offset_ms)
        self._bind()
        await self._cluster.start()
        await self._wait_until_ready()
        await self.start_workers()

    async def stop(self) -> None:
        """End all processes, workers first, and wipe the SMK."""
        await self._renewal.stop()
        try:
            await stop_all(self._workers)
            await self._client.close()
            await self._cluster.stop(deadline_seconds=CLUSTER_STOP_SECONDS)
        finally:
            self._workers.clear()
            self.forget_smk()
            self._unbind()
            self._page.close()
            for meters in self._meters.values():
                meters.close()

    async def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Quiet:
        """Call the cluster process."""
        return cast(Quiet, await self._client.call(method, params, timeout_seconds=timeout_seconds))

    def keep_smk(self, smk: bytes, domain: bytes) -> None:
        """Hold the SMK and the domain for a cluster process that has to be respawned."""
        self.forget_smk()
        self._smk = bytearray(smk)
        self._domain = bytearray(domain)

    def forget_smk(self) -> None:
        """Wipe the SMK and the domain."""
        for secret in (self._smk, self._domain):
            if secret is not None:
                secret[:] = bytes(len(secret))
        self._smk = None
        self._domain = bytearray()

    def set_clock_offset(self, offset_ms: int) -> None:
        """Tell the workers and the cluster process about another appliance time."""
        self._page.set_appliance_offset(offset_ms)

    async def start_workers(self) -> None:
        """Start the workers once there is a certificate; those that run get the newest one.

        They get it one after another, beside this call, and meanwhile the others serve: a new CA
        reaches all members at once, and clients would find nobody on any of them.
        """
        certificate = self._identity.certificate()
        if certificate is None:
            return
        if self._workers:
            await self._renewal.begin(self._workers)
        else:
            await self._start_first_workers()
        self._presented = certificate.certificate_pem.decode()

    async def stop_workers(self) -> None:
        """End the workers and refuse clients, since the member is in no cluster any more."""
        await self._renewal.stop()
        workers, self._workers = self._workers, []
        self._presented = ""
        await stop_all(workers)
        self._shown.clear()
        # A listening socket would go on taking connections that nobody answers.
        self._unbind()

    async def _start_first_workers(self) -> None:
        if not self._crypto:
            self._bind()
        for listener in self._crypto:
            listen_on(listener, what="crypto")
        count = self._settings.workers or os.cpu_count() or 1
        workers = [Child(self._worker_spec(index, count)) for index in range(count)]
        try:
            for worker in workers:
                await worker.start()
        except BaseException:
            await stop_all(workers)
            raise
        self._workers = workers

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready():  # noqa: ASYNC110 - another process, so no event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            message = f"The cluster process was not ready within {READY_SECONDS:.0f} s."
            raise Unavailable(faults.SERVICE_FAILED, message) from None

    async def _is_ready(self) -> bool:
        status = self._cluster.last_status
        if status is not None and status > 0:
            raise _ended_early(status, self._paths.log("cluster"))
        try:
            answer = await self._client.call("status", Nothing(), timeout_seconds=1.0)
        except Unavailable:
            return False
        return cast(ServiceStatus, answer).ready

    def _bind(self) -> None:
        # Bound at the start, so that a taken port refuses it; open once a worker can accept.
        address = listen_address(self.config.crypto.interface, self._settings.interfaces)
        present, *former = open_ports(self.config, self._time.clock.now_ms())
        self._crypto = [bind_socket(address, present, what="crypto")]
        for port in former:
            try:
                self._crypto.append(bind_socket(address, port, what="former crypto"))
            except NotAllowed as refusal:
                _log.warning("A former port stays closed: %s", refusal.message)
        self._crypto += bind_locally(self._settings.crypto_socket)

    def _unbind(self) -> None:
        listeners, self._crypto = self._crypto, []
        close_all(listeners)

    def _cluster_spec(self) -> ChildSpec:
        return ChildSpec(
            "cluster",
            CLUSTER_MODULE,
            self._cluster_frame,
            (self._page.fd,),
            self._source_directory,
        )

    def _cluster_frame(self) -> bytes:
        settings = self._settings
        return encode_bootstrap(
            ClusterBootstrap(
                database_path=str(self._paths.cluster_store),
                socket_path=str(self._paths.cluster_socket),
                secrets=self._secrets,
                login_socket_path=str(self._paths.login_socket),
                login_secret=self._login.secret,
                page_fd=self._page.fd,
                limits=settings.limits,
                cost=settings.password_cost,
                low_cost_for_tests=settings.low_cost_for_tests,
                dual_identity=self.config.identity == "dual",
                server_common_name=settings.server_common_name,
                host_name=settings.host_name,
                addresses=list(settings.interfaces.values()),
                admin_port=self.config.admin.port,
                crypto_port=self.config.crypto.port,
                clock_offset_ms=self._time.offset_ms,
                member_key_spki_der=self._identity.known_public_key_der(),
                member_key_pem=self._identity.known_key_pem(),
                domain=bytes(self._domain),
                core_address=self.config.core_address or "",
                state_dir=str(self._paths.root.absolute()),
                package_version=self.version,
                cluster_settings=settings.cluster,
                postgresql=settings.postgresql,
                smk=None if self._smk is None else bytes(self._smk),
                # The daemon looked before the start; a respawn is not a start.
                skip_certificate_check=True,
                log_path=str(self._paths.log("cluster")),
            )
        )

    def _worker_spec(self, index: int, count: int) -> ChildSpec:
        listen_fds = [listener.fileno() for listener in self._crypto]
        if index not in self._meters:
            self._meters[index] = Meters.create()
        meters_fd = self._meters[index].fd
        return ChildSpec(
            f"worker-{index}",
            WORKER_MODULE,
            self._worker_frame_maker(index, count, listen_fds),
            (*listen_fds, self._page.fd, meters_fd),
            self._source_directory,
            announces=True,
        )

    def _worker_frame_maker(
        self, index: int, count: int, listen_fds: list[int]
    ) -> Callable[[], bytes]:
        def frame() -> bytes:
            certificate = self._identity.certificate()
            assert certificate is not None  # noqa: S101 - workers start with a certificate only
            # Its predecessor has ended: nobody is shown another one by this worker any more.
            self._shown[index] = certificate.certificate_pem.decode()
            self.on_worker_start()
            return encode_bootstrap(self._worker_bootstrap(index, count, listen_fds, certificate))

        return frame

    def _worker_bootstrap(
        self, index: int, count: int, listen_fds: list[int], certificate: MemberCertificate
    ) -> WorkerBootstrap:
        return WorkerBootstrap(
            worker_index=index,
            worker_count=count,
            listen_fds=listen_fds,
            page_fd=self._page.fd,
            meters_fd=self._meters[index].fd,
            database_path=str(self._paths.cluster_store),
            cluster_socket_path=str(self._paths.cluster_socket),
            cluster_secret=self._secrets["worker"],
            certificate_pem=certificate.certificate_pem,
            key_pem=certificate.key_pem,
            ca_pem=certificate.ca_pem,
            member_id=certificate.member_id,
            limits=self._settings.limits,
            read_only_limit_seconds=self._settings.cluster.read_only_limit_seconds,
            cache_bytes=self._settings.cache_mib << 20,
            cache_idle_seconds=self._settings.cache_idle_seconds,
            log_path=str(self._paths.log(f"worker-{index}")),
        )


def _ended_early(status: int, log: Path) -> InternalFault:
    message = (
        f"The cluster process ended with status {status} while it started; {log} has the cause."
    )
    return InternalFault(faults.SERVICE_FAILED, message)
