"""The HSM's firmware: it comes with Conclave, so there is never a newer one to change to."""

from __future__ import annotations

from conclave import faults
from conclave.errors import NotAllowed, NotFound
from conclave.lunash.render.hsm import firmware_show
from conclave.operations.commands import Command
from conclave.operations.hsm import HSM, check_hsm, check_so_login
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals
from conclave.operations.services import Actions

FIRMWARE = f"{HSM}/firmware"
_ACTIONS = ("upgrade", "rollback")


class FirmwareView(Result, frozen=True):
    """The version that runs, and the one that an upgrade would bring."""

    firmware_version: str
    upgrade_version: str
    actions: str


def check_firmware_action(call: Call, _arguments: object) -> None:
    """The action must be upgrade or rollback, and there must be a firmware to change to."""
    action = call.path["actionid"]
    if action not in _ACTIONS:
        message = f"The firmware has no action {action[:16]!r}; it has {', '.join(_ACTIONS)}."
        raise NotFound(faults.SERVICE_ACTION, message)
    version = call.appliance.config.emulated.firmware
    message = f"There is no other firmware than {version} here: it comes with Conclave's releases."
    raise NotAllowed(faults.HSM_OPERATION, message)


@operation(
    "firmware.show",
    "GET",
    FIRMWARE,
    summary="Show the version of the HSM's firmware.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=FirmwareView,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    commands=(
        Command(
            words="hsm firmware show",
            summary="Show the version of the HSM's firmware.",
            chapter="2",
            render=firmware_show,
        ),
    ),
)
async def show_firmware(call: Call, _arguments: NoArguments) -> Reply:
    """Show the firmware."""
    version = call.appliance.config.emulated.firmware
    url = f"/api/lunasa/hsms/{call.path['hsmid']}/firmware/actions"
    return Reply(body=FirmwareView(firmware_version=version, upgrade_version=version, actions=url))


@operation(
    "firmware.actions",
    "GET",
    f"{FIRMWARE}/actions",
    summary="List what can be done with the firmware now: nothing, as none is newer or older.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Actions,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    only="REST: LunaSH has a command for each action.",
)
async def list_firmware_actions(_call: Call, _arguments: NoArguments) -> Reply:
    """List no actions."""
    return Reply(body=Actions(actions=[]))


@operation(
    "firmware.act",
    "POST",
    f"{FIRMWARE}/actions/{{actionid}}",
    summary="Upgrade or roll back the firmware; refused, since there is no other one.",
    chapter="2",
    arguments=NoArguments,
    roles=OPERATORS,
    checks=(check_hsm, check_so_login, check_firmware_action),
    faults=(
        faults.INVALID_HSM,
        faults.SO_NOT_LOGGED_IN,
        faults.SERVICE_ACTION,
        faults.HSM_OPERATION,
    ),
    commands=tuple(
        Command(
            words=f"hsm firmware {action}",
            summary=f"Change to another firmware ({action}); refused while there is none.",
            chapter="2",
            constants={"actionid": action},
            proceed=f"Type 'proceed' to {action} the firmware, or 'quit' to quit now.",
            success=f"'hsm firmware {action}' successful.",
        )
        for action in _ACTIONS
    ),
)
async def act(_call: Call, _arguments: NoArguments) -> Reply:
    """Change to another firmware; the preconditions let nobody come here."""
    return DONE
