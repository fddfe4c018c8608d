"""The cluster family: what takes several calls."""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.errors import ConclaveError
from conclave.lunash.families.calls import answered
from conclave.operations.commands import Answers, Command, Output, ShellCall
from conclave.operations.services import CLUSTER, ServiceView

_SERVICE: Final = {"serviceid": CLUSTER}


async def _enable(shell: ShellCall, _answers: Answers) -> Output:
    """Set onBoot and start (rule S3); a service that cannot start is not enabled either."""
    was = answered(await shell.call("service.show", path=_SERVICE), ServiceView).on_boot
    await shell.call("service.configure", {"onBoot": True}, path=_SERVICE)
    try:
        await shell.call("service.act", path={**_SERVICE, "actionid": "start"})
    except ConclaveError as error:
        if not was and error.fault is not faults.TASK_STATE:
            await shell.call("service.configure", {"onBoot": False}, path=_SERVICE)
        raise
    return Output(lines=("Success",))


COMMANDS: Final = (
    Command(
        words="cluster enable",
        summary="Let the cluster service start with the appliance, and start it now.",
        chapter="2",
        run=_enable,
        operations=("service.show", "service.configure", "service.act"),
    ),
)
