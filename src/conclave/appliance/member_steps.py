"""What a member does with its cluster, step by step, between HSM, identity and processes.

The caller sees to it that one of these happens at a time.

Invariant: the workers and the admin listener present the member's certificate exactly while the
appliance is in a cluster that gave it one.
"""

from __future__ import annotations

import logging
import uuid
from typing import Final, cast

from cryptography import x509

from conclave import faults
from conclave.appliance import cluster_config
from conclave.appliance.admin_listener import AdminListener
from conclave.appliance.cluster_config import IdentityMode, Setup
from conclave.appliance.cluster_join import Join, JoinRequest, Tell
from conclave.appliance.cluster_processes import ClusterProcesses
from conclave.appliance.cluster_settings import ClusterSettings
from conclave.appliance.member_identity import MemberIdentity
from conclave.cluster.ca import issuer_of
from conclave.errors import ConclaveError, Conflict, NotFound
from conclave.hsm.hsm import Hsm
from conclave.service.messages import (
    Authorize,
    AuthorizeResult,
    ClusterList,
    ClusterSummary,
    CreateCluster,
    DeletedMember,
    DeleteMember,
    MemberList,
    MemberReport,
    Notice,
)
from conclave.service.quiet import Nothing
from conclave.store.location import EngineName

CALL_SECONDS: Final = 30.0
LEAVE_SECONDS: Final = 60.0
DELETE_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class MemberSteps:
    """The steps of creation, authorization, join and leave, and of what the cluster tells."""

    def __init__(
        self,
        *,
        hsm: Hsm,
        identity: MemberIdentity,
        configured: ClusterSettings,
        admin: AdminListener,
    ) -> None:
        self._hsm = hsm
        self._identity = identity
        self._configured = configured
        self._admin = admin

    async def create_cluster(
        self,
        processes: ClusterProcesses,
        label: str,
        so_password: bytes,
        engine: EngineName,
        source: str,
    ) -> ClusterSummary:
        """Create a cluster of one after the SO's password was checked."""
        self._hsm.cluster_partition()
        config = self._configured.config()
        address = self._configured.core_address()
        await self._require_no_cluster(processes)
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
            engine=engine,
        )
        try:
            answer = await processes.call("create_cluster", request, timeout_seconds=CALL_SECONDS)
            return cast(ClusterSummary, answer)
        finally:
            await self.remember_cluster(processes)

    async def authorize(
        self,
        processes: ClusterProcesses,
        member_id: str,
        partition_label: str,
        co_password: bytes,
        source: str,
    ) -> None:
        """Open the SMK with the CO's password and give it to the cluster process."""
        self._hsm.cluster_partition()
        await self._require_local_member(processes, member_id)
        smk = await self._hsm.unlock_smk(partition_label, co_password, source=source)
        domain = self._hsm.cluster_domain()
        request = Authorize(
            smk=smk, member_key_spki_der=await self._identity.public_key_der(), domain=domain
        )
        answer = cast(
            AuthorizeResult,
            await processes.call("authorize", request, timeout_seconds=CALL_SECONDS),
        )
        processes.keep_smk(smk, domain)
        await self._use_certificate(
            processes, answer.member_certificate_pem, answer.ca_certificate_pem, member_id
        )

    def check_join(self, remote_address: str) -> None:
        """Refuse what can be refused before any password is looked at."""
        self._hsm.cluster_partition()
        own = self._configured.core_address()
        cluster_config.check_remote_address(remote_address, own)
        if self._configured.stored.cluster_created:
            message = "The appliance is in a cluster already: it cannot join another."
            raise Conflict(faults.CLUSTER_EXISTS, message)

    async def join(self, processes: ClusterProcesses, request: JoinRequest, tell: Tell) -> None:
        """Join a cluster: the member is authorized by it, and serves."""
        await self._require_no_cluster(processes)
        join = Join(
            request,
            hsm=self._hsm,
            identity=self._identity,
            processes=processes,
            config=self._configured.config(),
            tell=tell,
        )
        prepared = await join.run()
        await self._configured.remember_cluster("dual" if prepared.dual_identity else "single")
        self._admin.use(self._identity.certificate())
        await processes.start_workers()

    async def leave(
        self,
        processes: ClusterProcesses,
        member_id: str,
        partition_label: str,
        co_password: bytes,
        source: str,
    ) -> None:
        """Leave the cluster after the CO's password was checked; keep partition and SMK (B2)."""
        await self._require_local_member(processes, member_id)
        await self._hsm.verify_cluster_co(co_password, partition_label, source=source)
        await processes.call("leave", Nothing(), timeout_seconds=LEAVE_SECONDS)
        await self.forget_cluster(processes)

    async def delete_member(
        self,
        processes: ClusterProcesses,
        member_id: str,
        co_password: bytes,
        force: bool,
        source: str,
    ) -> DeletedMember:
        """Delete another member after the CO's password was checked."""
        await self._hsm.verify_cluster_co(co_password, source=source)
        request = DeleteMember(member_id=member_id, force=force)
        answer = await processes.call("delete_member", request, timeout_seconds=DELETE_SECONDS)
        return cast(DeletedMember, answer)

    async def remember_cluster(self, processes: ClusterProcesses) -> None:
        """Note what the cluster's store says; what failed is caught up with by the next start."""
        try:
            cluster = await self._cluster(processes)
            mode: IdentityMode | None = None
            if cluster is not None:
                mode = "dual" if cluster.dual_identity else "single"
            await self._configured.remember_cluster(mode)
            if cluster is None and self._identity.certificate_pem:
                # A join that was broken off, or a store that went away: it certifies nothing.
                await self.forget_cluster(processes)
        except ConclaveError as failure:
            _log.warning("whether there is a cluster was not noted: %s", failure.message)

    async def forget_cluster(self, processes: ClusterProcesses) -> None:
        """Serve no client and present no member's certificate any more; keep HSM and key."""
        await self.cease(processes)
        await self._identity.forget_certificate()
        self._admin.use(None)
        await self._configured.remember_cluster(None)

    async def cease(self, processes: ClusterProcesses) -> None:
        """Stop serving clients and hold no SMK."""
        processes.forget_smk()
        await processes.stop_workers()

    async def apply(self, processes: ClusterProcesses, notice: Notice) -> None:
        """Do what a notice asks for; nothing when all is as it says."""
        match notice.removed:
            case "deleted":
                if processes.authorized or processes.has_workers:
                    _log.error("this member was deleted from its cluster: it serves no more")
                    await self.cease(processes)
            case "left":
                if self._identity.certificate_pem and await self._is_out(processes, notice):
                    await self.forget_cluster(processes)
            case _:
                await self._apply_state(processes, notice)

    async def _is_out(self, processes: ClusterProcesses, notice: Notice) -> bool:
        """Tell whether the notice is of this membership, not of one before the present one."""
        if notice.member_id == self._identity.member_id:
            return True
        return await self._cluster(processes) is None

    def restart_causes(self, processes: ClusterProcesses | None, version: str) -> tuple[str, ...]:
        """Return why what runs differs from what is configured or installed (S5)."""
        if processes is None:
            return ()
        return cluster_config.restart_causes(
            Setup(processes.config, processes.presented, processes.version),
            Setup(self._configured.config(), self._identity.certificate_pem, version),
        )

    def report(self, processes: ClusterProcesses | None, version: str) -> MemberReport:
        """Return what the other members are to know of this one; the ports are those that run."""
        config = self._configured.config() if processes is None else processes.config
        return MemberReport(
            restart_required=bool(self.restart_causes(processes, version)),
            admin_port=config.admin.port,
            crypto_port=config.crypto.port,
            issuers=_issuers(processes),
        )

    async def _apply_state(self, processes: ClusterProcesses, notice: Notice) -> None:
        if notice.smk:
            domain = notice.domain or self._hsm.cluster_domain()
            if not processes.holds(notice.smk, domain):
                processes.keep_smk(notice.smk, domain)
        if notice.cluster_id:
            await self._configured.remember_cluster("dual" if notice.dual_identity else "single")
        if notice.member_certificate_pem and notice.ca_certificate_pem:
            await self._use_certificate(
                processes,
                notice.member_certificate_pem,
                notice.ca_certificate_pem,
                notice.member_id,
            )

    async def _use_certificate(
        self, processes: ClusterProcesses, certificate_pem: str, ca_pem: str, member_id: str
    ) -> None:
        changed = not self._identity.has(certificate_pem, ca_pem, member_id)
        if changed:
            await self._identity.set_certificate(certificate_pem, ca_pem, member_id)
            self._admin.use(self._identity.certificate())
        if changed or not processes.has_workers:
            await processes.start_workers()

    @staticmethod
    async def _cluster(processes: ClusterProcesses) -> ClusterSummary | None:
        answer = await processes.call("list_clusters", Nothing(), timeout_seconds=CALL_SECONDS)
        found = cast(ClusterList, answer).clusters
        return found[0] if found else None

    async def _require_no_cluster(self, processes: ClusterProcesses) -> None:
        cluster = await self._cluster(processes)
        if cluster is not None:
            message = f"The appliance is in the cluster {cluster.label} already."
            raise Conflict(faults.CLUSTER_EXISTS, message)

    @staticmethod
    async def _require_local_member(processes: ClusterProcesses, member_id: str) -> None:
        answer = await processes.call("list_members", Nothing(), timeout_seconds=CALL_SECONDS)
        members = cast(MemberList, answer).members
        if not members:
            message = "There is no cluster on this appliance: create one first."
            raise NotFound(faults.CLUSTER_NOT_FOUND, message)
        if not any(member.local and member.member_id == member_id for member in members):
            message = f"This appliance is not the member {member_id!r}."
            raise NotFound(faults.MEMBER_NOT_FOUND, message)


def _issuers(processes: ClusterProcesses | None) -> tuple[bytes, ...]:
    """Return which CAs have issued what the workers show, by their keys' identifiers."""
    shown = frozenset[str]() if processes is None else processes.shown
    certificates = (x509.load_pem_x509_certificate(pem.encode()) for pem in shown)
    return tuple(sorted({issuer_of(certificate) for certificate in certificates}))
