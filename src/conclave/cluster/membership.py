"""Create a cluster, authorize its member, say what there is.

Invariant: the SMK's derivatives enter this process by `authorize` only, and only after they opened
the cluster's own keys, or made them when there were none.  The page says "authorized" after all
that is in place, never before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from conclave import faults
from conclave.cluster.ca import (
    CertificateAuthority,
    check_validity,
    der,
    key_sha256,
    pem,
)
from conclave.cluster.certificates import (
    Certificates,
    authorize_result,
    is_certified,
    own_member,
)
from conclave.cluster.context import Authorized, Context, require_cluster
from conclave.cluster.duties import DEFAULT_GROUP
from conclave.cluster.engine_choice import EngineChoice
from conclave.cluster.follower import log_progress
from conclave.cluster.master_keys import (
    ClusterKeys,
    MasterKeys,
    derive_master_keys,
    new_ticket_key,
    open_cluster_keys,
    seal_cluster_keys,
)
from conclave.cluster.member import Member
from conclave.errors import BadInput, Conflict
from conclave.ids import ClusterId, MemberId
from conclave.service.messages import (
    Authorize,
    AuthorizeResult,
    ClusterList,
    ClusterSummary,
    CreateCluster,
    FetchKeys,
    MembersState,
    MemberState,
    ServiceStatus,
    WorkerKeys,
)
from conclave.service.quiet import Nothing
from conclave.service.wire import Standing
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import ClusterStateRow, MemberRow

FEATURE_LEVEL: Final = 1
FIRST_EPOCH: Final = 1
MAX_LABEL_CHARACTERS: Final = 64
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Membership:
    """Handlers of the methods about the cluster and its members."""

    context: Context
    find_member: Callable[[], Member | None]
    certificates: Certificates
    on_first: Callable[[], Awaitable[None]]
    """Called when the first member of a cluster got its certificate."""
    engine: EngineChoice

    async def status(self, _params: Nothing, _role: str) -> ServiceStatus:
        """Say that the process serves, and whether the member is authorized."""
        member = self.find_member()
        if member is not None:
            cluster_id = str(member.state.cluster_id)
        else:
            state = await self.context.read(lambda reader: reader.cluster_state())
            cluster_id = state.cluster_id if state else ""
        return ServiceStatus(
            ready=True,
            authorized=self.context.authorized is not None,
            cluster_id=cluster_id,
        )

    async def create_cluster(self, params: CreateCluster, _role: str) -> ClusterSummary:
        """Make a cluster of one; raise Conflict when there is a cluster."""
        state, member = _new_cluster(params)
        await self.engine.require(params.engine)

        def work(writer: ClusterWriter) -> None:
            existing = writer.cluster_state()
            if existing is not None:
                message = f"This appliance has the cluster {existing.label!r} already."
                raise Conflict(faults.CLUSTER_EXISTS, message)
            self.engine.note(params.engine)
            writer.put_cluster_state(state)
            writer.put_member(member)

        await self.context.write(work)
        page = self.context.page
        page.set_epoch(state.epoch_number, state.epoch_member)
        page.set_visible(True)
        page.bump_members()
        return _summary(state)

    async def list_clusters(self, _params: Nothing, _role: str) -> ClusterList:
        """Return the cluster, if there is one."""
        state = await self.context.read(lambda reader: reader.cluster_state())
        return ClusterList(clusters=[_summary(state)] if state else [])

    async def members_state(self, _params: Nothing, _role: str) -> MembersState:
        """Return what clients are told of the members; empty when there is no cluster."""
        version = self.context.page.members_version()
        members = await self.context.read(self._standings)
        return MembersState(members=members, version=version)

    def _standings(self, reader: ClusterReader) -> list[MemberState]:
        state = reader.cluster_state()
        if state is None:
            return []
        member = self.find_member()
        local = member.state.member_id if member else state.primary
        return [
            MemberState(
                member_id=row.member_id,
                address=row.address,
                crypto_port=row.crypto_port,
                group=row.group,
                key_sha256=row.key_sha256,
                state=self._own_standing() if row.member_id == local else self._seen(row, state),
            )
            for row in reader.members()
        ]

    def _own_standing(self) -> Standing:
        if self.context.authorized is None:
            return Standing.NOT_AUTHORIZED
        valid = self.context.page.lease_valid()
        return Standing.READ_WRITE if valid else Standing.READ_ONLY

    def _seen(self, row: MemberRow, state: ClusterStateRow) -> Standing:
        """Return what this member sees of another one."""
        member = self.find_member()
        if member is None or member.state.configuration.peer(row.member_id) is None:
            # Listed in the store, but not lived in here yet: the store's word holds.
            visible = row.member_id in state.visible
            return Standing.READ_WRITE if visible else Standing.NOT_VISIBLE
        report = member.neighbours.report(row.member_id) if member is not None else None
        if report is None:
            return Standing.NOT_VISIBLE
        if not report.authorized:
            return Standing.NOT_AUTHORIZED
        return Standing.READ_WRITE if report.read_write else Standing.READ_ONLY

    # ------------------------------------------------------------------ authorization

    async def authorize(self, params: Authorize, _role: str) -> AuthorizeResult:
        """Take the SMK; the first time make CA, ticket key and the member's certificate."""
        member = self.find_member()
        master = derive_master_keys(params.smk)
        if member is None or member.primary.active:
            authorized, row = await self.context.write(
                lambda writer: self._certified(writer, params, master, member)
            )
        else:
            authorized, row = await self.context.read(
                lambda reader: self._opened(reader, params, master, member)
            )
        self.context.authorized = authorized
        self.context.page.set_authorized(True)
        self.context.page.bump_global()
        if member is None:
            await self.on_first()
        else:
            await member.take_certificate(row, authorized)
        await self._use_engine()
        result = authorize_result(row, authorized)
        await self.certificates.tell_daemon(result)
        return result

    async def _use_engine(self) -> None:
        """Move to the engine that was asked for; without it this member is not authorized."""
        try:
            await self.engine.fulfil(log_progress)
        except BaseException:
            self.context.authorized = None
            self.context.page.set_authorized(False)
            raise

    def _certified(
        self,
        writer: ClusterWriter,
        params: Authorize,
        master: MasterKeys,
        member: Member | None,
    ) -> tuple[Authorized, MemberRow]:
        """Open or make the cluster's keys, and certify this member's key if that is due."""
        now, names = self.context.clock.now(), self.context.settings
        state = require_cluster(writer)
        keys, authority = _cluster_keys(writer, state, master, now)
        row = own_member(writer, member.state.member_id if member else state.primary)
        wanted = params.member_key_spki_der
        if wanted and not is_certified(row, wanted, authority, now):
            check_validity(authority.certificate, now, "cluster CA's")
            certificate = authority.certify_member(
                wanted,
                row.member_id,
                common_name=names.server_common_name,
                other_names=[*names.other_names, row.address],
                now=now,
            )
            row = replace(row, key_sha256=key_sha256(wanted), certificate_der=der(certificate))
            writer.put_member(row)
        return _authorized(state, row, params, master=master, keys=keys, authority=authority), row

    @staticmethod
    def _opened(
        reader: ClusterReader, params: Authorize, master: MasterKeys, member: Member
    ) -> tuple[Authorized, MemberRow]:
        """Open the cluster's keys, which this copy of the store holds."""
        state = require_cluster(reader)
        keys = open_cluster_keys(state.sealed_keys, master, state.cluster_id)
        authority = CertificateAuthority.load(keys.ca_key_pkcs8, state.ca_certificate_der)
        row = own_member(reader, member.state.member_id)
        return _authorized(state, row, params, master=master, keys=keys, authority=authority), row

    async def worker_keys(self, params: FetchKeys, _role: str) -> WorkerKeys:
        """Return the derived keys that a worker needs, none before the authorization.

        The store's replication brings new ones, and is heard of a moment later: who knows of
        newer ones asks `anew`, or a ticket that is good elsewhere would be refused here.
        """
        if params.anew:
            await self.certificates.reload()
        authorized = self.context.authorized
        if authorized is None:
            return WorkerKeys(
                authorized=False, ticket_keys=[], public_key=b"", cluster_id="", member_id=""
            )
        return WorkerKeys(
            authorized=True,
            ticket_keys=authorized.keys.ticket_keys,
            public_key=authorized.master.public,
            cluster_id=authorized.cluster_id,
            member_id=authorized.member_id,
        )


def _new_cluster(params: CreateCluster) -> tuple[ClusterStateRow, MemberRow]:
    label = params.label
    if not 1 <= len(label) <= MAX_LABEL_CHARACTERS or not label.isprintable():
        message = f"A cluster's label has 1 to {MAX_LABEL_CHARACTERS} characters, not {label!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    cluster_id = ClusterId(_canonical_uuid(params.cluster_id, "cluster"))
    member_id = MemberId(_canonical_uuid(params.member_id, "member"))
    state = ClusterStateRow(
        cluster_id=cluster_id,
        label=label,
        dual_identity=params.dual_identity,
        epoch_number=FIRST_EPOCH,
        epoch_member=member_id,
        primary=member_id,
        visible=(member_id,),
        feature_level=FEATURE_LEVEL,
        sealed_keys=b"",
        ca_certificate_der=b"",
    )
    member = MemberRow(
        member_id=member_id,
        name=params.member_name,
        address=params.address,
        admin_port=params.admin_port,
        crypto_port=params.crypto_port,
        group=DEFAULT_GROUP,
        key_sha256=b"",
        certificate_der=b"",
    )
    return state, member


def _authorized(
    state: ClusterStateRow,
    row: MemberRow,
    params: Authorize,
    *,
    master: MasterKeys,
    keys: ClusterKeys,
    authority: CertificateAuthority,
) -> Authorized:
    return Authorized(
        cluster_id=state.cluster_id,
        member_id=row.member_id,
        dual_identity=state.dual_identity,
        master=master,
        keys=keys,
        authority=authority,
        smk=params.smk,
        domain=params.domain,
    )


def _canonical_uuid(text: str, what: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        message = f"The {what} id must be a UUID; it is {text!r}."
        raise BadInput(faults.BAD_REQUEST, message) from None


def _summary(state: ClusterStateRow) -> ClusterSummary:
    certificate = state.ca_certificate_der
    return ClusterSummary(
        cluster_id=state.cluster_id,
        label=state.label,
        dual_identity=state.dual_identity,
        ca_certificate_pem=pem(certificate) if certificate else "",
    )


def _cluster_keys(
    writer: ClusterWriter, state: ClusterStateRow, master: MasterKeys, now: datetime
) -> tuple[ClusterKeys, CertificateAuthority]:
    """Open the cluster's keys, or make and store them when there are none."""
    if state.sealed_keys:
        keys = open_cluster_keys(state.sealed_keys, master, state.cluster_id)
        return keys, CertificateAuthority.load(keys.ca_key_pkcs8, state.ca_certificate_der)
    authority = CertificateAuthority.create(state.cluster_id, state.label, now)
    keys = ClusterKeys(ca_key_pkcs8=authority.key_pkcs8(), ticket_keys=[new_ticket_key(1)])
    writer.put_cluster_state(
        replace(
            state,
            sealed_keys=seal_cluster_keys(keys, master, state.cluster_id),
            ca_certificate_der=der(authority.certificate),
        )
    )
    return keys, authority
