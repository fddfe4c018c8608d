"""Members of the cluster: list, show, authorize, configure, leave, delete; affinity groups."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import UNSET, UnsetType, field

from conclave import faults
from conclave.errors import BadInput, NotFound
from conclave.lunash.render import cluster as render
from conclave.operations.cluster_calls import ask, the_cluster
from conclave.operations.cluster_options import (
    BY_CO,
    CLUSTER_ID,
    CO_PASSWORD,
    MEMBER_ID,
    PARTITION_LABEL,
)
from conclave.operations.clusters import CLUSTER, CLUSTERS
from conclave.operations.commands import Command, Kind, Option
from conclave.operations.fields import (
    Authentications,
    ClusterName,
    credential,
    require_label,
)
from conclave.operations.model import (
    ADMINS,
    DONE,
    READERS,
    Arguments,
    Call,
    Doors,
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
from conclave.service.messages import (
    ClusterSummary,
    DeletedMember,
    GroupList,
    MemberList,
    MemberSummary,
    PromoteMember,
    SetGroup,
)
from conclave.service.quiet import Nothing

MEMBERS = f"{CLUSTER}/members"
MEMBER = f"{MEMBERS}/{{memberid}}"
GROUPS = f"{CLUSTER}/groups"
_BY_CO: Final = (*CLUSTER_CALL, *PARTITION_FOR_CLUSTER, *CREDENTIAL, *MEMBER_CALL)


# ---------------------------------------------------------------- what is sent


class AuthorizeMember(Arguments, frozen=True, tag_field="action", tag="authorize"):
    """The CO of the cluster's partition lets the member use the SMK."""

    authentication: Authentications


class ConfigureMember(Arguments, frozen=True, tag_field="action", tag="config"):
    """Move the member to an affinity group, which is made when it is new, or promote it."""

    group: ClusterName | UnsetType = UNSET
    primary: Literal[True] | UnsetType = UNSET


ChangeMember = AuthorizeMember | ConfigureMember


class LeaveCluster(Arguments, frozen=True):
    """Sent to the member that leaves; the CO of its partition authenticates."""

    action: Literal["leave"]
    authentication: Authentications


class DeleteMember(Arguments, frozen=True):
    """Sent to another member than the one that is gone; the CO of its partition authenticates.

    `force` goes on without members that are not reached; their acknowledged writes may be lost.
    """

    authentication: Authentications
    force: bool = False


# ---------------------------------------------------------------- what is answered


class MemberView(Result, frozen=True):
    """One member of the cluster; `lastContact` is null for the local one, and when never heard."""

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
    last_contact: str | None
    url: str


class Members(Result, frozen=True):
    """All members."""

    data: list[MemberView]


class GroupView(Result, frozen=True):
    """An affinity group with the ids of its members."""

    group: str
    members: list[str]


class Groups(Result, frozen=True):
    """All affinity groups."""

    data: list[GroupView]


class DeletionView(Result, frozen=True):
    """What is to be known of a deletion; each field is empty or null when there is nothing.

    `promotedMember` became primary; writes that only members in `notReached` or the deleted one
    hold are lost, which may be such that were acknowledged after `lastContact`.
    """

    promoted_member: str | None
    last_contact: str | None
    not_reached: list[str]


def _instant(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _member_view(call: Call, cluster_id: str, member: MemberSummary) -> MemberView:
    restart = member.restart_required
    if member.local:
        # The daemon knows its own state before any member does.
        restart = bool(call.appliance.cluster.status().restart_required)
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
        version=member.version,
        last_contact=_instant(member.last_contact_ms),
        url=f"{CLUSTERS}/{cluster_id}/members/{member.member_id}",
    )


async def _find_member(call: Call) -> tuple[ClusterSummary, MemberSummary]:
    cluster = await the_cluster(call)
    found = await ask(call, "list_members", Nothing(), MemberList)
    for member in found.members:
        if member.member_id == call.path["memberid"].lower():
            return cluster, member
    message = f"The cluster has no member {call.path['memberid'][:64]!r}."
    raise NotFound(faults.MEMBER_NOT_FOUND, message)


# ---------------------------------------------------------------- operations


@operation(
    "member.list",
    "GET",
    MEMBERS,
    summary="List the members with mode, primary, visibility and authorization.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("list_members",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Members,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="cluster member list",
            summary="List the members with mode, primary, visibility and authorization.",
            chapter="3",
            options=(CLUSTER_ID,),
            render=render.member_list,
        ),
    ),
)
async def list_members(call: Call, _arguments: NoArguments) -> Reply:
    """List the members."""
    cluster = await the_cluster(call)
    found = await ask(call, "list_members", Nothing(), MemberList)
    views = [_member_view(call, cluster.cluster_id, member) for member in found.members]
    return Reply(body=Members(data=views))


@operation(
    "member.show",
    "GET",
    MEMBER,
    summary="Show a member.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("list_members",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=MemberView,
    faults=(*CLUSTER_CALL, faults.MEMBER_NOT_FOUND),
    commands=(
        Command(
            words="cluster member show",
            summary="Show a member: this appliance's when none is named.",
            chapter="3",
            options=(MEMBER_ID,),
            render=render.member_show,
        ),
    ),
)
async def show_member(call: Call, _arguments: NoArguments) -> Reply:
    """Show a member."""
    cluster, member = await _find_member(call)
    return Reply(body=_member_view(call, cluster.cluster_id, member))


def check_change(_call: Call, arguments: ChangeMember) -> None:
    """A configuration names a group or primary, one of them; an authorization the partition."""
    if isinstance(arguments, ConfigureMember):
        if (arguments.group is UNSET) == (arguments.primary is UNSET):
            message = "Give either group or primary, and not both."
            raise BadInput(faults.BAD_REQUEST, message)
    else:
        _co_of_partition(arguments.authentication, "to authorize a member")


def _co_of_partition(authentication: Authentications, purpose: str) -> tuple[bytes, str]:
    password, label = credential(authentication, "CO")
    return password, require_label(label, purpose)


@operation(
    "member.change",
    "PUT",
    MEMBER,
    summary="Authorize a member with the CO's password, move it to a group, or promote it.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=(
        "authorize",
        "set_group",
        "promote",
    ),
    arguments=ChangeMember,
    roles=ADMINS,
    checks=(check_change,),
    faults=(
        *_BY_CO,
        faults.GROUP_LIMIT,
        faults.CONVERSION_FAILED,
        faults.POSTGRESQL_MISSING,
        faults.POSTGRESQL_FAILED,
    ),
    commands=(
        Command(
            words="cluster member authorize",
            summary="Let a member use the cluster's keys.",
            chapter="3",
            options=(MEMBER_ID, PARTITION_LABEL, CO_PASSWORD),
            fixed={"action": "authorize", **BY_CO},
        ),
        Command(
            words="cluster member config",
            summary="Move a member to an affinity group, or make it the primary.",
            chapter="3",
            options=(
                MEMBER_ID,
                Option(
                    name="group",
                    short="g",
                    summary="the affinity group; it is made when it is new",
                    value="name",
                    target="group",
                ),
                Option(
                    name="primary",
                    short="p",
                    summary="make it the primary",
                    kind=Kind.FLAG,
                    target="primary",
                ),
            ),
            fixed={"action": "config"},
        ),
    ),
)
async def change_member(call: Call, arguments: ChangeMember) -> Reply:
    """Authorize, move or promote a member."""
    if isinstance(arguments, AuthorizeMember):
        password, label = _co_of_partition(arguments.authentication, "to authorize a member")
        _, member = await _find_member(call)
        await call.appliance.cluster.authorize(
            member.member_id, label, password, source=call.source
        )
        return DONE
    _, member = await _find_member(call)
    if isinstance(arguments.group, UnsetType):
        await ask(call, "promote", PromoteMember(member_id=member.member_id), Nothing)
    else:
        wanted = SetGroup(member_id=member.member_id, group=arguments.group)
        await ask(call, "set_group", wanted, Nothing)
    return DONE


def check_leave(_call: Call, arguments: LeaveCluster) -> None:
    """The partition must be named."""
    _co_of_partition(arguments.authentication, "to leave a cluster")


@operation(
    "member.leave",
    "PATCH",
    MEMBER,
    summary="Let this appliance, which must be visible, leave its cluster.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("leave",),
    arguments=LeaveCluster,
    roles=ADMINS,
    checks=(check_leave,),
    faults=_BY_CO,
    commands=(
        Command(
            words="cluster leave",
            summary="Let this appliance leave its cluster; it keeps its partition.",
            chapter="3",
            options=(MEMBER_ID, PARTITION_LABEL, CO_PASSWORD),
            fixed={"action": "leave", **BY_CO},
        ),
    ),
)
async def leave_cluster(call: Call, arguments: LeaveCluster) -> Reply:
    """Leave the cluster."""
    password, label = _co_of_partition(arguments.authentication, "to leave a cluster")
    _, member = await _find_member(call)
    await call.appliance.cluster.leave(member.member_id, label, password, source=call.source)
    return DONE


@operation(
    "member.delete",
    "DELETE",
    MEMBER,
    summary="Delete a member that nobody sees; 200 when there is something to be known of it.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("delete_member",),
    arguments=DeleteMember,
    roles=ADMINS,
    statuses=(204, 200),
    result=DeletionView,
    faults=_BY_CO,
    commands=(
        Command(
            words="cluster member delete",
            summary="Delete a member that is gone for good from the cluster.",
            chapter="3",
            options=(
                replace(MEMBER_ID, summary="id of the member", required=True),
                CO_PASSWORD,
                Option(
                    name="force",
                    short="f",
                    summary="go on without members that are not reached; their writes may be lost",
                    kind=Kind.FLAG,
                    target="force",
                ),
            ),
            fixed=BY_CO,
            render=render.deletion,
        ),
    ),
)
async def delete_member(call: Call, arguments: DeleteMember) -> Reply:
    """Delete a member; say whom it promoted, when it was last heard of, who was not reached."""
    password, _ = credential(arguments.authentication, "CO")
    _, member = await _find_member(call)
    deleted = await call.appliance.cluster.delete_member(
        member.member_id, password, force=arguments.force, source=call.source
    )
    return deletion_reply(deleted)


def deletion_reply(deleted: DeletedMember) -> Reply:
    """Return 204, or 200 with what the deletion promoted and whom it did not reach."""
    if not deleted.promoted_id and not deleted.not_reached:
        return DONE
    view = DeletionView(
        promoted_member=deleted.promoted_id or None,
        last_contact=_instant(deleted.last_contact_ms),
        not_reached=deleted.not_reached,
    )
    return Reply(body=view, status=200)


@operation(
    "group.list",
    "GET",
    GROUPS,
    summary="List the affinity groups with their members.",
    chapter="3",
    doors=Doors.BOTH,
    cluster_methods=("list_groups",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Groups,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="cluster group list",
            summary="List the affinity groups with their members.",
            chapter="3",
            options=(CLUSTER_ID,),
            render=render.group_list,
        ),
    ),
)
async def list_groups(call: Call, _arguments: NoArguments) -> Reply:
    """List the affinity groups."""
    await the_cluster(call)
    found = await ask(call, "list_groups", Nothing(), GroupList)
    views = [GroupView(group=each.name, members=each.member_ids) for each in found.groups]
    return Reply(body=Groups(data=views))
