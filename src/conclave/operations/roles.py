"""Roles of the appliance's users, and the access rules of those that administrators make."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.user_roles import (
    BUILT_IN,
    MAX_RESOURCE_BYTES,
    METHODS,
    access_rules,
    decode_resources,
)
from conclave.errors import BadInput
from conclave.operations.commands import PATH, Command, Option
from conclave.operations.fields import RoleId
from conclave.operations.hsm import Reference
from conclave.operations.model import (
    ADMINS,
    DONE,
    Arguments,
    Call,
    Media,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import USERS_CHANGE

ROLES = "/roles"
ROLE = f"{ROLES}/{{roleid}}"
ACL = "/acl"
_TEXT = frozenset({Media.OCTETS})
_MISSING = (faults.ROLE_NOT_FOUND,)
_CHANGE = (faults.ROLE_NOT_FOUND, faults.ROLE_RESERVED, *USERS_CHANGE)
_COLUMNS = ["role", "method", "resource"]


ROLE_OPTION = Option(
    name="role",
    short="r",
    summary="name of the role",
    value="role",
    target=f"{PATH}roleid",
    required=True,
)


class RoleList(Result, frozen=True):
    """All roles."""

    roles: list[Reference]


class UserRoleView(Result, frozen=True):
    """One role."""

    id: str
    full_name: str
    built_in: bool
    resources: str


class CreateRole(Arguments, frozen=True):
    """A new role; `file` names one of the caller's own with its resources, else it has none."""

    role_id: RoleId
    full_name: Annotated[str, Meta(min_length=1, max_length=32)] = "-"
    file: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET


class Resources(Arguments, frozen=True):
    """Access rules as text: one METHOD:/path/{placeholder} a line."""

    content: Annotated[bytes, Meta(max_length=MAX_RESOURCE_BYTES)]


def check_user_role(call: Call, _arguments: object) -> None:
    """The role must exist."""
    role_id = call.path["roleid"]
    if role_id not in BUILT_IN:
        call.appliance.roles.get(role_id)


def check_custom_role(call: Call, _arguments: object) -> None:
    """The role must be one that an administrator made."""
    call.appliance.roles.get(call.path["roleid"])


def _rules_of_built_in(role_id: str) -> str:
    from conclave.operations.catalogue import OPERATIONS

    rules = [f"{each.method}:{each.path}" for each in OPERATIONS if role_id in each.roles]
    return "".join(f"{rule}\n" for rule in sorted(rules))


@operation(
    "role.names",
    "GET",
    ROLES,
    summary="List the roles that users can have.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=RoleList,
    paged=True,
)
async def list_roles(call: Call, _arguments: NoArguments) -> Reply:
    """List the built-in roles, then the others."""
    names = [*BUILT_IN, *(role.role_id for role in call.appliance.roles.all())]
    return Reply(body=RoleList(roles=[Reference(id=name, url=f"{ROLES}/{name}") for name in names]))


@operation(
    "user_role.show",
    "GET",
    ROLE,
    summary="Show a role that users can have.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=UserRoleView,
    checks=(check_user_role,),
    faults=_MISSING,
)
async def show_role(call: Call, _arguments: NoArguments) -> Reply:
    """Show a role."""
    role_id = call.path["roleid"]
    built_in = role_id in BUILT_IN
    return Reply(
        body=UserRoleView(
            id=role_id,
            full_name=role_id if built_in else call.appliance.roles.get(role_id).full_name,
            built_in=built_in,
            resources=f"{ROLES}/{role_id}/resources",
        )
    )


@operation(
    "user_role.create",
    "POST",
    ROLES,
    summary="Make a role, with the resources of one of the caller's files or with none.",
    cluster_methods=("put_users",),
    arguments=CreateRole,
    roles=ADMINS,
    faults=(faults.ROLE_EXISTS, faults.ROLE_LIMIT, faults.FILE_NOT_FOUND, *USERS_CHANGE),
    commands=(
        Command(
            words="role create",
            summary="Make a role, with the access rules of a file or with none.",
            options=(
                replace(ROLE_OPTION, target="roleId"),
                Option(
                    name="fullname",
                    short="f",
                    summary="what the role is for",
                    value="name",
                    target="fullName",
                ),
                Option(
                    name="file",
                    short="fi",
                    summary="name of one of your files with the role's access rules",
                    value="filename",
                    target="file",
                ),
            ),
            success="'role create' successful.",
        ),
    ),
)
async def create_role(call: Call, arguments: CreateRole) -> Reply:
    """Make a role."""
    resources = ""
    if not isinstance(arguments.file, UnsetType):
        resources = await asyncio.to_thread(_resources_in, call, arguments.file)
    await call.appliance.roles.create(
        arguments.role_id, full_name=arguments.full_name, resources=resources
    )
    return Reply(location=f"{ROLES}/{arguments.role_id}")


@operation(
    "user_role.delete",
    "DELETE",
    ROLE,
    summary="Delete a role that no user has; built-in ones stay.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_custom_role,),
    faults=(*_CHANGE, faults.ROLE_IN_USE),
    commands=(
        Command(
            words="role delete",
            summary="Delete a role that no user has.",
            options=(ROLE_OPTION,),
            proceed="Type 'proceed' to delete the role, or 'quit' to quit now.",
            success="'role delete' successful.",
        ),
    ),
)
async def delete_role(call: Call, _arguments: NoArguments) -> Reply:
    """Delete a role."""
    await call.appliance.roles.delete(call.path["roleid"])
    return DONE


@operation(
    "user_role.resources",
    "GET",
    f"{ROLE}/resources",
    summary="Show what a role may call, one METHOD:/path/{placeholder} a line.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=Result,
    checks=(check_user_role,),
    faults=_MISSING,
    media=_TEXT,
)
async def show_resources(call: Call, _arguments: NoArguments) -> Reply:
    """Show a role's access rules, of a custom one as they were given."""
    role_id = call.path["roleid"]
    if role_id in BUILT_IN:
        text = _rules_of_built_in(role_id)
    else:
        text = call.appliance.roles.get(role_id).resources
    return Reply(download=iter([text.encode()]))


@operation(
    "user_role.set_resources",
    "PUT",
    f"{ROLE}/resources",
    summary="Say what a role may call, one METHOD:/path/{placeholder} a line; holds at once.",
    cluster_methods=("put_users",),
    arguments=Resources,
    roles=ADMINS,
    checks=(check_custom_role,),
    faults=_CHANGE,
    media=_TEXT,
)
async def set_resources(call: Call, arguments: Resources) -> Reply:
    """Replace a role's access rules."""
    resources = decode_resources(arguments.content)
    await call.appliance.roles.set_resources({call.path["roleid"]: resources})
    return DONE


@operation(
    "acl.show",
    "GET",
    ACL,
    summary="Show the access rules of all custom roles as CSV: role, method, resource.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=Result,
    media=_TEXT,
)
async def show_acl(call: Call, _arguments: NoArguments) -> Reply:
    """Show all access rules."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for role in call.appliance.roles.all():
        for rule in access_rules(role.resources):
            path = "/" + "/".join("{}" if each is None else each for each in rule.segments)
            writer.writerow([role.role_id, rule.method, path])
    return Reply(download=iter([text.getvalue().encode()]))


@operation(
    "acl.set",
    "PUT",
    ACL,
    summary="Replace the access rules of all custom roles by a CSV: role, method, resource.",
    cluster_methods=("put_users",),
    arguments=Resources,
    roles=ADMINS,
    faults=_CHANGE,
    media=_TEXT,
)
async def set_acl(call: Call, arguments: Resources) -> Reply:
    """Replace all access rules; a role that is not named keeps none."""
    await call.appliance.roles.set_resources(_by_role(arguments.content), only_these=True)
    return DONE


def _resources_in(call: Call, name: str) -> str:
    """Return the resources in a file of the caller's own."""
    with call.appliance.files.open(call.by.user.user_id, name) as stream:
        return decode_resources(stream.read(MAX_RESOURCE_BYTES + 1))


def _by_role(content: bytes) -> dict[str, str]:
    try:
        rows = list(csv.reader(io.StringIO(content.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error):
        message = "The access rules are not CSV in UTF-8."
        raise BadInput(faults.BAD_REQUEST, message) from None
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if not row or row == _COLUMNS:
            continue
        if len(row) != len(_COLUMNS) or row[1] not in METHODS:
            message = f"Line {number} must be role,method,resource with a method of {METHODS}."
            raise BadInput(faults.BAD_REQUEST, message)
        role_id, method, resource = row
        found[role_id] = f"{found.get(role_id, '')}{method}:{resource}\n"
    for resources in found.values():
        access_rules(resources)
    return found
