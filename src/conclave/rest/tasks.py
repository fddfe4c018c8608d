"""Run an operation: at once, as a task that is soon over, or as a task that waits for its start."""

from __future__ import annotations

from dataclasses import replace

from conclave import faults
from conclave.errors import ConclaveError
from conclave.operations.auditing import record_end
from conclave.operations.model import AnyOperation, Arguments, Call, Duration, Reply
from conclave.operations.task_table import Task
from conclave.operations.tasks import task_view
from conclave.settings import RestSettings

ACCEPTED = 202
CREATED = 201
NO_CONTENT = 204


async def execute(
    operation: AnyOperation, call: Call, arguments: Arguments, source_url: str, rules: RestSettings
) -> Reply:
    """Check the preconditions and run, or announce a task."""
    _check(operation, call, arguments)
    if operation.audited:
        call.appliance.audit.require_writable()
    waits = operation.waits_when is not None and operation.waits_when(call, arguments)
    if not waits and operation.duration is Duration.AT_ONCE:
        return await operation.handler(call, arguments)
    task = _add(operation, replace(call, confirmed=waits), arguments, source_url)
    if waits:
        return announce(task, ACCEPTED, rules)
    call.tasks.start(task)
    if await task.ended_within(operation.settle_seconds):
        if task.error is not None:
            raise task.error
        if task.reply is not None and task.reply.status == CREATED:
            return task.reply
    return announce(task, operation.statuses[0], rules)


def announce(task: Task, status: int, rules: RestSettings) -> Reply:
    """Return what tells a caller of a task, with the answer of its operation if it has one."""
    if rules.task_status_204 or status == NO_CONTENT:
        return Reply(status=NO_CONTENT, location=task.url)
    reply = Reply() if task.reply is None else task.reply
    body = task_view(task) if reply.body is None else reply.body
    return replace(reply, body=body, status=status, location=task.url)


def _check(operation: AnyOperation, call: Call, arguments: Arguments) -> None:
    for check in operation.checks:
        check(call, arguments)


def _add(operation: AnyOperation, call: Call, arguments: Arguments, source_url: str) -> Task:
    async def run() -> Reply:
        # What held when the task was made must hold when it is started.
        _check(operation, call, arguments)
        call.appliance.audit.require_writable()
        return await operation.handler(replace(call, progress=task.tell), arguments)

    async def recorded() -> Reply:
        audit = call.appliance.audit
        try:
            reply = await run()
        except ConclaveError as error:
            await record_end(audit, task, error.fault)
            raise
        except Exception:
            await record_end(audit, task, faults.INTERNAL)
            raise
        await record_end(audit, task, None)
        return reply

    task = call.tasks.add(
        owner=call.by.user.user_id,
        operation=operation.name,
        source_url=source_url,
        roles=operation.roles,
        runner=recorded,
    )
    return task
