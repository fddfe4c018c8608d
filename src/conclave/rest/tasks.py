"""Run an operation: at once, as a task that is soon over, or as a task that waits for its start."""

from __future__ import annotations

from dataclasses import replace

from conclave.operations.calling import add_task, check
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
    await check(operation, call, arguments)
    waits = operation.waits_when is not None and operation.waits_when(call, arguments)
    if not waits and operation.duration is Duration.AT_ONCE:
        return await operation.handler(call, arguments)
    task = add_task(operation, replace(call, confirmed=waits), arguments, source_url)
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
