"""The service family: what takes several calls."""

from __future__ import annotations

from typing import Final

import msgspec

from conclave.lunash.families.calls import answered
from conclave.lunash.render.service import service_list
from conclave.operations.commands import Answers, Command, Output, ShellCall
from conclave.operations.services import Services, ServiceView


class ServiceDetails(msgspec.Struct, frozen=True):
    """All services with all that is known of each."""

    services: list[ServiceView]


async def _list(shell: ShellCall, _answers: Answers) -> Output:
    found = answered(await shell.call("service.list"), Services)
    services = [
        answered(await shell.call("service.show", path={"serviceid": each.id}), ServiceView)
        for each in found.services
    ]
    return Output(lines=service_list(services), body=ServiceDetails(services))


COMMANDS: Final = (
    Command(
        words="service list",
        summary="List the services with status and whether they start with the appliance.",
        run=_list,
        operations=("service.list", "service.show"),
        json=True,
    ),
)
