"""Record how every call of an operation ends; each door wraps its way through a call in this.

Invariants: a change is on disk before its caller hears of it; a refusal is recorded whoever was
refused, of strangers one a minute for each source and reason, so that whoever proves nothing cannot
push others' records out of the log; and of the arguments only what is no secret gets as far as a
record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from conclave import faults
from conclave.appliance.user_store import User
from conclave.audit.arguments import shown_arguments
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.log import AuditLog
from conclave.errors import ConclaveError, Fault, InternalFault
from conclave.operations.model import AnyOperation, Arguments, Reply
from conclave.operations.task_table import Task
from conclave.source_networks import network_of

_LONGEST_TARGET = 256


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One call of an operation; filled in as far as the call gets."""

    operation: AnyOperation
    door: str
    source: str
    target: str
    """Path of the resource."""
    user: User | None = None
    """None for whoever has proven nothing; a checked password has a record of its own."""
    arguments: Arguments | None = None
    reply: Reply | None = None

    @property
    def is_idle(self) -> bool:
        """Tell whether somebody without a login changed nothing, which is not worth a record."""
        return self.user is None and self.reply is not None and self.reply.unchanged

    def event(self, outcome: Outcome, *, fault: Fault | None = None) -> AuditEvent:
        """Return the record of how it ended."""
        user, reply = self.user, self.reply
        status = fault.http_status if fault is not None else 0
        if reply is not None:
            status = self.operation.statuses[0] if reply.status is None else reply.status
        return AuditEvent(
            kind=EventKind.OPERATION,
            outcome=outcome,
            door=self.door,
            user="" if user is None else user.user_id,
            role="" if user is None else str(user.role),
            source=self.source,
            operation=self.operation.name,
            target=self.target[:_LONGEST_TARGET],
            arguments={} if self.arguments is None else shown_arguments(self.arguments),
            status=status,
            fault="" if fault is None else fault.rest_id,
            task=_task_of(reply),
            note=_note_of(reply),
        )


@contextlib.asynccontextmanager
async def audited(log: AuditLog, attempt: Attempt, *, reads: bool) -> AsyncIterator[Attempt]:
    """Record the call inside; `reads` says whether reading is recorded as well."""
    try:
        yield attempt
    except ConclaveError as error:
        broken = isinstance(error, InternalFault)
        _note(log, attempt, Outcome.FAILED if broken else Outcome.REFUSED, error.fault)
        raise
    except (Exception, asyncio.CancelledError):
        _note(log, attempt, Outcome.FAILED, faults.INTERNAL)
        raise
    event = attempt.event(Outcome.ACCEPTED if _task_of(attempt.reply) else Outcome.DONE)
    if attempt.operation.audited and not attempt.is_idle:
        await log.write(event)
    elif reads:
        log.note(event)


async def record_end(
    log: AuditLog, task: Task, fault: Fault | None, *, broken: bool = False
) -> None:
    """Record the end of a task; of one that was not waited for, it is the only word about it."""
    await log.write(_end_of(task, fault, broken=broken))


def note_cancelled(log: AuditLog, task: Task) -> None:
    """Have it recorded that a task was broken off: the appliance stops, so nothing is awaited."""
    log.note(_end_of(task, faults.INTERNAL, broken=True))


def _end_of(task: Task, fault: Fault | None, *, broken: bool) -> AuditEvent:
    refused = Outcome.FAILED if broken else Outcome.REFUSED
    return AuditEvent(
        kind=EventKind.TASK,
        outcome=Outcome.DONE if fault is None else refused,
        user=task.owner,
        operation=task.operation,
        target=task.source_url[:_LONGEST_TARGET],
        status=0 if fault is None else fault.http_status,
        fault="" if fault is None else fault.rest_id,
        task=task.url,
    )


def _note(log: AuditLog, attempt: Attempt, outcome: Outcome, fault: Fault) -> None:
    repeated: int | None = 0
    if attempt.user is None:
        repeated = log.repeats.due((network_of(attempt.source), fault.rest_id))
    if repeated is not None:
        event = attempt.event(outcome, fault=fault)
        log.note(event if repeated == 0 else _with_repeats(event, repeated))


def _with_repeats(event: AuditEvent, repeated: int) -> AuditEvent:
    return msgspec.structs.replace(event, repeated=repeated)


def _note_of(reply: Reply | None) -> str:
    if reply is None or _task_of(reply):
        return ""
    return f"{reply.location[:_LONGEST_TARGET]} {reply.about}".strip()


def _task_of(reply: Reply | None) -> str:
    if reply is not None and reply.location.startswith("/tasks/"):
        return reply.location
    return ""
