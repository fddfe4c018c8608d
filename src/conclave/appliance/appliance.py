"""The appliance as its doors see it: one object that has every part."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from conclave import error_table
from conclave.appliance import services
from conclave.appliance.admin_listener import AdminListener
from conclave.appliance.certificate_login import CertificateLogins
from conclave.appliance.cluster_config import ClusterConfig
from conclave.appliance.cluster_processes import ClusterProcesses
from conclave.appliance.cluster_service import ClusterService
from conclave.appliance.cluster_settings import ClusterSettings
from conclave.appliance.documents import Documents
from conclave.appliance.hsm_time import HsmTime
from conclave.appliance.log_files import LogFiles
from conclave.appliance.login_service import LoginService
from conclave.appliance.member_identity import MemberIdentity
from conclave.appliance.ntp import NtpService
from conclave.appliance.package_version import Release
from conclave.appliance.packages import Packages
from conclave.appliance.paths import StatePaths
from conclave.appliance.public_keys import PublicKeys
from conclave.appliance.services import ServiceInfo
from conclave.appliance.store import ApplianceStore
from conclave.appliance.syslog import Syslog
from conclave.appliance.time import ApplianceTime
from conclave.appliance.user_files import UserFiles
from conclave.appliance.user_roles import CustomRoles
from conclave.appliance.user_store import role_entry_id
from conclave.appliance.users import Users
from conclave.appliance.webserver_settings import WebserverSettings
from conclave.appliance.webserver_tls import WebserverTls
from conclave.audit.files import Bounds
from conclave.audit.log import AuditLog
from conclave.audit.logins import record_login
from conclave.clock import ApplianceClock
from conclave.hsm.hsm import Hsm
from conclave.settings import ApplianceConfig

if TYPE_CHECKING:
    from conclave.appliance.metrics import Metrics

JOIN_DOOR: Final = "join"
"""Where another appliance shows an administrator's password: the member link."""
_FAULTS: Final = {fault.rest_id: fault for _, fault in error_table.rows()}


class Appliance:
    """Everything the doors use; the daemon makes it, tests may as well."""

    def __init__(
        self,
        *,
        config: ApplianceConfig,
        paths: StatePaths,
        store: ApplianceStore,
        documents: Documents,
        time: ApplianceTime,
        hsm_time: HsmTime,
        ntp: NtpService,
        syslog: Syslog,
        login: LoginService,
        hsm: Hsm,
        users: Users,
        files: UserFiles,
        webserver: WebserverSettings,
        packages: Packages,
        cluster: ClusterService,
        tls: WebserverTls,
        audit: AuditLog,
    ) -> None:
        self.config: Final = config
        self.paths: Final = paths
        self.store: Final = store
        self.documents: Final = documents
        self.time: Final = time
        self.hsm_time: Final = hsm_time
        self.ntp: Final = ntp
        self.syslog: Final = syslog
        self.login: Final = login
        self.hsm: Final = hsm
        self.users: Final = users
        self.roles: Final = CustomRoles(users)
        self.public_keys: Final = PublicKeys(users)
        self.certificate_logins: Final = CertificateLogins(users, self.public_keys, time.clock)
        self.files: Final = files
        self.webserver: Final = webserver
        self.packages: Final = packages
        self.cluster: Final = cluster
        self.audit: Final = audit
        self._tls = tls

    @functools.cached_property
    def metrics(self) -> Metrics:
        """Return what monitoring reads; its library is imported by the first who asks."""
        from conclave.appliance.metrics import Metrics

        return Metrics(self.cluster, self.packages.cluster, self.time.clock)

    @property
    def clock(self) -> ApplianceClock:
        """Return the appliance's clock."""
        return self.time.clock

    def services(self) -> Sequence[ServiceInfo]:
        """Return all services: cluster, clusteradmin, webserver, ntp, ssh and so on."""
        return services.list_services(
            self.cluster.status(),
            has_cluster=self.packages.cluster.release is not None,
            ntp=self.ntp.enabled,
            ssh=self.config.ssh.enabled,
            webserver=self.webserver.enabled,
        )

    def service(self, service_id: str) -> ServiceInfo:
        """Return one service; raise NotFound (SERVICE_NOT_FOUND)."""
        return services.find_service(tuple(self.services()), service_id)

    def pids(self) -> dict[str, int]:
        """Return the ids of all living children by their names."""
        login = {} if self.login.pid is None else {"login": self.login.pid}
        return login | self.cluster.status().pids

    async def hash_password(self, password: bytes, salt: bytes, source: str) -> bytes:
        """Derive 32 bytes with Argon2id in the login process; Unavailable when it is busy."""
        return await self.login.hash_password(password, salt, source)

    async def regenerate_certificate(self) -> None:
        """Give the webserver a new key and certificate."""
        await self._tls.regenerate()

    def rest_tls_context(self) -> ssl.SSLContext:
        """Return the TLS context of 8443."""
        return self._tls.rest

    def admin_tls_context(self) -> ssl.SSLContext:
        """Return the TLS context of 50070: the member's certificate once there is one."""
        return self._tls.admin.context


@contextlib.asynccontextmanager
async def open_appliance(config: ApplianceConfig) -> AsyncIterator[Appliance]:
    """Open all parts in their order, and close them in the opposite one; starts no listener."""
    paths = StatePaths(config.state_dir)
    paths.make()
    async with AsyncExitStack() as closing:
        store = await ApplianceStore.open(paths.store)
        closing.push_async_callback(store.close)
        documents = await Documents.open(store)
        time = await ApplianceTime.open(documents)
        syslog = await _start_syslog(config, documents, time, closing)
        ntp = await _start_ntp(documents, time, closing)
        audit = await AuditLog.open(paths.audit, _audit_bounds(config), time.clock)
        closing.push_async_callback(audit.close)
        login = LoginService(config, paths)
        await login.start()
        closing.push_async_callback(login.stop)
        cost, lockout = config.password_cost, config.so_lockout
        hsm = await Hsm.open(paths.hsm, login.hash_password, cost=cost, so_lockout=lockout)
        closing.push_async_callback(hsm.close)
        users = await Users.open(store, login.hash_password, cost=cost)
        users.on_attempt(lambda attempt: record_login(audit, attempt))
        tls = _start_tls(config, paths, time, closing)
        identity = await MemberIdentity.open(documents, hsm)
        files = _open_files(config, paths, users)
        webserver = await WebserverSettings.open(documents, files)
        packages = await Packages.open(config, paths, time.clock)
        cluster = ClusterService(
            paths=paths,
            configured=await ClusterSettings.open(config, documents),
            hsm=hsm,
            identity=identity,
            clock=time.clock,
            make_processes=_processes_maker(config, paths, login, identity, time),
            admin=AdminListener(config, tls.admin),
            package=packages.cluster,
        )
        time.on_change(cluster.set_clock_offset)
        hsm.on_smk_lost(cluster.stop_soon)
        closing.push_async_callback(cluster.stop)
        _follow(users, cluster, closing)
        yield Appliance(
            config=config,
            paths=paths,
            store=store,
            documents=documents,
            time=time,
            hsm_time=await HsmTime.open(documents, time),
            ntp=ntp,
            syslog=syslog,
            login=login,
            hsm=hsm,
            users=users,
            files=files,
            webserver=webserver,
            packages=packages,
            cluster=cluster,
            tls=tls,
            audit=audit,
        )


def _open_files(config: ApplianceConfig, paths: StatePaths, users: Users) -> UserFiles:
    """Return the users' files, each user's for as long as there is that user."""
    bounds = config.files
    files = UserFiles(paths.files, bounds.max_file_bytes, bounds.max_user_bytes)
    files.sweep()
    users.on_gone(_forgetting(files))
    return files


async def _start_syslog(
    config: ApplianceConfig, documents: Documents, time: ApplianceTime, closing: AsyncExitStack
) -> Syslog:
    bounds = config.logs
    directory = StatePaths(config.state_dir).logs
    files = LogFiles(directory, bounds.max_file_bytes, bounds.max_files)
    syslog = await Syslog.open(
        documents, files, time, host_name=config.host_name, ca_file=bounds.remote_ca_file
    )
    syslog.start()
    closing.push_async_callback(syslog.stop)
    return syslog


async def _start_ntp(
    documents: Documents, time: ApplianceTime, closing: AsyncExitStack
) -> NtpService:
    ntp = await NtpService.open(documents, time)
    ntp.start()
    closing.push_async_callback(ntp.stop)
    return ntp


def _start_tls(
    config: ApplianceConfig, paths: StatePaths, time: ApplianceTime, closing: AsyncExitStack
) -> WebserverTls:
    addresses = tuple(config.interfaces.values())
    tls = WebserverTls(paths.webserver, config.host_name, addresses, time.clock)
    tls.start()
    closing.push_async_callback(tls.stop)
    time.on_change(lambda _offset_ms: tls.wake())
    return tls


def _forgetting(files: UserFiles) -> Callable[[frozenset[str]], None]:
    """Return what removes the files of users who are gone, so that no namesake finds them."""

    def forget(gone: frozenset[str]) -> None:
        for name in gone:
            if not name.startswith(role_entry_id("")):
                files.forget(name)

    return forget


def _audit_bounds(config: ApplianceConfig) -> Bounds:
    return Bounds(file_bytes=config.audit.max_file_bytes, files=config.audit.max_files)


def _processes_maker(
    settings: ApplianceConfig,
    paths: StatePaths,
    login: LoginService,
    identity: MemberIdentity,
    time: ApplianceTime,
) -> Callable[[ClusterConfig, Release], ClusterProcesses]:
    def make(config: ClusterConfig, release: Release) -> ClusterProcesses:
        return ClusterProcesses(
            settings=settings,
            paths=paths,
            login=login,
            identity=identity,
            time=time,
            config=config,
            release=release,
        )

    return make


def _follow(users: Users, cluster: ClusterService, closing: AsyncExitStack) -> None:
    following = users.follow(cluster)
    following.start()
    closing.push_async_callback(following.stop)
    cluster.on_serving.add(following.wake)
    cluster.on_users_change.add(following.wake)
    cluster.news.on_refused_join = lambda refused: users.note_refused_login(
        refused.user_id,
        source=refused.source,
        door=JOIN_DOOR,
        fault=_FAULTS[refused.fault_id],
    )
