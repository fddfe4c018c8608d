"""The way to an operation that all doors share: arguments, preconditions, tasks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec

from conclave import faults
from conclave.errors import ConclaveError, InternalFault
from conclave.operations.argument_refusals import refused_arguments
from conclave.operations.auditing import note_cancelled, record_end
from conclave.operations.customers import refuse_customers
from conclave.operations.model import AnyOperation, Arguments, Call, Reply
from conclave.operations.rights import may_call
from conclave.operations.task_table import Task


def decode_arguments(operation: AnyOperation, body: bytes) -> Arguments:
    """Return an operation's arguments; raise BadInput naming field, rule and value."""
    try:
        decoded: Arguments = operation.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Not chained: the cause may quote what was sent.
        raise refused_arguments(error, body, operation.arguments) from None
    return decoded


async def check(operation: AnyOperation, call: Call, arguments: Arguments) -> None:
    """Raise what forbids a call: a precondition, a full audit log, or what it tells of others.

    To be asked right before the handler runs.
    """
    for each in operation.checks:
        each(call, arguments)
    if operation.audited:
        call.appliance.audit.require_writable()
    await refuse_customers(call, operation)


def add_task(operation: AnyOperation, call: Call, arguments: Arguments, source_url: str) -> Task:
    """Return a Waiting task that calls an operation once it is started, and records its end."""

    async def run() -> Reply:
        # What held when the task was made must hold when it is started.
        await check(operation, call, arguments)
        return await operation.handler(replace(call, progress=task.tell), arguments)

    async def recorded() -> Reply:
        audit = call.appliance.audit
        try:
            reply = await run()
        except ConclaveError as error:
            broken = isinstance(error, InternalFault)
            await record_end(audit, task, error.fault, broken=broken)
            raise
        except asyncio.CancelledError:
            note_cancelled(audit, task)
            raise
        except Exception:
            await record_end(audit, task, faults.INTERNAL, broken=True)
            raise
        await record_end(audit, task, None)
        return reply

    task = call.tasks.add(
        owner=call.by.user.user_id,
        operation=operation.name,
        source_url=source_url,
        may_start=lambda user: may_call(call.appliance.roles, user, operation, dict(call.path)),
        runner=recorded,
    )
    return task
