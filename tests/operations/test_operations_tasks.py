"""The task table: states, bounds, and what becomes of secrets and failures."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from conclave import faults
from conclave.appliance.user_store import User
from conclave.clock import ApplianceClock
from conclave.errors import Conflict, NotAllowed, NotFound, Unavailable
from conclave.operations import task_table
from conclave.operations.model import DONE, Reply
from conclave.operations.task_table import Runner, Task, TaskState, TaskTable
from tests.support.hsm_bench import Moment


async def nothing() -> Reply:
    return DONE


def play(
    scene: Callable[[TaskTable, Moment], Awaitable[None]], *, sweep_seconds: float = 3600
) -> None:
    async def run() -> None:
        clock = Moment()
        appliance_clock = ApplianceClock(offset_ms=lambda: 0)
        table = TaskTable(appliance_clock, now_ms=clock, sweep_seconds=sweep_seconds)
        try:
            await scene(table, clock)
        finally:
            await table.close()

    asyncio.run(run())


def anybody(_user: User) -> bool:
    return True


def add(table: TaskTable, runner: Runner = nothing, *, owner: str = "admin") -> Task:
    return table.add(
        owner=owner, operation="a.b", source_url="/x", may_start=anybody, runner=runner
    )


def test_a_task_waits_runs_once_and_ends() -> None:
    runs = []

    async def runner() -> Reply:
        runs.append(1)
        return DONE

    async def scene(table: TaskTable, _clock: Moment) -> None:
        task = add(table, runner)
        assert (task.state, runs) == (TaskState.WAITING, [])
        assert not await task.ended_within(0.01)
        table.start(task)
        with pytest.raises(NotAllowed):
            table.start(task)
        assert await task.ended_within(5)
        assert (task.state, task.reply, runs) == (TaskState.FINISHED, DONE, [1])
        for action in (table.start, table.cancel):
            with pytest.raises(NotAllowed):
                action(task)

    play(scene)


def test_a_cancelled_task_never_runs() -> None:
    async def scene(table: TaskTable, _clock: Moment) -> None:
        task = add(table)
        table.cancel(task)
        assert task.state is TaskState.CANCELLED
        with pytest.raises(NotAllowed):
            table.start(task)

    play(scene)


def test_failures_are_kept_and_unexpected_ones_not_explained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refused() -> Reply:
        raise Conflict(faults.CLUSTER_EXISTS, "There is one.")

    async def broken() -> Reply:
        raise ZeroDivisionError("inside")

    async def scene(table: TaskTable, _clock: Moment) -> None:
        for runner, rest_id in (
            (refused, "CLUSTERPLUGIN_CLUSTER_EXISTS"),
            (broken, "SERVERPLUGIN_INTERNAL_ERROR"),
        ):
            task = add(table, runner)
            table.start(task)
            assert await task.ended_within(5)
            assert task.state is TaskState.ERROR
            assert task.error is not None
            assert task.error.fault.rest_id == rest_id
            assert "inside" not in task.error.message
        assert "ZeroDivisionError" in caplog.text

    play(scene)


def test_arguments_die_with_the_end_of_a_task() -> None:
    class Arguments:
        """Something that may hold a password."""

    async def scene(table: TaskTable, _clock: Moment) -> None:
        arguments = Arguments()
        alive = weakref.ref(arguments)

        async def runner(held: Arguments = arguments) -> Reply:
            assert held
            return DONE

        task = add(table, runner)
        del arguments, runner
        table.start(task)
        assert await task.ended_within(5)
        await asyncio.sleep(0)
        gc.collect()
        assert alive() is None

    play(scene)


def test_arguments_of_a_task_that_nobody_starts_die_without_another_call() -> None:
    class Arguments:
        """Something that may hold a password."""

    async def scene(table: TaskTable, clock: Moment) -> None:
        def waiting() -> tuple[Task, weakref.ref[Arguments]]:
            arguments = Arguments()

            async def runner(held: Arguments = arguments) -> Reply:
                assert held
                return DONE

            return add(table, runner), weakref.ref(arguments)

        first, alive = waiting()
        await asyncio.sleep(0.01)
        gc.collect()
        assert alive() is not None
        # Also where others go on holding the task, and for tasks made after the first sweep.
        for number in range(2):
            clock.ms += task_table.WAIT_MS + 1
            async with asyncio.timeout(60):
                while alive() is not None:
                    await asyncio.sleep(0.005)
                    gc.collect()
            assert table.all(visible_to=None) == (), number
            second, alive = waiting()
        assert (first.state, second.state) == (TaskState.WAITING, TaskState.WAITING)

    play(scene, sweep_seconds=0.001)


def test_tasks_are_forgotten_ten_minutes_after_the_call_or_an_hour_after_their_end() -> None:
    async def scene(table: TaskTable, clock: Moment) -> None:
        go = asyncio.Event()

        async def long() -> Reply:
            await go.wait()
            return DONE

        waiting, running = add(table), add(table, long)
        table.start(running)
        clock.ms += task_table.WAIT_MS
        assert table.get(waiting.number, visible_to=None) is waiting
        clock.ms += 1
        with pytest.raises(NotFound):
            table.get(waiting.number, visible_to=None)
        assert table.get(running.number, visible_to=None) is running
        clock.ms += task_table.KEEP_MS
        assert table.get(running.number, visible_to=None) is running
        go.set()
        assert await running.ended_within(5)
        clock.ms += task_table.KEEP_MS
        assert table.all(visible_to=None) == (running,)
        clock.ms += 1
        assert table.all(visible_to=None) == ()

    play(scene)


def test_the_table_is_bounded() -> None:
    async def scene(table: TaskTable, _clock: Moment) -> None:
        waiting = [add(table) for _ in range(task_table.MAX_UNDONE)]
        with pytest.raises(Unavailable):
            add(table)
        table.cancel(waiting[0])
        for _ in range(task_table.MAX_TASKS + 5):
            table.cancel(add(table))
        assert len(table.all(visible_to=None)) == task_table.MAX_TASKS
        for task in waiting[1:]:
            assert table.get(task.number, visible_to=None) is task

    play(scene)


def test_owners_see_their_own() -> None:
    async def scene(table: TaskTable, _clock: Moment) -> None:
        mine, theirs = add(table, owner="a"), add(table, owner="b")
        assert table.all(visible_to="a") == (mine,)
        assert table.all(visible_to=None) == (mine, theirs)
        with pytest.raises(NotFound):
            table.get(theirs.number, visible_to="a")

    play(scene)
