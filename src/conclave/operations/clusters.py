"""Clusters: create, join, list, show, certificate authority."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec import UNSET, Meta, UnsetType, field

from conclave import faults
from conclave.appliance.cluster_join import JoinRequest
from conclave.errors import NotFound
from conclave.lunash.render import cluster as render
from conclave.operations.cluster_calls import find_cluster, the_cluster
from conclave.operations.cluster_options import (
    BY_CO,
    CLUSTER_ID,
    CO_PASSWORD,
    PARTITION_LABEL,
)
from conclave.operations.commands import Command, Kind, Option
from conclave.operations.commands import credential as credential_option
from conclave.operations.fields import (
    SECRET,
    Address,
    Authentications,
    ClusterName,
    credential,
    require_label,
)
from conclave.operations.model import (
    ADMINS,
    DONE,
    NOBODY,
    READERS,
    Arguments,
    Call,
    Doors,
    Duration,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import (
    CLUSTER_CALL,
    CREDENTIAL,
    MEMBER_CALL,
    PARTITION_FOR_CLUSTER,
)
from conclave.operations.reveals import Reveals
from conclave.operations.services import warn_of_hsm_clock
from conclave.operations.tasks import TaskView
from conclave.service.messages import ClusterSummary
from conclave.store.location import EngineName

CLUSTERS = "/api/clusters"
CLUSTER = f"{CLUSTERS}/{{clusterid}}"
RemotePassword = Annotated[str, Meta(min_length=1, max_length=255, extra=SECRET)]
Fingerprint = Annotated[str, Meta(max_length=95, pattern=r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")]
_JOIN_SETTLE_SECONDS: Final = 2.0
"""A wrong password of the CO is answered directly."""
_JOIN_WARNING: Final = (
    "Users, passwords and roles of this appliance will be replaced by those of the cluster.\n\n"
    "Type 'proceed' to join the cluster, or 'quit' to quit now."
)


class CreateCluster(Arguments, frozen=True):
    """A new cluster; the HSM SO authenticates.

    `engine` says where its store is: `postgresql` from the first authorization on, or `sqlite`
    until another member joins.
    """

    authentication: Authentications
    cluster_label: ClusterName
    engine: EngineName = "sqlite"


class JoinCluster(Arguments, frozen=True):
    """Join the cluster of another appliance; the CO of the cluster's partition authenticates.

    `remoteFingerprint` is SHA-256 of the other cluster's CA certificate, as GET /api/cluster/ca
    shows it there; it is required when the partition has the default cloning domain.
    """

    action: Literal["join"]
    authentication: Authentications
    remote_cluster_ip_address: Address
    remote_admin_password: RemotePassword
    remote_fingerprint: Fingerprint | UnsetType = UNSET


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


@operation(
    "cluster.list",
    "GET",
    CLUSTERS,
    summary="List the clusters: one, or none.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("list_clusters",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Clusters,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="cluster list",
            summary="List the clusters: one, or none.",
            chapter="3",
            render=render.cluster_list,
        ),
    ),
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
    cluster_methods=("create_cluster",),
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
        faults.POSTGRESQL_MISSING,
    ),
    commands=(
        Command(
            words="cluster create",
            summary="Create a cluster of which this appliance is the first member.",
            chapter="3",
            options=(
                Option(
                    name="label",
                    short="l",
                    summary="label of the cluster",
                    value="label",
                    target="clusterLabel",
                    required=True,
                ),
                credential_option(
                    "password",
                    short="p",
                    summary="password of the HSM SO",
                    prompt="Please enter the HSM Administrators' password:",
                    target="authentication[0].password",
                ),
                Option(
                    name="engine",
                    short="e",
                    summary="what keeps the store; sqlite, until another joins, if absent",
                    value="engine",
                    kind=Kind.CHOICE,
                    choices=get_args(EngineName),
                    target="engine",
                ),
            ),
            fixed={"authentication[0].type": "SO"},
            render=render.cluster_created,
        ),
    ),
)
async def create_cluster(call: Call, arguments: CreateCluster) -> Reply:
    """Create a cluster after the HSM SO's password was checked."""
    password, _ = credential(arguments.authentication, "SO")
    warn_of_hsm_clock(call)
    cluster = await call.appliance.cluster.create_cluster(
        arguments.cluster_label, password, arguments.engine, source=call.source
    )
    return Reply(body=cluster_view(cluster), location=f"{CLUSTERS}/{cluster.cluster_id}")


@operation(
    "cluster.show",
    "GET",
    CLUSTER,
    summary="Show a cluster.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("list_clusters",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=ClusterView,
    faults=CLUSTER_CALL,
    commands=(
        Command(
            words="cluster show",
            summary="Show the cluster: label, id, identity mode.",
            options=(CLUSTER_ID,),
            render=render.cluster_show,
        ),
    ),
)
async def show_cluster(call: Call, _arguments: NoArguments) -> Reply:
    """Show a cluster."""
    return Reply(body=cluster_view(await the_cluster(call)))


def check_join(call: Call, arguments: JoinCluster) -> None:
    """The service must run without a cluster, on a ready partition, with a core address."""
    call.appliance.cluster.check_join(arguments.remote_cluster_ip_address)
    _co_of_partition(arguments)


def _co_of_partition(arguments: JoinCluster) -> tuple[bytes, str]:
    password, label = credential(arguments.authentication, "CO")
    return password, require_label(label, "to join a cluster")


@operation(
    "cluster.join",
    "PUT",
    CLUSTER,
    summary="Join another appliance's cluster, as a task; its details say how far it is.",
    chapter="3",
    doors=Doors.BOTH,
    arguments=JoinCluster,
    roles=ADMINS,
    statuses=(202,),
    result=TaskView,
    checks=(check_join,),
    duration=Duration.TASK,
    settle_seconds=_JOIN_SETTLE_SECONDS,
    faults=(
        *CLUSTER_CALL,
        *PARTITION_FOR_CLUSTER,
        *CREDENTIAL,
        *MEMBER_CALL,
        faults.CLUSTER_EXISTS,
        faults.CLUSTER_CONFIG,
        faults.CLUSTER_CONFIG_MISSING,
        faults.CLONING_DOMAIN_MISMATCH,
        faults.JOIN_REFUSED,
        faults.JOIN_FINGERPRINT,
        faults.JOIN_DELAYED,
        faults.JOIN_BROKEN,
        faults.JOIN_IN_PROGRESS,
        faults.CLOCK_SKEW,
        faults.WRONG_CLUSTER,
        faults.MEMBER_LIMIT,
        faults.VERSION_MISMATCH,
        faults.CONVERSION_FAILED,
        faults.POSTGRESQL_MISSING,
        faults.POSTGRESQL_FAILED,
        faults.MEMBERS_UNREACHABLE,
        faults.HSM_STORAGE,
        faults.CERTIFICATE_VALIDITY,
    ),
    commands=(
        Command(
            words="cluster join",
            summary="Join the cluster of another appliance.",
            chapter="3",
            options=(
                replace(CLUSTER_ID, summary="id of the other appliance's cluster", required=True),
                Option(
                    name="clusteripaddress",
                    short="clusteri",
                    summary="address of a member of that cluster",
                    value="ipaddress",
                    target="remoteClusterIpAddress",
                    required=True,
                ),
                Option(
                    name="remotepassword",
                    short="r",
                    summary="password of that appliance's user admin",
                    value="adminpassword",
                    kind=Kind.SECRET,
                    target="remoteAdminPassword",
                    required=True,
                    prompt="Please enter the password of the remote appliance's user admin:",
                ),
                PARTITION_LABEL,
                CO_PASSWORD,
                Option(
                    name="fingerprint",
                    short="fi",
                    summary="SHA-256 of the other cluster's CA, as 'cluster ca show' has it there",
                    value="hex",
                    target="remoteFingerprint",
                ),
            ),
            fixed={"action": "join", **BY_CO},
            proceed=_JOIN_WARNING,
        ),
    ),
)
async def join_cluster(call: Call, arguments: JoinCluster) -> Reply:
    """Join a cluster; the task ends as the join did."""
    password, label = _co_of_partition(arguments)
    given = arguments.remote_fingerprint
    request = JoinRequest(
        cluster_id=call.path["clusterid"].lower(),
        remote_address=arguments.remote_cluster_ip_address,
        remote_admin_password=arguments.remote_admin_password.encode(),
        remote_fingerprint="" if isinstance(given, UnsetType) else given,
        partition_label=label,
        co_password=password,
        source=call.source,
    )
    warn_of_hsm_clock(call)
    await call.appliance.cluster.join(request, call.progress)
    return DONE


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
    commands=(
        Command(
            words="cluster ca show",
            summary="Show the cluster CA's certificate and its fingerprint.",
            chapter="4",
            render=render.authority,
        ),
    ),
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
