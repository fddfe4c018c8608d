"""The families user, my and role: what takes several calls, or a file."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.public_keys import MAX_KEY_CHARACTERS
from conclave.appliance.user_roles import MAX_RESOURCE_BYTES
from conclave.errors import BadInput, Conflict
from conclave.lunash.families.calls import answered
from conclave.lunash.families.own_files import file_option, read_own, write_own
from conclave.lunash.render.user import role_list, user_list
from conclave.operations.commands import Answers, Command, Option, Output, ShellCall
from conclave.operations.model import Reply
from conclave.operations.roles import ROLE_OPTION, RoleList, UserRoleView
from conclave.operations.users import NEW_PASSWORD, ROLE, USERNAME, UserList, UserView


class UserDetails(msgspec.Struct, frozen=True):
    """All users with all that is known of each."""

    users: list[UserView]


class RoleDetails(msgspec.Struct, frozen=True):
    """Roles that users can have."""

    roles: list[UserRoleView]


class RoleRules(msgspec.Struct, frozen=True):
    """One role with its access rules."""

    role: UserRoleView
    rules: list[str]


async def _user(shell: ShellCall, user_id: str) -> UserView:
    return answered(await shell.call("user.show", path={"userid": user_id}), UserView)


async def _list(shell: ShellCall, _answers: Answers) -> Output:
    found = answered(await shell.call("user.list"), UserList)
    users = [await _user(shell, each.id) for each in found.users]
    return Output(lines=user_list(users), body=UserDetails(users))


async def _password(shell: ShellCall, answers: Answers) -> Output:
    user_id, sent = answers["username"], {"password": answers["password"]}
    if user_id == shell.caller.user.user_id:
        sent["currentPassword"] = await shell.ask("(current) UNIX password:", secret=True)
    await shell.call("user.password", sent, path={"userid": user_id})
    return Output(lines=("passwd: all authentication tokens updated successfully.",))


async def _take_role(shell: ShellCall, answers: Answers) -> Output:
    user_id, role = answers["username"], answers["role"]
    user = await _user(shell, user_id)
    if user.role != role:
        message = f"User {user_id} has not the role {role!r}, but {user.role or 'none'}."
        raise Conflict(faults.ROLE_NOT_FOUND, message)
    await shell.call("user.clear_role", path={"userid": user_id})
    return Output(lines=(f"User {user_id} was successfully modified.",))


async def _roles(shell: ShellCall, answers: Answers) -> Output:
    if "username" in answers:
        role = (await _user(shell, answers["username"])).role
        names = [role] if role else []
    else:
        names = [each.id for each in answered(await shell.call("role.names"), RoleList).roles]
    roles = [
        answered(await shell.call("user_role.show", path={"roleid": name}), UserRoleView)
        for name in names
    ]
    return Output(lines=role_list(roles), body=RoleDetails(roles))


def _text(reply: Reply) -> bytes:
    return b"".join(reply.download or ())


async def _show_role(shell: ShellCall, answers: Answers) -> Output:
    path = {"roleid": answers["role"]}
    role = answered(await shell.call("user_role.show", path=path), UserRoleView)
    text = _text(await shell.call("user_role.resources", path=path)).decode()
    rules = text.splitlines()
    return Output(lines=[*role_list([role]), "", *rules], body=RoleRules(role, rules))


async def _import_role(shell: ShellCall, answers: Answers) -> Output:
    content = await read_own(shell, answers["file"], most_bytes=MAX_RESOURCE_BYTES)
    path = {"roleid": answers["role"]}
    await shell.call("user_role.set_resources", {"content": content}, path=path)
    return Output(lines=("'role import' successful.",))


async def _export_role(shell: ShellCall, answers: Answers) -> Output:
    reply = await shell.call("user_role.resources", path={"roleid": answers["role"]})
    return Output(lines=await write_own(shell, answers["file"], _text(reply)))


async def _import_acl(shell: ShellCall, answers: Answers) -> Output:
    content = await read_own(shell, answers["file"], most_bytes=MAX_RESOURCE_BYTES)
    await shell.call("acl.set", {"content": content})
    return Output(lines=("'role acl import' successful.",))


async def _export_acl(shell: ShellCall, answers: Answers) -> Output:
    content = _text(await shell.call("acl.show"))
    return Output(lines=await write_own(shell, answers["file"], content))


async def _add_key(shell: ShellCall, answers: Answers) -> Output:
    content = await read_own(shell, answers["file"], most_bytes=MAX_KEY_CHARACTERS)
    try:
        line = content.decode().strip()
    except UnicodeDecodeError:
        message = f"The file {answers['file']!r} holds no SSH key: it must be one line of text."
        raise BadInput(faults.BAD_REQUEST, message) from None
    await shell.call("user.keys.add", {"key": line})
    return Output(lines=("'my public-key add' successful.",))


_REPLACES_RULES: Final = (
    "Type 'proceed' to replace the access rules of all custom roles, or 'quit' to quit now."
)
COMMANDS: Final = (
    Command(
        words="user list",
        summary="List the users with their roles.",
        run=_list,
        operations=("user.list", "user.show"),
        json=True,
    ),
    Command(
        words="user password",
        summary="Give a user a new password, which must be changed at the next login.",
        options=(USERNAME, NEW_PASSWORD),
        run=_password,
        operations=("user.password",),
    ),
    Command(
        words="user role delete",
        summary="Take a role away from a user.",
        options=(USERNAME, ROLE),
        run=_take_role,
        operations=("user.show", "user.clear_role"),
    ),
    Command(
        words="user role list",
        summary="List the roles that users can have, or that of one user.",
        options=(replace(USERNAME, required=False),),
        run=_roles,
        operations=("role.names", "user_role.show", "user.show"),
        json=True,
    ),
    Command(
        words="role list",
        summary="List the roles that users can have.",
        run=_roles,
        operations=("role.names", "user_role.show", "user.show"),
        json=True,
    ),
    Command(
        words="role show",
        summary="Show a role and its access rules.",
        options=(ROLE_OPTION,),
        run=_show_role,
        operations=("user_role.show", "user_role.resources"),
        json=True,
    ),
    Command(
        words="role import",
        summary="Replace a role's access rules by those in a file: METHOD:/path a line.",
        options=(ROLE_OPTION, file_option("name of the file with the rules")),
        run=_import_role,
        operations=("user_role.set_resources",),
    ),
    Command(
        words="role export",
        summary="Write a role's access rules into a file.",
        options=(ROLE_OPTION, file_option("name of the file to write")),
        run=_export_role,
        operations=("user_role.resources",),
    ),
    Command(
        words="role acl import",
        summary="Replace the access rules of all custom roles by a CSV: role, method, resource.",
        options=(file_option("name of the CSV file"),),
        proceed=_REPLACES_RULES,
        run=_import_acl,
        operations=("acl.set",),
    ),
    Command(
        words="role acl export",
        summary="Write the access rules of all custom roles into a CSV file.",
        options=(file_option("name of the file to write"),),
        run=_export_acl,
        operations=("acl.show",),
    ),
    Command(
        words="my public-key add",
        summary="Add an SSH key from one of your files: it opens LunaSH to you.",
        options=(
            Option(
                name="file",
                summary="name of the file with the public key, one line as in id_ed25519.pub",
                value="filename",
                required=True,
                positional=True,
            ),
        ),
        run=_add_key,
        operations=("user.keys.add",),
    ),
)
