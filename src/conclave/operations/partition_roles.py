"""Roles of partitions: show, initialise, change and reset passwords."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from conclave import faults
from conclave.errors import BadInput
from conclave.hsm.views import RoleInfo
from conclave.operations.fields import HsmPassword, Ped, password_bytes, refuse_ped
from conclave.operations.hsm_roles import ChangePassword, Roles, RoleView
from conclave.operations.login_state import require_role
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    Duration,
    NoArguments,
    Reply,
    operation,
)
from conclave.operations.partitions import (
    PARTITION,
    check_access,
    check_partition,
    check_po_login,
    partition_url,
)
from conclave.operations.refusals import CREDENTIAL, HSM_CHANGE
from conclave.operations.reveals import Reveals

ROLE = f"{PARTITION}/roles/{{roleid}}"
_MISSING = (faults.INVALID_HSM, faults.INVALID_PARTITION, faults.INVALID_ROLE)
_CHANGE = (
    *HSM_CHANGE,
    faults.INVALID_PARTITION,
    faults.INVALID_ROLE,
    faults.PARTITION_DISABLED,
)


class InitializeRole(Arguments, frozen=True):
    """The first password of a role; its holder must change it (HSM policy 21)."""

    password: HsmPassword
    default_challenge: bool = False
    ped: Ped = "0"


class ResetRole(Arguments, frozen=True):
    """A new first password for a role; without one the role is unlocked only."""

    password: HsmPassword | UnsetType = UNSET
    ped: Ped = "0"


def check_role(call: Call, arguments: object) -> None:
    """HSM, partition and role must exist."""
    check_partition(call, arguments)
    call.appliance.hsm.role(call.path["partitionid"], call.path["roleid"])


def check_superior_login(call: Call, _arguments: object) -> None:
    """The superior role must be logged in: the Partition SO for co, the Crypto Officer for cu."""
    superior = "co" if call.path["roleid"] == "cu" else "so"
    require_role(call.session, call.appliance.hsm, call.path["partitionid"], superior)


def role_view(role: RoleInfo, url: str) -> RoleView:
    """Return a role as answers show it."""
    return RoleView(
        id=role.role_id.value,
        name=role.name,
        initialized=role.initialized,
        activated=False,
        locked_out=role.locked_out,
        login_attempts_left=role.login_attempts_left,
        change_password_attempts_left=role.login_attempts_left,
        pin_to_be_changed=role.to_be_changed,
        challenge_to_be_changed=False,
        url=f"{url}/{role.role_id.value}",
    )


def _roles_url(call: Call) -> str:
    return f"{partition_url(call, call.path['partitionid'])}/roles"


@operation(
    "role.list",
    "GET",
    f"{PARTITION}/roles",
    summary="List the roles of a partition with their states.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Roles,
    checks=(check_partition,),
    faults=_MISSING[:2],
    paged=True,
)
async def list_roles(call: Call, _arguments: NoArguments) -> Reply:
    """List the roles of a partition."""
    roles = call.appliance.hsm.roles(call.path["partitionid"])
    return Reply(body=Roles(roles=[role_view(role, _roles_url(call)) for role in roles]))


@operation(
    "role.show",
    "GET",
    ROLE,
    summary="Show a role of a partition.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=RoleView,
    checks=(check_role,),
    faults=_MISSING,
    only="REST: 'partition show' says how the Crypto Officer is.",
)
async def show_role(call: Call, _arguments: NoArguments) -> Reply:
    """Show a role of a partition."""
    role = call.appliance.hsm.role(call.path["partitionid"], call.path["roleid"])
    return Reply(body=role_view(role, _roles_url(call)))


@operation(
    "role.initialize",
    "PUT",
    ROLE,
    summary="Give co or cu its first password; the role above it must be logged in.",
    chapter="2",
    arguments=InitializeRole,
    roles=OPERATORS,
    checks=(check_role, check_access, check_superior_login),
    faults=(*_CHANGE, faults.PARTITION_USER_NOT_AUTHENTICATED, faults.FUNCTION_NOT_SUPPORTED),
)
async def initialize_role(call: Call, arguments: InitializeRole) -> Reply:
    """Initialise a role of a partition."""
    refuse_ped(arguments.ped)
    if arguments.default_challenge:
        message = "defaultChallenge must be false on a password-authenticated HSM; it is true."
        raise BadInput(faults.BAD_REQUEST, message)
    role_id = call.path["roleid"]
    await call.appliance.hsm.initialize_role(
        call.path["partitionid"],
        role_id,
        password_bytes("password", arguments.password),
        source=call.source,
    )
    return Reply(location=f"{_roles_url(call)}/{role_id}")


async def _change(call: Call, arguments: ChangePassword) -> Reply:
    refuse_ped(arguments.ped)
    await call.appliance.hsm.change_role_password(
        call.path["partitionid"],
        call.path["roleid"],
        password_bytes("oldPassword", arguments.old_password),
        password_bytes("newPassword", arguments.new_password),
        source=call.source,
    )
    return DONE


@operation(
    "role.password",
    "PATCH",
    ROLE,
    summary="Change a role's password, proving the current one.",
    chapter="2",
    arguments=ChangePassword,
    roles=OPERATORS,
    statuses=(202,),
    checks=(check_role, check_access),
    duration=Duration.TASK,
    faults=(*_CHANGE, *CREDENTIAL),
)
async def change_password(call: Call, arguments: ChangePassword) -> Reply:
    """Change a role's password."""
    return await _change(call, arguments)


@operation(
    "role.password.put",
    "PUT",
    f"{ROLE}/password",
    summary="Change a role's password, in the form that older callers use.",
    arguments=ChangePassword,
    roles=OPERATORS,
    checks=(check_role, check_access),
    faults=(*_CHANGE, *CREDENTIAL),
    only="REST: the form that older callers use; LunaSH calls role.password.",
)
async def put_password(call: Call, arguments: ChangePassword) -> Reply:
    """Change a role's password."""
    return await _change(call, arguments)


def check_reset(call: Call, arguments: ResetRole) -> None:
    """A password, if one is given, must be one that the role may have, and not ask for a PED."""
    refuse_ped(arguments.ped)
    if not isinstance(arguments.password, UnsetType):
        password = password_bytes("password", arguments.password)
        partition_id, role_id = call.path["partitionid"], call.path["roleid"]
        call.appliance.hsm.check_reset(partition_id, role_id, password)


def _loses_key(_call: Call, arguments: ResetRole) -> bool:
    return not isinstance(arguments.password, UnsetType)


@operation(
    "role.reset",
    "POST",
    f"{ROLE}/actions/reset",
    summary="Unlock a role, or give it a new first password, which waits: the SMK is lost then.",
    arguments=ResetRole,
    roles=OPERATORS,
    checks=(check_role, check_access, check_po_login, check_reset),
    waits_when=_loses_key,
    faults=(*_CHANGE, faults.PARTITION_USER_NOT_AUTHENTICATED, faults.FUNCTION_NOT_SUPPORTED),
)
async def reset_role(call: Call, arguments: ResetRole) -> Reply:
    """Unlock a role or give it a new first password."""
    given = arguments.password
    password = None if isinstance(given, UnsetType) else password_bytes("password", given)
    await call.appliance.hsm.reset_role(
        call.path["partitionid"],
        call.path["roleid"],
        password,
        confirmed=call.confirmed,
        source=call.source,
    )
    return DONE
