"""What is done to the appliance as a whole: reboot, power off, a new certificate."""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.appliance.host_power import ask_systemd, require_host_power
from conclave.errors import NotFound
from conclave.operations.appliance import ROOT
from conclave.operations.commands import Command
from conclave.operations.model import (
    ADMINS,
    DONE,
    Call,
    Duration,
    NoArguments,
    Reply,
    operation,
)

REBOOT: Final = "reboot"
POWER_OFF: Final = "powerOff"
REGENERATE: Final = "regenerateCertificate"
_ACTIONS: Final = (REBOOT, POWER_OFF, REGENERATE)
_PROCEED: Final = "Type 'proceed' to {}, or 'quit' to quit now."


def check_appliance_action(call: Call, _arguments: NoArguments) -> None:
    """The action must exist; the host's power is for appliances that were installed on a host."""
    action = call.path["actionid"]
    if action not in _ACTIONS:
        message = f"The appliance has no action {action[:32]!r}; it has {', '.join(_ACTIONS)}."
        raise NotFound(faults.SERVICE_ACTION, message)
    if action != REGENERATE:
        require_host_power(call.appliance.config.host_power)


def _always(_call: Call, _arguments: NoArguments) -> bool:
    return True


@operation(
    "appliance.act",
    "POST",
    f"{ROOT}/actions/{{actionid}}",
    summary="Reboot the host, power it off, or make a new webserver certificate; waits.",
    arguments=NoArguments,
    roles=ADMINS,
    checks=(check_appliance_action,),
    duration=Duration.TASK,
    waits_when=_always,
    faults=(faults.SERVICE_ACTION, faults.HOST_POWER),
    commands=(
        Command(
            words="sysconf appliance reboot",
            summary="Reboot the host that the appliance was installed on.",
            constants={"actionid": REBOOT},
            proceed=_PROCEED.format("reboot the appliance"),
            success="Reboot commencing",
        ),
        Command(
            words="sysconf appliance poweroff",
            summary="Power off the host that the appliance was installed on.",
            constants={"actionid": POWER_OFF},
            proceed=_PROCEED.format("power off the appliance"),
            success="Power off commencing",
        ),
        Command(
            words="sysconf regenCert",
            summary="Make a new key and certificate for the webserver.",
            constants={"actionid": REGENERATE},
            proceed=(
                "Clients of REST that trust the webserver's certificate must be given the new one."
                "\n\n" + _PROCEED.format("make a new key and certificate")
            ),
            success="'sysconf regenCert' successful.",
        ),
    ),
)
async def act_on_appliance(call: Call, _arguments: NoArguments) -> Reply:
    """Carry out an action of the appliance."""
    match call.path["actionid"]:
        case "reboot":
            await ask_systemd("reboot")
        case "powerOff":
            await ask_systemd("poweroff")
        case _:
            await call.appliance.regenerate_certificate()
    return DONE
