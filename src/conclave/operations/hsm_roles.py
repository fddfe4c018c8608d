"""Roles of the HSM, and what a role is for HSM and partitions; the SO's password."""

from __future__ import annotations

from typing import Literal

from conclave import faults
from conclave.errors import NotFound
from conclave.operations.commands import Command, credential, new_credential
from conclave.operations.fields import HsmPassword, Ped, password_bytes, refuse_ped
from conclave.operations.hsm import HSM, attempts_caution, check_hsm
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    Duration,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CREDENTIAL, HSM_CHANGE
from conclave.operations.reveals import Reveals


class ChangePassword(Arguments, frozen=True):
    """The current and the new password of a role."""

    old_password: HsmPassword
    new_password: HsmPassword
    ped: Ped = "0"


class RoleView(Result, frozen=True):
    """One role of the HSM or of a partition."""

    id: str
    name: str
    initialized: bool
    activated: bool
    locked_out: bool
    login_attempts_left: int
    change_password_attempts_left: int
    pin_to_be_changed: bool
    challenge_to_be_changed: bool
    url: str
    primary_authentication: Literal["PIN"] = "PIN"
    secondary_authentication: Literal["None"] = "None"
    indirect_login_version: int = 0


class Roles(Result, frozen=True):
    """Roles."""

    roles: list[RoleView]


def _so_view(call: Call) -> RoleView:
    info = call.appliance.hsm.info()
    return RoleView(
        id="so",
        name="HSM Security Officer",
        initialized=info.initialized,
        activated=False,
        locked_out=info.zeroized,
        login_attempts_left=info.so_attempts_left,
        change_password_attempts_left=info.so_attempts_left,
        pin_to_be_changed=False,
        challenge_to_be_changed=False,
        url=f"/api/lunasa/hsms/{info.serial}/roles/so",
    )


def check_so_role(call: Call, _arguments: object) -> None:
    """The HSM has the role so only."""
    if call.path["roleid"] != "so":
        message = f"The HSM has no role {call.path['roleid'][:16]!r}; it has so."
        raise NotFound(faults.INVALID_ROLE, message)


@operation(
    "hsm.roles",
    "GET",
    f"{HSM}/roles",
    summary="List the HSM's roles.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Roles,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    paged=True,
    only="REST: 'hsm show' says how the HSM SO is.",
)
async def list_roles(call: Call, _arguments: NoArguments) -> Reply:
    """List the HSM's roles."""
    return Reply(body=Roles(roles=[_so_view(call)]))


@operation(
    "hsm.role",
    "GET",
    f"{HSM}/roles/{{roleid}}",
    summary="Show a role of the HSM.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=RoleView,
    checks=(check_hsm, check_so_role),
    faults=(faults.INVALID_HSM, faults.INVALID_ROLE),
    only="REST: 'hsm show' says how the HSM SO is.",
)
async def show_role(call: Call, _arguments: NoArguments) -> Reply:
    """Show a role of the HSM."""
    return Reply(body=_so_view(call))


@operation(
    "hsm.role.password",
    "PATCH",
    f"{HSM}/roles/{{roleid}}",
    summary="Change the HSM SO's password.",
    arguments=ChangePassword,
    roles=OPERATORS,
    statuses=(202,),
    checks=(check_hsm, check_so_role),
    duration=Duration.TASK,
    faults=(*HSM_CHANGE, *CREDENTIAL, faults.INVALID_ROLE),
    commands=(
        Command(
            words="hsm changePw",
            summary="Change the HSM SO's password; three wrong ones zeroize the HSM.",
            options=(
                credential(
                    "oldpw",
                    short="o",
                    summary="current password of the HSM SO",
                    prompt="Please enter the HSM Administrators' current password:",
                    target="oldPassword",
                ),
                new_credential(
                    "newpw",
                    short="n",
                    summary="new password of the HSM SO",
                    prompt="Please enter a new password for the HSM Administrator:",
                    target="newPassword",
                ),
            ),
            constants={"roleid": "so"},
            caution=attempts_caution,
            success="'hsm changePw' successful.",
        ),
    ),
)
async def change_so_password(call: Call, arguments: ChangePassword) -> Reply:
    """Change the HSM SO's password; the caller's own login stands."""
    refuse_ped(arguments.ped)
    await call.appliance.hsm.change_so_password(
        password_bytes("oldPassword", arguments.old_password),
        password_bytes("newPassword", arguments.new_password),
        source=call.source,
    )
    return DONE
