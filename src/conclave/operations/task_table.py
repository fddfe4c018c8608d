"""Tasks: what takes long, and what waits for a second word before it destroys anything.

Invariant: a Waiting task has changed nothing; it runs once at most, and only by its start.  Its
arguments, which may hold a password, are let go when it ends or after WAIT_MS, asked for or not.
States go Waiting → Running → Finished or Error, or Waiting → Cancelled.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from conclave import faults
from conclave.appliance.user_store import User
from conclave.clock import ApplianceClock, boot_time_ms
from conclave.errors import ConclaveError, InternalFault, NotAllowed, NotFound, Unavailable
from conclave.operations.model import Reply

MAX_TASKS: Final = 512
MAX_UNDONE: Final = 64
KEEP_MS: Final = 60 * 60_000
"""A task that ended is forgotten an hour after its end."""
WAIT_MS: Final = 10 * 60_000
"""A task that waits for its start is forgotten ten minutes after it was made."""
SWEEP_SECONDS: Final = 15.0

Runner = Callable[[], Awaitable[Reply]]
_log = logging.getLogger(__name__)


class TaskState(enum.StrEnum):
    """States of a task, as the answers spell them."""

    WAITING = "Waiting"
    RUNNING = "Running"
    FINISHED = "Finished"
    ERROR = "Error"
    CANCELLED = "Cancelled"


@dataclass(slots=True, eq=False)
class Task:
    """One task; it belongs to the user who made it."""

    number: int
    owner: str
    operation: str
    source_url: str
    may_start: Callable[[User], bool]
    """Whether a user has the right to its operation when asked, not when it was made."""
    runner: Runner
    touched_ms: int
    state: TaskState = TaskState.WAITING
    started: datetime | None = None
    finished: datetime | None = None
    reply: Reply | None = None
    error: ConclaveError | None = None
    progress: str = ""
    """How far it is, or was when it ended."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: list[Callable[[str], None]] = field(default_factory=list)
    """Told how far the task is; whoever no longer listens takes its own out."""

    def tell(self, how_far: str) -> None:
        """Note how far the task is."""
        self.progress = how_far
        for watcher in tuple(self.watchers):
            watcher(how_far)

    @property
    def details(self) -> str:
        """Return what failed, or how far the task is."""
        return self.progress if self.error is None else self.error.message

    @property
    def url(self) -> str:
        """Return the task's path."""
        return f"/tasks/{self.number}"

    @property
    def ended(self) -> bool:
        """Tell whether nothing will change any more."""
        return self.state not in (TaskState.WAITING, TaskState.RUNNING)

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the end, at most so long; tell whether it came."""
        try:
            await asyncio.wait_for(self.done.wait(), seconds)
        except TimeoutError:
            return False
        return True


class TaskTable:
    """All tasks of one appliance, bounded in number and in age."""

    def __init__(
        self,
        clock: ApplianceClock,
        *,
        now_ms: Callable[[], int] = boot_time_ms,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._clock = clock
        self._now_ms = now_ms
        self._sweep_seconds = sweep_seconds
        self._sweeping: asyncio.TimerHandle | None = None
        self._tasks: OrderedDict[int, Task] = OrderedDict()
        self._last_number = 0
        self._running: set[asyncio.Task[None]] = set()

    def add(
        self,
        *,
        owner: str,
        operation: str,
        source_url: str,
        may_start: Callable[[User], bool],
        runner: Runner,
    ) -> Task:
        """Make a Waiting task; raise Unavailable when too many are not done."""
        self._expire()
        if sum(not task.ended for task in self._tasks.values()) >= MAX_UNDONE:
            message = f"{MAX_UNDONE} tasks wait or run already: start, cancel or await one first."
            raise Unavailable(faults.BUSY, message)
        self._last_number += 1
        task = Task(
            number=self._last_number,
            owner=owner,
            operation=operation,
            source_url=source_url,
            may_start=may_start,
            runner=runner,
            touched_ms=self._now_ms(),
        )
        self._tasks[task.number] = task
        self._drop_oldest()
        self._sweep_later()
        return task

    def start(self, task: Task) -> None:
        """Run a Waiting task; raise NotAllowed when it does not wait."""
        self._require_waiting(task, "start")
        task.state = TaskState.RUNNING
        task.started = self._clock.now()
        task.touched_ms = self._now_ms()
        running = asyncio.get_running_loop().create_task(self._run(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def cancel(self, task: Task) -> None:
        """Drop a Waiting task; raise NotAllowed when it does not wait."""
        self._require_waiting(task, "cancel")
        self._end(task, TaskState.CANCELLED)

    def get(self, number: int, *, visible_to: str | None) -> Task:
        """Return a task of a user, or of anybody (None); raise NotFound (TASK_GONE)."""
        self._expire()
        task = self._tasks.get(number)
        if task is None or visible_to not in (None, task.owner):
            message = (
                f"There is no task {number}; a task is forgotten an hour after its end, or when it"
                " was not started within ten minutes."
            )
            raise NotFound(faults.TASK_GONE, message)
        return task

    def all(self, *, visible_to: str | None) -> tuple[Task, ...]:
        """Return the tasks of a user, or of everybody (None), oldest first."""
        self._expire()
        return tuple(t for t in self._tasks.values() if visible_to in (None, t.owner))

    async def close(self) -> None:
        """Cancel what runs, for the end of the process."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, task: Task) -> None:
        try:
            task.reply = await task.runner()
        except ConclaveError as error:
            task.error = error
        except Exception:  # noqa: BLE001 - a boundary: what went wrong is kept for its reader
            _log.exception("task failed", extra={"task": task.number, "operation": task.operation})
            task.error = InternalFault(faults.INTERNAL, "The task failed; the log says why.")
        finally:
            ended = TaskState.FINISHED if task.reply is not None else TaskState.ERROR
            self._end(task, ended)

    def _end(self, task: Task, state: TaskState) -> None:
        task.state = state
        task.finished = self._clock.now()
        task.touched_ms = self._now_ms()
        # The arguments, which may hold passwords, live in the runner: let them go.
        task.runner = _spent
        task.done.set()

    def _require_waiting(self, task: Task, action: str) -> None:
        if task.state is not TaskState.WAITING:
            message = f"Task {task.number} is {task.state.value}; only a Waiting task can {action}."
            raise NotAllowed(faults.TASK_STATE, message)

    def _sweep_later(self) -> None:
        if self._sweeping is None and self._tasks:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        self._expire()
        self._sweep_later()

    def _expire(self) -> None:
        now_ms = self._now_ms()
        for task in tuple(self._tasks.values()):
            keep_ms = WAIT_MS if task.state is TaskState.WAITING else KEEP_MS
            if task.state is not TaskState.RUNNING and task.touched_ms < now_ms - keep_ms:
                del self._tasks[task.number]
                # Whoever still holds the task must not hold its arguments.
                task.runner = _spent

    def _drop_oldest(self) -> None:
        while len(self._tasks) > MAX_TASKS:
            number = next(task.number for task in self._tasks.values() if task.ended)
            del self._tasks[number]


async def _spent() -> Reply:
    raise InternalFault(faults.INTERNAL, "A task ran twice.")
