"""What a LunaSH command means by what it does not name: this HSM, the only cluster, this member."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from conclave import faults
from conclave.errors import NotFound
from conclave.hsm.views import PartitionInfo
from conclave.operations.cluster_calls import ask, find_cluster
from conclave.operations.commands import ShellCall
from conclave.service.messages import MemberList
from conclave.service.quiet import Nothing

Default = Callable[[ShellCall], Awaitable[str]]


async def this_hsm(shell: ShellCall) -> str:
    """Return the serial number of this appliance's HSM."""
    return shell.appliance.hsm.info().serial


async def only_cluster(shell: ShellCall) -> str:
    """Return the id of this appliance's cluster; raise NotFound, or NotAllowed when stopped."""
    cluster = await find_cluster(shell)
    if cluster is None:
        message = "There is no cluster on this appliance: create one, or join another's, first."
        raise NotFound(faults.CLUSTER_NOT_FOUND, message)
    return cluster.cluster_id


async def local_member(shell: ShellCall) -> str:
    """Return the id of the cluster's member on this appliance; raise NotFound."""
    await only_cluster(shell)
    found = await ask(shell, "list_members", Nothing(), MemberList)
    for member in found.members:
        if member.local:
            return member.member_id
    message = "This appliance is no member of its cluster any more."
    raise NotFound(faults.MEMBER_NOT_FOUND, message)


async def own_user(shell: ShellCall) -> str:
    """Return the name of the user whose session this is."""
    return shell.caller.user.user_id


async def partition_id(shell: ShellCall, name: str) -> str:
    """Return the serial number of a partition that is named by label, name or serial number."""
    return find_partition(shell, name).partition_id


def find_partition(shell: ShellCall, name: str) -> PartitionInfo:
    """Return a partition that is named by label, name or serial number; raise NotFound."""
    for partition in shell.appliance.hsm.partitions():
        if name in (partition.name, partition.label, partition.partition_id):
            return partition
    message = f"This HSM has no partition {name[:64]!r}; 'partition list' shows what it has."
    raise NotFound(faults.INVALID_PARTITION, message)


DEFAULTS: Final[Mapping[str, Default]] = {
    "hsmid": this_hsm,
    "clusterid": only_cluster,
    "memberid": local_member,
    "userid": own_user,
}
"""By placeholder of an operation's path."""
