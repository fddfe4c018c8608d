"""The audit family: what the role audit reads and keeps of the audit log."""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.families.calls import answered
from conclave.lunash.render.audit import audit_list, audit_tail
from conclave.operations.audit import NEWEST_RECORDS, AuditRecords, AuditView
from conclave.operations.commands import Answers, Command, Kind, Option, Output, ShellCall


async def _list(shell: ShellCall, _answers: Answers) -> Output:
    found = answered(await shell.call("audit.show"), AuditView)
    return Output(lines=audit_list(found), body=found)


async def _tail(shell: ShellCall, answers: Answers) -> Output:
    wanted = answers.get("entries", NEWEST_RECORDS)
    if not 1 <= wanted <= NEWEST_RECORDS:
        message = f"-entries must lie between 1 and {NEWEST_RECORDS}; it is {wanted}."
        raise BadInput(faults.COMMAND_LINE, message)
    found = answered(await shell.call("audit.records"), AuditRecords)
    newest = AuditRecords(records=found.records[:wanted])
    return Output(lines=audit_tail(newest), body=newest)


COMMANDS: Final = (
    Command(
        words="audit log list",
        summary="List the files of the audit log, and its newest record, signed.",
        run=_list,
        operations=("audit.show",),
        json=True,
    ),
    Command(
        words="audit log tail",
        summary="Show the newest records of the audit log, the last one at the end.",
        options=(
            Option(
                name="entries",
                short="e",
                summary=f"how many, {NEWEST_RECORDS} at most; so many if absent",
                kind=Kind.NUMBER,
                value="number",
            ),
        ),
        run=_tail,
        operations=("audit.records",),
        json=True,
    ),
)
