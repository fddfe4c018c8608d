"""Users of the appliance and their roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.user_rules import UserRole, role_named
from conclave.appliance.user_store import User
from conclave.errors import BadInput, NotAllowed
from conclave.lunash.render.user import user_show
from conclave.operations.commands import PATH, Answers, Command, Kind, Option
from conclave.operations.fields import CurrentPassword, Email, FullName, UserId, UserPassword
from conclave.operations.hsm import Reference
from conclave.operations.model import (
    ADMINS,
    DONE,
    EVERYBODY,
    Arguments,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import USERS_CHANGE

USERS = "/users"
USER = f"{USERS}/{{userid}}"
_MISSING = (faults.USER_NOT_FOUND,)
RoleName = Annotated[
    str,
    Meta(
        pattern=r"^[a-zA-Z0-9_]{0,64}$",
        description="up to 64 characters of a-z, A-Z, 0-9 and _",
    ),
]
"""A role that may be given; "" takes the role away."""


USERNAME = Option(
    name="username",
    short="u",
    summary="name of the user",
    value="name",
    target=f"{PATH}userid",
    required=True,
)
ROLE = Option(
    name="role", short="r", summary="name of the role", value="role", target="role", required=True
)
NEW_PASSWORD = Option(
    name="password",
    short="p",
    summary="new password: 8 characters at least, of 3 of the 4 classes",
    kind=Kind.SECRET,
    value="password",
    target="password",
    required=True,
    prompt="Enter new password:",
    confirm="Re-type new password:",
)


class UserList(Result, frozen=True):
    """All users."""

    users: list[Reference]


class UserView(Result, frozen=True):
    """One user."""

    user_id: str
    full_name: str
    email: str
    role: str
    status: Literal["enabled", "disabled"]
    built_in: bool
    password_to_be_changed: bool


class CreateUser(Arguments, frozen=True):
    """A new user; the password must be changed at the first login, and is PASSWORD if absent."""

    user_id: UserId
    password: UserPassword | UnsetType = UNSET
    role: RoleName = ""
    full_name: FullName = ""
    email: Email | UnsetType = UNSET


class ChangeUser(Arguments, frozen=True):
    """What is absent stays."""

    role: RoleName | UnsetType = UNSET
    full_name: FullName | UnsetType = UNSET
    email: Email | UnsetType = UNSET


class ChangeUserPassword(Arguments, frozen=True):
    """An administrator who changes somebody else's password needs no current one."""

    password: UserPassword
    current_password: CurrentPassword | UnsetType = UNSET


def check_user(call: Call, _arguments: object) -> None:
    """The user must exist."""
    call.appliance.users.get(call.path["userid"])


def check_own_or_admin(call: Call, _arguments: object) -> None:
    """Only an administrator may ask about, or change, another user."""
    caller = call.by.user
    if call.path["userid"] != caller.user_id and caller.role is not UserRole.ADMIN:
        message = f"User {caller.user_id} may do this for {caller.user_id} only."
        raise NotAllowed(faults.NO_ACL_RULE, message)


def check_first_password(call: Call, _arguments: object) -> None:
    """A first password may change itself only."""
    caller = call.by.user
    if caller.must_change and call.path["userid"] != caller.user_id:
        message = f"User {caller.user_id} must change the own password first."
        raise NotAllowed(faults.PASSWORD_CHANGE_REQUIRED, message)


def _view(user: User) -> UserView:
    return UserView(
        user_id=user.user_id,
        full_name=user.full_name,
        email=user.email,
        role=user.role.value,
        status="enabled" if user.enabled else "disabled",
        built_in=user.builtin,
        password_to_be_changed=user.must_change,
    )


@operation(
    "user.list",
    "GET",
    USERS,
    summary="List the users.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=UserList,
    paged=True,
)
async def list_users(call: Call, _arguments: NoArguments) -> Reply:
    """List the users."""
    users = call.appliance.users.all()
    found = [Reference(id=user.user_id, url=f"{USERS}/{user.user_id}") for user in users]
    return Reply(body=UserList(users=found))


@operation(
    "user.show",
    "GET",
    USER,
    summary="Show a user; who is no administrator sees the own one only.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=UserView,
    checks=(check_own_or_admin, check_user),
    faults=_MISSING,
    commands=(
        Command(
            words="user show",
            summary="Show a user; who is no administrator sees the own one only.",
            options=(
                replace(USERNAME, required=False, summary="name of the user; yours if absent"),
            ),
            render=user_show,
        ),
    ),
)
async def show_user(call: Call, _arguments: NoArguments) -> Reply:
    """Show a user."""
    return Reply(body=_view(call.appliance.users.get(call.path["userid"])))


@operation(
    "user.create",
    "POST",
    USERS,
    summary="Create an enabled user, who must change the password at the first login.",
    cluster_methods=("put_users",),
    arguments=CreateUser,
    roles=ADMINS,
    faults=(faults.USER_EXISTS, faults.USER_LIMIT, *USERS_CHANGE),
    commands=(
        Command(
            words="user add",
            summary="Add a user, who has no role yet and logs in first with the password PASSWORD.",
            options=(
                replace(USERNAME, target="userId"),
                replace(NEW_PASSWORD, required=False, prompt="", confirm=""),
                Option(
                    name="fullname",
                    short="f",
                    summary="the user's full name",
                    value="name",
                    target="fullName",
                ),
            ),
            success=lambda answers: f"User {answers['username']} was successfully added.",
        ),
    ),
)
async def create_user(call: Call, arguments: CreateUser) -> Reply:
    """Create a user."""
    await call.appliance.users.create(
        arguments.user_id,
        None if isinstance(arguments.password, UnsetType) else arguments.password,
        role=role_named(arguments.role),
        full_name=arguments.full_name,
        email="" if isinstance(arguments.email, UnsetType) else arguments.email,
        source=call.source,
    )
    return Reply(location=f"{USERS}/{arguments.user_id}")


async def _update(call: Call, arguments: ChangeUser) -> Reply:
    given = (arguments.full_name, arguments.email)
    full_name, email = (None if isinstance(value, UnsetType) else value for value in given)
    await call.appliance.users.update(
        call.path["userid"],
        role=None if isinstance(arguments.role, UnsetType) else role_named(arguments.role),
        full_name=full_name,
        email=email,
    )
    return DONE


def _modified(answers: Answers) -> str:
    return f"User {answers['username']} was successfully modified."


@operation(
    "user.change",
    "PATCH",
    USER,
    summary="Change a user's role, full name or e-mail address.",
    cluster_methods=("put_users",),
    arguments=ChangeUser,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, faults.USER_RESERVED, *USERS_CHANGE),
    commands=(
        Command(
            words="user role add",
            summary="Give a user a role, in place of one that the user had.",
            options=(USERNAME, ROLE),
            success=_modified,
        ),
    ),
)
async def change_user(call: Call, arguments: ChangeUser) -> Reply:
    """Change a user."""
    return await _update(call, arguments)


@operation(
    "user.put",
    "PUT",
    USER,
    summary="Change a user's role, full name or e-mail address.",
    cluster_methods=("put_users",),
    arguments=ChangeUser,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, faults.USER_RESERVED, *USERS_CHANGE),
    only="REST: the form that older callers use; LunaSH's commands call user.change.",
)
async def put_user(call: Call, arguments: ChangeUser) -> Reply:
    """Change a user, in the form that older callers use."""
    return await _update(call, arguments)


@operation(
    "user.delete",
    "DELETE",
    USER,
    summary="Delete a user; built-in ones and the last administrator stay.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, faults.USER_RESERVED, *USERS_CHANGE),
    commands=(
        Command(
            words="user delete",
            summary="Delete a user with the user's files.",
            options=(USERNAME,),
            proceed="Type 'proceed' to delete the user with all files, or 'quit' to quit now.",
            success=lambda answers: f"User {answers['username']} was successfully deleted.",
        ),
    ),
)
async def delete_user(call: Call, _arguments: NoArguments) -> Reply:
    """Delete a user."""
    await call.appliance.users.delete(call.path["userid"])
    return DONE


@operation(
    "user.enable",
    "POST",
    f"{USER}/actions/enable",
    summary="Enable a user.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, *USERS_CHANGE),
    commands=(
        Command(
            words="user enable",
            summary="Enable a user.",
            options=(USERNAME,),
            success=lambda answers: f"{answers['username']} was enabled successfully.",
        ),
    ),
)
async def enable_user(call: Call, _arguments: NoArguments) -> Reply:
    """Enable a user."""
    await call.appliance.users.set_enabled(call.path["userid"], enabled=True)
    return DONE


@operation(
    "user.disable",
    "POST",
    f"{USER}/actions/disable",
    summary="Disable a user and end the user's sessions; the last administrator stays.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, faults.USER_RESERVED, *USERS_CHANGE),
    commands=(
        Command(
            words="user disable",
            summary="Disable a user and end the user's sessions.",
            options=(USERNAME,),
            success=lambda answers: f"{answers['username']} was disabled successfully.",
        ),
    ),
)
async def disable_user(call: Call, _arguments: NoArguments) -> Reply:
    """Disable a user."""
    await call.appliance.users.set_enabled(call.path["userid"], enabled=False)
    return DONE


@operation(
    "user.clear_role",
    "POST",
    f"{USER}/actions/roleClear",
    summary="Take a user's role away.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_user,),
    faults=(*_MISSING, faults.USER_RESERVED, *USERS_CHANGE),
    commands=(
        Command(
            words="user role clear",
            summary="Take a user's role away.",
            options=(USERNAME,),
            success=_modified,
        ),
    ),
)
async def clear_role(call: Call, _arguments: NoArguments) -> Reply:
    """Take a user's role away."""
    await call.appliance.users.update(call.path["userid"], role=UserRole.NONE)
    return DONE


@operation(
    "user.password",
    "POST",
    f"{USER}/actions/changePassword",
    summary="Change a password; one set for somebody else must be changed at the next login.",
    cluster_methods=("put_users",),
    arguments=ChangeUserPassword,
    roles=EVERYBODY,
    checks=(check_own_or_admin, check_first_password, check_user),
    faults=(*_MISSING, *USERS_CHANGE),
    before_password_change=True,
    commands=(
        Command(
            words="my password set",
            summary="Change your own password.",
            options=(
                Option(
                    name="currentpassword",
                    short="c",
                    summary="current password",
                    kind=Kind.SECRET,
                    value="password",
                    target="currentPassword",
                    required=True,
                    prompt="(current) UNIX password:",
                ),
                NEW_PASSWORD,
            ),
            success="passwd: all authentication tokens updated successfully.",
        ),
    ),
)
async def change_password(call: Call, arguments: ChangeUserPassword) -> Reply:
    """Change a password; every other session of that user ends."""
    user_id = call.path["userid"]
    users = call.appliance.users
    if user_id != call.by.user.user_id:
        await users.reset_password(user_id, arguments.password, source=call.source)
        return DONE
    if isinstance(arguments.current_password, UnsetType):
        message = "currentPassword is required to change one's own password."
        raise BadInput(faults.BAD_REQUEST, message)
    login = await users.change_own_password(
        user_id, arguments.current_password, arguments.password, source=call.source
    )
    if call.session is not None:
        call.sessions.renew(call.session, login)
    return DONE
