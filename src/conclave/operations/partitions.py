"""Partitions: create, initialise, delete, log in and out, policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.errors import NotAllowed
from conclave.hsm.views import PartitionInfo
from conclave.operations import places
from conclave.operations.commands import PATH, Answers, Command, Kind, Option, ShellCall
from conclave.operations.fields import (
    Domain,
    HsmPassword,
    PartitionName,
    Ped,
    password_bytes,
    refuse_ped,
)
from conclave.operations.hsm import (
    HSM,
    Policies,
    PolicyView,
    Reference,
    SetPolicy,
    check_hsm,
    check_policy_value,
    check_private_session,
    check_so_login,
    chosen_domain,
    find_policy,
    policy_view,
    private_session,
)
from conclave.operations.login_state import require_role
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CREDENTIAL, HSM_CHANGE
from conclave.operations.reveals import Reveals
from conclave.packages.manifest import CLUSTER_PACKAGE

if TYPE_CHECKING:
    from conclave.appliance.appliance import Appliance

PARTITIONS = f"{HSM}/partitions"
PARTITION = f"{PARTITIONS}/{{partitionid}}"
_MISSING = (faults.INVALID_HSM, faults.INVALID_PARTITION)
_CHANGE = (*HSM_CHANGE, faults.INVALID_PARTITION)
RoleName = Literal["so", "co", "cu"]


class Partitions(Result, frozen=True):
    """All partitions."""

    partitions: list[Reference]


class PartitionView(Result, frozen=True):
    """One partition."""

    id: str
    serial_number: str
    name: str
    label: str
    state: Literal["initialized", "uninitialized"]
    version: int
    has_pso: bool
    size: int
    object_count: int
    policies: str
    roles: str


class CreatePartition(Arguments, frozen=True):
    """A new partition; a cluster needs version 1."""

    name: PartitionName
    has_pso: bool
    all_storage_space: bool = False
    size: Annotated[int, Meta(ge=1, le=2**62)] | UnsetType = UNSET
    version: Literal[0, 1] = 0


class InitializePartition(Arguments, frozen=True):
    """What a partition and its PO are initialised with."""

    password: HsmPassword
    label: PartitionName | UnsetType = UNSET
    domain: Domain | UnsetType = UNSET
    default_domain: bool = False
    domain_label: Annotated[str, Meta(max_length=32)] | UnsetType = UNSET
    ped: Ped = "0"


class LogInRole(Arguments, frozen=True):
    """A password of a partition's role; `so` is the Partition SO."""

    password: HsmPassword
    role: RoleName
    ped: Ped = "0"


class LogOutRole(Arguments, frozen=True):
    """The role to log out; without one, all of them."""

    role: RoleName | UnsetType = UNSET


def check_partition(call: Call, arguments: object) -> None:
    """HSM and partition must exist."""
    check_hsm(call, arguments)
    call.appliance.hsm.partition(call.path["partitionid"])


def check_access(call: Call, _arguments: object) -> None:
    """A partition of version 0 must not be disabled by the cluster's package (rule D3)."""
    partition = call.appliance.hsm.partition(call.path["partitionid"])
    cluster = call.appliance.packages.cluster
    if partition.version == 0 and cluster.release is not None and not cluster.preinstalled:
        message = (
            f"Partition {partition.name} has version 0: access to it is disabled while the package"
            f" {CLUSTER_PACKAGE} is installed, and comes back when that is removed."
        )
        raise NotAllowed(faults.PARTITION_DISABLED, message)


def check_po_login(call: Call, _arguments: object) -> None:
    """The Partition SO must be logged in to the caller's private session."""
    require_role(call.session, call.appliance.hsm, call.path["partitionid"], "so")


def partition_url(call: Call, partition_id: str) -> str:
    """Return a partition's path."""
    return f"/api/lunasa/hsms/{call.path['hsmid']}/partitions/{partition_id}"


def _view(call: Call, partition: PartitionInfo) -> PartitionView:
    url = partition_url(call, partition.partition_id)
    return PartitionView(
        id=partition.partition_id,
        serial_number=partition.partition_id,
        name=partition.name,
        label=partition.label,
        state="initialized" if partition.initialized else "uninitialized",
        version=partition.version,
        has_pso=partition.has_pso,
        size=partition.size,
        object_count=partition.object_count,
        policies=f"{url}/policies",
        roles=f"{url}/roles",
    )


@operation(
    "partition.list",
    "GET",
    PARTITIONS,
    summary="List the partitions.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Partitions,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    paged=True,
)
async def list_partitions(call: Call, _arguments: NoArguments) -> Reply:
    """List the partitions."""
    found = [
        Reference(id=partition.partition_id, url=partition_url(call, partition.partition_id))
        for partition in call.appliance.hsm.partitions()
    ]
    return Reply(body=Partitions(partitions=found))


@operation(
    "partition.show",
    "GET",
    PARTITION,
    summary="Show a partition.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=PartitionView,
    checks=(check_partition,),
    faults=_MISSING,
)
async def show_partition(call: Call, _arguments: NoArguments) -> Reply:
    """Show a partition."""
    partition = call.appliance.hsm.partition(call.path["partitionid"])
    return Reply(body=_view(call, partition))


@operation(
    "partition.create",
    "POST",
    PARTITIONS,
    summary="Create a partition; the HSM SO must be logged in.",
    chapter="2",
    arguments=CreatePartition,
    roles=OPERATORS,
    checks=(check_hsm, check_so_login),
    faults=(
        *HSM_CHANGE,
        faults.SO_NOT_LOGGED_IN,
        faults.PARTITION_EXISTS,
        faults.PARTITION_LIMIT,
    ),
    commands=(
        Command(
            words="partition create",
            summary="Create a partition; the HSM SO must be logged in.",
            chapter="2",
            options=(
                Option(
                    name="partition",
                    short="pa",
                    summary="name of the partition",
                    value="name",
                    target="name",
                    required=True,
                ),
                Option(
                    name="version",
                    short="v",
                    summary="1 for a cluster's partition; 0 if absent",
                    kind=Kind.NUMBER,
                    value="0|1",
                    target="version",
                ),
                Option(
                    name="size",
                    short="s",
                    summary="bytes of HSM storage",
                    kind=Kind.NUMBER,
                    value="bytes",
                    target="size",
                ),
                Option(
                    name="allfreestorage",
                    short="a",
                    summary="take all the storage that is left",
                    kind=Kind.FLAG,
                    target="allStorageSpace",
                ),
            ),
            fixed={"hasPso": True},
            proceed="Type 'proceed' to create the partition, or 'quit' to quit now.",
            success="'partition create' successful.",
        ),
    ),
)
async def create_partition(call: Call, arguments: CreatePartition) -> Reply:
    """Create a partition."""
    hsm = call.appliance.hsm
    size = None if isinstance(arguments.size, UnsetType) else arguments.size
    if arguments.all_storage_space:
        info = hsm.info()
        size = info.storage_total - info.storage_used
    partition_id = await hsm.create_partition(
        arguments.name, version=arguments.version, has_pso=arguments.has_pso, size=size
    )
    return Reply(location=partition_url(call, partition_id))


@operation(
    "partition.initialize",
    "PUT",
    PARTITION,
    summary="Initialise a partition and its Partition SO, with its cloning domain.",
    chapter="2",
    arguments=InitializePartition,
    roles=OPERATORS,
    checks=(check_partition,),
    faults=(*_CHANGE, faults.PARTITION_EXISTS, faults.FUNCTION_NOT_SUPPORTED),
)
async def initialize_partition(call: Call, arguments: InitializePartition) -> Reply:
    """Initialise a partition."""
    refuse_ped(arguments.ped)
    partition_id = call.path["partitionid"]
    await call.appliance.hsm.initialize_partition(
        partition_id,
        None if isinstance(arguments.label, UnsetType) else arguments.label,
        password_bytes("password", arguments.password),
        chosen_domain(arguments.domain, arguments.default_domain),
        source=call.source,
    )
    return Reply(location=partition_url(call, partition_id))


def _delete_warning(shell: ShellCall, _answers: Answers) -> str:
    warning = "CAUTION:  The partition and everything in it will be erased.\n"
    if shell.appliance.cluster.status().has_cluster:
        warning += "          A cluster exists here: it cannot go on without its partition.\n"
    return f"{warning}\nType 'proceed' to delete the partition, or 'quit' to quit now."


@operation(
    "partition.delete",
    "DELETE",
    PARTITION,
    summary="Delete a partition with its roles and its SMK; the HSM SO must be logged in.",
    arguments=NoArguments,
    roles=OPERATORS,
    checks=(check_partition, check_so_login),
    faults=(*_CHANGE, faults.SO_NOT_LOGGED_IN),
    commands=(
        Command(
            words="partition delete",
            summary="Delete a partition with everything in it; the HSM SO must be logged in.",
            options=(
                Option(
                    name="partition",
                    short="pa",
                    summary="label, name or serial number of the partition",
                    value="label",
                    target=f"{PATH}partitionid",
                    required=True,
                    resolve=places.partition_id,
                ),
            ),
            proceed=_delete_warning,
            success="'partition delete' successful.",
        ),
    ),
)
async def delete_partition(call: Call, _arguments: NoArguments) -> Reply:
    """Delete a partition."""
    await call.appliance.hsm.delete_partition(call.path["partitionid"])
    return DONE


@operation(
    "partition.login",
    "POST",
    f"{PARTITION}/login",
    summary="Log a role of a partition in to the private session.",
    chapter="2",
    arguments=LogInRole,
    roles=OPERATORS,
    checks=(check_partition, check_access, check_private_session),
    faults=(*_CHANGE, *CREDENTIAL, faults.PARTITION_DISABLED),
)
async def log_in_role(call: Call, arguments: LogInRole) -> Reply:
    """Log a role of a partition in."""
    refuse_ped(arguments.ped)
    session = private_session(call)
    partition_id = call.path["partitionid"]
    version = await call.appliance.hsm.verify_role(
        partition_id,
        arguments.role,
        password_bytes("password", arguments.password),
        source=call.source,
    )
    session.roles[(partition_id, arguments.role)] = version
    return Reply(location=f"{partition_url(call, partition_id)}/login/{arguments.role}/1")


@operation(
    "partition.logout",
    "POST",
    f"{PARTITION}/logout",
    summary="Log a partition's roles out of the private session.",
    arguments=LogOutRole,
    roles=OPERATORS,
    checks=(check_partition, check_private_session),
    faults=_CHANGE,
)
async def log_out_role(call: Call, arguments: LogOutRole) -> Reply:
    """Log roles of a partition out."""
    session = private_session(call)
    partition_id = call.path["partitionid"]
    if isinstance(arguments.role, UnsetType):
        session.forget_partition(partition_id)
    else:
        session.roles.pop((partition_id, arguments.role), None)
    return Reply(location=partition_url(call, partition_id))


@operation(
    "partition.policies",
    "GET",
    f"{PARTITION}/policies",
    summary="List a partition's policies.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Policies,
    checks=(check_partition,),
    faults=_MISSING,
    paged=True,
)
async def list_policies(call: Call, _arguments: NoArguments) -> Reply:
    """List a partition's policies."""
    partition_id = call.path["partitionid"]
    url = f"{partition_url(call, partition_id)}/policies"
    policies = call.appliance.hsm.partition_policies(partition_id)
    return Reply(body=Policies(policies=[policy_view(policy, url) for policy in policies]))


@operation(
    "partition.policy",
    "GET",
    f"{PARTITION}/policies/{{policyid}}",
    summary="Show a policy of a partition.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=PolicyView,
    checks=(check_partition,),
    faults=(*_MISSING, faults.INVALID_POLICY),
    only="REST: 'partition showPolicies' shows all of them.",
)
async def show_policy(call: Call, _arguments: NoArguments) -> Reply:
    """Show a policy of a partition."""
    partition_id = call.path["partitionid"]
    policies = call.appliance.hsm.partition_policies(partition_id)
    policy = find_policy(policies, call.path["policyid"])
    return Reply(body=policy_view(policy, f"{partition_url(call, partition_id)}/policies"))


def check_policy(call: Call, arguments: SetPolicy) -> None:
    """The policy must exist, and the value must lie in its range."""
    policies = call.appliance.hsm.partition_policies(call.path["partitionid"])
    check_policy_value(find_policy(policies, call.path["policyid"]), arguments.value)


def policy_warning(appliance: Appliance, partition_id: str, policy_id: str) -> str:
    """Return what whoever changes a policy must know and confirm first; "" for nothing.

    A policy of the cluster's partition is not to be changed while there is a cluster (rule D5).
    """
    policies = appliance.hsm.partition_policies(partition_id)
    warnings = []
    if find_policy(policies, policy_id).destructive:
        warnings.append("Changing this policy is destructive: objects of the partition may go.")
    if (
        appliance.cluster.status().has_cluster
        and appliance.hsm.partition(partition_id).version == 1
    ):
        warnings.append(
            "A cluster exists on this appliance: a change of its partition's policies may stop it"
            " from being authorized, or members from joining."
        )
    return " ".join(warnings)


def _asks(call: Call, _arguments: SetPolicy) -> bool:
    place = call.path["partitionid"], call.path["policyid"]
    return policy_warning(call.appliance, *place) != ""


@operation(
    "partition.policy.set",
    "PUT",
    f"{PARTITION}/policies/{{policyid}}",
    summary="Set a policy of a partition; a destructive one, or one in a cluster, waits.",
    chapter="2",
    arguments=SetPolicy,
    roles=OPERATORS,
    checks=(check_partition, check_po_login, check_policy),
    waits_when=_asks,
    faults=(*_CHANGE, faults.PARTITION_USER_NOT_AUTHENTICATED, faults.INVALID_POLICY),
)
async def set_policy(call: Call, arguments: SetPolicy) -> Reply:
    """Set a policy of a partition."""
    await call.appliance.hsm.change_partition_policy(
        call.path["partitionid"],
        int(call.path["policyid"]),
        arguments.value,
        confirmed=call.confirmed,
    )
    return DONE
