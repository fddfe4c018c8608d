"""Clusters: configuration, create, list, show, certificate authority, members, authorization."""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec import UNSET, Meta, UnsetType, field

from conclave import __version__, faults
from conclave.appliance.cluster_service import ListenerConfig
from conclave.errors import BadInput, NotFound
from conclave.operations.cluster_calls import ask, find_cluster, the_cluster
from conclave.operations.fields import Authentications, Port, credential
from conclave.operations.model import (
    ADMINS,
    DONE,
    NOBODY,
    READERS,
    Arguments,
    Call,
    Doors,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CLUSTER_CALL, CREDENTIAL, PARTITION_FOR_CLUSTER
from conclave.service.messages import ClusterSummary, MemberList, MemberSummary, Nothing

CONFIG = "/api/cluster/config"
CLUSTERS = "/api/clusters"
CLUSTER = f"{CLUSTERS}/{{clusterid}}"
MEMBER = f"{CLUSTER}/members/{{memberid}}"
ClusterLabel = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\- ]+$")]
Address = Annotated[str, Meta(min_length=2, max_length=45, pattern=r"^[0-9A-Fa-f:.]+$")]
Interface = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[a-z][a-z0-9.:_-]*$")]


# ---------------------------------------------------------------- what is sent


class SetCore(Arguments, frozen=True, tag_field="service", tag="core"):
    """The core address: one of the appliance's, fixed until factory reset."""

    address: Address | UnsetType = field(name="IpAddress", default=UNSET)
    same_address: Address | UnsetType = field(name="ipAddress", default=UNSET)


class SetListener(Arguments, frozen=True):
    """Device and port of a listener; what is absent stays."""

    interface: Interface | UnsetType = UNSET
    port: Port | UnsetType = UNSET


class SetAdmin(SetListener, frozen=True, tag_field="service", tag="admin"):
    """Where the admin service listens: port 50070 or 50075 to 50079."""


class SetCrypto(SetListener, frozen=True, tag_field="service", tag="crypto"):
    """Where the crypto service listens: port 50052 or 50055 to 50059."""


class SetIdentity(Arguments, frozen=True, tag_field="service", tag="identity"):
    """One password for both roles of a keyring, or one each; fixed once a cluster exists."""

    mode: Literal["single", "dual"]


Configure = SetCore | SetAdmin | SetCrypto | SetIdentity


class CreateCluster(Arguments, frozen=True):
    """A new cluster; the HSM SO authenticates."""

    authentication: Authentications
    cluster_label: ClusterLabel


class AuthorizeMember(Arguments, frozen=True):
    """The CO of the cluster's partition lets the member use the SMK."""

    action: Literal["authorize"]
    authentication: Authentications


# ---------------------------------------------------------------- what is answered


class ServiceSetting(Result, frozen=True, omit_defaults=True):
    """The configuration of one part of the cluster service."""

    service: str
    ip_address: str | None = field(name="IpAddress", default=None)
    interface: str | None = None
    port: int | None = None
    mode: str | None = None


class Configuration(Result, frozen=True):
    """The configuration of the cluster service."""

    data: list[ServiceSetting]


class ClusterReference(Result, frozen=True):
    """A cluster in a list."""

    cluster_label: str
    cluster_uuid: str = field(name="clusterUUID")


class Clusters(Result, frozen=True):
    """The one cluster, or none."""

    data: list[ClusterReference]


class ClusterView(ClusterReference, frozen=True):
    """One cluster."""

    identity_mode: Literal["single", "dual"]
    members: str
    clients: str


class Authority(Result, frozen=True):
    """The cluster's certificate authority; the fingerprint is SHA-256 of its certificate."""

    cluster_uuid: str = field(name="clusterUUID")
    ca_certificate: str
    fingerprint: str
    server_common_name: str


class MemberView(Result, frozen=True):
    """One member of the cluster."""

    member_uuid: str = field(name="memberUUID")
    member_id: str
    member_name: str
    member_label: str
    ip_address: str
    admin_port: int
    crypto_port: int
    group: str
    primary_node: bool
    member_active: bool
    visible_to_servicing_node: bool
    restart_service: bool
    mode: Literal["Read-Write", "Read-Only"]
    local: bool
    version: str
    url: str


class Members(Result, frozen=True):
    """All members."""

    data: list[MemberView]


def cluster_view(cluster: ClusterSummary) -> ClusterView:
    """Return a cluster as answers show it."""
    url = f"{CLUSTERS}/{cluster.cluster_id}"
    return ClusterView(
        cluster_label=cluster.label,
        cluster_uuid=cluster.cluster_id,
        identity_mode="dual" if cluster.dual_identity else "single",
        members=f"{url}/members",
        clients=f"{url}/clients",
    )


def fingerprint(certificate_pem: str) -> str:
    """Return SHA-256 of a certificate as colon-separated hex, as OpenSSL prints it."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _member_view(call: Call, cluster_id: str, member: MemberSummary) -> MemberView:
    restart = member.local and bool(call.appliance.cluster.status().restart_required)
    return MemberView(
        member_uuid=member.member_id,
        member_id=member.member_id,
        member_name=member.name,
        member_label=member.name,
        ip_address=member.address,
        admin_port=member.admin_port,
        crypto_port=member.crypto_port,
        group=member.group,
        primary_node=member.primary,
        member_active=member.authorized,
        visible_to_servicing_node=member.visible,
        restart_service=restart,
        mode="Read-Write" if member.read_write else "Read-Only",
        local=member.local,
        version=__version__,
        url=f"{CLUSTERS}/{cluster_id}/members/{member.member_id}",
    )


# ---------------------------------------------------------------- configuration


def _listener(service: str, listener: ListenerConfig) -> ServiceSetting:
    return ServiceSetting(
        service=service, interface=listener.interface or "all", port=listener.port
    )


@operation(
    "cluster.config.show",
    "GET",
    CONFIG,
    summary="Show addresses, devices, ports and identity mode of the cluster service.",
    chapter="2",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=Configuration,
    paged=True,
)
async def show_config(call: Call, _arguments: NoArguments) -> Reply:
    """Show the configuration of the cluster service."""
    config = call.appliance.cluster.config()
    data = [
        ServiceSetting(service="core", ip_address=config.core_address or ""),
        _listener("admin", config.admin),
        _listener("crypto", config.crypto),
        ServiceSetting(service="identity", mode=config.identity),
    ]
    return Reply(body=Configuration(data=data))


def check_config(_call: Call, arguments: Configure) -> None:
    """The core address is given once; a listener is given a device or a port."""
    if isinstance(arguments, SetCore):
        given = {arguments.address, arguments.same_address} - {UNSET}
        if len(given) != 1:
            message = "IpAddress (or ipAddress) must be given once for the service core."
            raise BadInput(faults.BAD_REQUEST, message)
    elif isinstance(arguments, SetListener) and arguments.interface is arguments.port is UNSET:
        message = "interface or port must be given."
        raise BadInput(faults.BAD_REQUEST, message)


@operation(
    "cluster.config.set",
    "PUT",
    CONFIG,
    summary="Set the core address, device and port of a listener, or the identity mode.",
    chapter="2",
    doors=Doors.BOTH,
    arguments=Configure,
    roles=ADMINS,
    checks=(check_config,),
    faults=(faults.CLUSTER_CONFIG, faults.CLUSTER_CONFIG_FIXED),
)
async def set_config(call: Call, arguments: Configure) -> Reply:
    """Change the configuration of the cluster service."""
    cluster = call.appliance.cluster
    match arguments:
        case SetCore():
            given = arguments.address
            address = arguments.same_address if isinstance(given, UnsetType) else given
            await cluster.set_core_address(str(address))
        case SetIdentity():
            await cluster.set_identity(arguments.mode)
        case SetAdmin() | SetCrypto():
            device, port = arguments.interface, arguments.port
            await cluster.set_listener(
                "admin" if isinstance(arguments, SetAdmin) else "crypto",
                interface=None if isinstance(device, UnsetType) else device,
                port=None if isinstance(port, UnsetType) else port,
            )
    return DONE


# ---------------------------------------------------------------- clusters


@operation(
    "cluster.list",
    "GET",
    CLUSTERS,
    summary="List the clusters: one, or none.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=Clusters,
    faults=CLUSTER_CALL,
    paged=True,
)
async def list_clusters(call: Call, _arguments: NoArguments) -> Reply:
    """List the clusters."""
    cluster = await find_cluster(call)
    found = [cluster] if cluster else []
    return Reply(
        body=Clusters(
            data=[
                ClusterReference(cluster_label=each.label, cluster_uuid=each.cluster_id)
                for each in found
            ]
        )
    )


@operation(
    "cluster.create",
    "POST",
    CLUSTERS,
    summary="Create a cluster of which this appliance is the first member and the primary.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=CreateCluster,
    roles=ADMINS,
    statuses=(201,),
    result=ClusterView,
    faults=(
        *CLUSTER_CALL,
        *PARTITION_FOR_CLUSTER,
        *CREDENTIAL,
        faults.CLUSTER_EXISTS,
        faults.CLUSTER_CONFIG,
        faults.CLUSTER_CONFIG_MISSING,
    ),
)
async def create_cluster(call: Call, arguments: CreateCluster) -> Reply:
    """Create a cluster after the HSM SO's password was checked."""
    password, _ = credential(arguments.authentication, "SO")
    cluster = await call.appliance.cluster.create_cluster(
        arguments.cluster_label, password, source=call.source
    )
    return Reply(body=cluster_view(cluster), location=f"{CLUSTERS}/{cluster.cluster_id}")


@operation(
    "cluster.show",
    "GET",
    CLUSTER,
    summary="Show a cluster.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=ClusterView,
    faults=CLUSTER_CALL,
)
async def show_cluster(call: Call, _arguments: NoArguments) -> Reply:
    """Show a cluster."""
    return Reply(body=cluster_view(await the_cluster(call)))


@operation(
    "cluster.ca",
    "GET",
    "/api/cluster/ca",
    summary="Show the cluster CA's certificate and fingerprint, before any password is sent.",
    chapter="4",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=NOBODY,
    statuses=(200,),
    result=Authority,
    faults=CLUSTER_CALL,
)
async def show_authority(call: Call, _arguments: NoArguments) -> Reply:
    """Show the cluster's certificate authority; it exists once a member was authorized."""
    cluster = await the_cluster(call)
    if not cluster.ca_certificate_pem:
        message = "The cluster has no certificate authority yet: authorize its first member."
        raise NotFound(faults.MEMBER_NOT_AUTHORIZED, message)
    return Reply(
        body=Authority(
            cluster_uuid=cluster.cluster_id,
            ca_certificate=cluster.ca_certificate_pem,
            fingerprint=fingerprint(cluster.ca_certificate_pem),
            server_common_name=call.appliance.config.server_common_name,
        )
    )


# ---------------------------------------------------------------- members


@operation(
    "member.list",
    "GET",
    f"{CLUSTER}/members",
    summary="List the members with mode, primary, visibility and authorization.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=Members,
    faults=CLUSTER_CALL,
    paged=True,
)
async def list_members(call: Call, _arguments: NoArguments) -> Reply:
    """List the members."""
    cluster = await the_cluster(call)
    found = await ask(call, "list_members", Nothing(), MemberList)
    views = [_member_view(call, cluster.cluster_id, member) for member in found.members]
    return Reply(body=Members(data=views))


async def _find_member(call: Call) -> tuple[ClusterSummary, MemberSummary]:
    cluster = await the_cluster(call)
    found = await ask(call, "list_members", Nothing(), MemberList)
    for member in found.members:
        if member.member_id == call.path["memberid"].lower():
            return cluster, member
    message = f"The cluster has no member {call.path['memberid'][:64]!r}."
    raise NotFound(faults.MEMBER_NOT_FOUND, message)


@operation(
    "member.show",
    "GET",
    MEMBER,
    summary="Show a member.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=MemberView,
    faults=(*CLUSTER_CALL, faults.MEMBER_NOT_FOUND),
)
async def show_member(call: Call, _arguments: NoArguments) -> Reply:
    """Show a member."""
    cluster, member = await _find_member(call)
    return Reply(body=_member_view(call, cluster.cluster_id, member))


@operation(
    "member.authorize",
    "PUT",
    MEMBER,
    summary="Authorize a member with the CO's password of the cluster's partition.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=AuthorizeMember,
    roles=ADMINS,
    faults=(
        *CLUSTER_CALL,
        *PARTITION_FOR_CLUSTER,
        *CREDENTIAL,
        faults.MEMBER_NOT_FOUND,
    ),
)
async def authorize_member(call: Call, arguments: AuthorizeMember) -> Reply:
    """Authorize a member."""
    password, label = credential(arguments.authentication, "CO")
    if label is None:
        message = "authentication[0].partitionLabel is required to authorize a member."
        raise BadInput(faults.BAD_REQUEST, message)
    _, member = await _find_member(call)
    await call.appliance.cluster.authorize(member.member_id, label, password, source=call.source)
    return DONE
