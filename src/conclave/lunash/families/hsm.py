"""The hsm family: what takes several calls."""

from __future__ import annotations

from typing import Final

from conclave.lunash.families.calls import answered, partitions
from conclave.lunash.render.hsm import hsm_show
from conclave.operations.commands import Answers, Command, Output, ShellCall
from conclave.operations.hsm import HsmView


async def _show(shell: ShellCall, _answers: Answers) -> Output:
    hsm = answered(await shell.call("hsm.show"), HsmView)
    logged_in = shell.state.so_is_logged_in(shell.appliance.hsm)
    return Output(lines=hsm_show(hsm, await partitions(shell), logged_in=logged_in), body=hsm)


COMMANDS: Final = (
    Command(
        words="hsm show",
        summary="Show the HSM: state, storage, partitions, how many SO logins are left.",
        chapter="2",
        run=_show,
        operations=("hsm.show", "partition.list", "partition.show"),
        json=True,
    ),
)
