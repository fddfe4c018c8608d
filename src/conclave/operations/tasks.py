"""Tasks over the doors: list, show, response, start and cancel."""

from __future__ import annotations

import re
from datetime import datetime

from conclave import faults
from conclave.appliance.user_rules import UserRole
from conclave.errors import BadInput, NotAllowed, NotFound
from conclave.operations.model import (
    EVERYBODY,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.services import Action, Actions
from conclave.operations.task_table import Task, TaskState

TASKS = "/tasks"
TASK = f"{TASKS}/{{taskid}}"
_ACTIONS = ("start", "cancel")
_SETTLE_SECONDS = 5.0


class TaskView(Result, frozen=True):
    """One task; times are UTC, "" when not yet."""

    instance: str
    response_url: str
    source_url: str
    start_time: str
    finish_time: str
    state: str
    details: str


class TaskList(Result, frozen=True):
    """Tasks, oldest first."""

    tasks: list[TaskView]


def task_view(task: Task) -> TaskView:
    """Return a task as answers show it."""
    return TaskView(
        instance=task.url,
        response_url=f"{task.url}/response",
        source_url=task.source_url,
        start_time=_instant(task.started),
        finish_time=_instant(task.finished),
        state=task.state.value,
        details=task.details,
    )


def _instant(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _visible_to(call: Call) -> str | None:
    """Return whose tasks the caller sees: administrators see everybody's."""
    user = call.by.user
    return None if user.role is UserRole.ADMIN else user.user_id


def _task(call: Call) -> Task:
    number = call.path["taskid"]
    if not re.fullmatch(r"[0-9]{1,18}", number):
        message = f"A task's id is a number; it is {number[:32]!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    return call.tasks.get(int(number), visible_to=_visible_to(call))


def check_task(call: Call, _arguments: object) -> None:
    """The task must exist and be the caller's own, unless the caller is an administrator."""
    _task(call)


@operation(
    "task.list",
    "GET",
    TASKS,
    summary="List the tasks: the own ones, or everybody's for an administrator.",
    only="REST: LunaSH waits for its tasks and shows how far they are.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=TaskList,
    paged=True,
)
async def list_tasks(call: Call, _arguments: NoArguments) -> Reply:
    """List tasks."""
    tasks = call.tasks.all(visible_to=_visible_to(call))
    return Reply(body=TaskList(tasks=[task_view(task) for task in tasks]))


@operation(
    "task.show",
    "GET",
    TASK,
    summary="Show a task: 200 until it ended, then 303 to its response, 410 when it is gone.",
    only="REST: LunaSH waits for its tasks and shows how far they are.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200, 303),
    result=TaskView,
    checks=(check_task,),
    faults=(faults.TASK_GONE,),
)
async def show_task(call: Call, _arguments: NoArguments) -> Reply:
    """Show a task."""
    task = _task(call)
    if task.ended:
        return Reply(body=task_view(task), status=303, location=f"{task.url}/response")
    return Reply(body=task_view(task))


@operation(
    "task.response",
    "GET",
    f"{TASK}/response",
    summary="Show what the task's original call answered, or was refused with.",
    only="REST: LunaSH waits for its tasks and shows how far they are.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200, 201, 202, 204),
    result=Result,
    checks=(check_task,),
    faults=(faults.TASK_GONE, faults.TASK_STATE),
)
async def show_response(call: Call, _arguments: NoArguments) -> Reply:
    """Answer as the task's original call would have answered."""
    task = _task(call)
    if task.error is not None:
        raise task.error
    if task.reply is None:
        message = f"Task {task.number} is {task.state.value}: there is no response."
        raise NotAllowed(faults.TASK_STATE, message)
    if task.reply.status is None:
        status = 200 if task.reply.body is not None else 204
        return Reply(body=task.reply.body, location=task.reply.location, status=status)
    return task.reply


@operation(
    "task.actions",
    "GET",
    f"{TASK}/actions",
    summary="List what may be done with a task now.",
    only="REST: LunaSH waits for its tasks and shows how far they are.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=Actions,
    checks=(check_task,),
    faults=(faults.TASK_GONE,),
)
async def list_actions(call: Call, _arguments: NoArguments) -> Reply:
    """List what may be done with a task now."""
    task = _task(call)
    offered = _ACTIONS if task.state is TaskState.WAITING else ()
    url = f"{task.url}/actions"
    return Reply(body=Actions(actions=[Action(id=name, url=f"{url}/{name}") for name in offered]))


@operation(
    "task.act",
    "POST",
    f"{TASK}/actions/{{actionid}}",
    summary="Start or cancel a Waiting task.",
    only="REST: LunaSH waits for its tasks and shows how far they are.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(202, 204),
    result=TaskView,
    checks=(check_task,),
    faults=(faults.TASK_GONE, faults.TASK_ACTION, faults.TASK_STATE),
)
async def act(call: Call, _arguments: NoArguments) -> Reply:
    """Start or cancel a Waiting task; one that ends soon, well or badly, is answered so."""
    task = _task(call)
    action = call.path["actionid"]
    if action == "cancel":
        call.tasks.cancel(task)
        return Reply(status=204)
    if action != "start":
        message = f"A task has no action {action[:16]!r}; it has {', '.join(_ACTIONS)}."
        raise NotFound(faults.TASK_ACTION, message)
    user = call.by.user
    if not task.may_start(user):
        role = user.role.value
        message = f"Task {task.number} ({task.operation}) cannot be started by the role {role!r}."
        raise NotAllowed(faults.NO_ACL_RULE, message)
    call.tasks.start(task)
    if await task.ended_within(_SETTLE_SECONDS) and task.error is not None:
        raise task.error
    return Reply(body=task_view(task), location=task.url)
