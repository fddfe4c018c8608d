"""Actions of the services that live with the daemon, and the reset of all services at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from conclave import faults
from conclave.appliance.services import CLUSTER, NTP, RESET
from conclave.errors import NotFound

if TYPE_CHECKING:
    from conclave.appliance.appliance import Appliance

ALL: Final = "all"
"""Stands for every service that can be reset."""
RESETTABLE: Final = ("cluster", "ntp", "syslog", "webserver", ALL)


async def act_on_service(appliance: Appliance, service_id: str, action: str) -> None:
    """Carry out an action of another service than the cluster's; raise NotFound."""
    match (service_id, action):
        case (_, "factoryreset"):
            for each in _reset_by(appliance, service_id):
                await _reset(appliance, each)
        case ("ntp", "restart"):
            await appliance.ntp.set_enabled(False)
            await appliance.ntp.set_enabled(True)
        case ("webserver", "restart"):
            await appliance.webserver.restart()
        case ("ntp" | "webserver", "start" | "enable" | "stop" | "disable"):
            await _switch(appliance, service_id, on=action in {"start", "enable"})
        case _:
            message = f"Action {action} of {service_id} is not served."
            raise NotFound(faults.SERVICE_ACTION, message)


async def _switch(appliance: Appliance, service_id: str, *, on: bool) -> None:
    """Enable or disable a service that runs exactly when it is enabled."""
    if service_id == NTP:
        await appliance.ntp.set_enabled(on)
    else:
        await appliance.webserver.change(enabled=on)


def _reset_by(appliance: Appliance, service_id: str) -> list[str]:
    if service_id != ALL:
        return [service_id]
    return [each.service_id for each in appliance.services() if RESET in each.actions]


async def _reset(appliance: Appliance, service_id: str) -> None:
    if service_id == CLUSTER:
        await appliance.cluster.factory_reset()
    elif service_id == NTP:
        await appliance.ntp.reset()
    elif service_id == "syslog":
        await appliance.syslog.reset()
    elif service_id == "webserver":
        await appliance.webserver.reset()
