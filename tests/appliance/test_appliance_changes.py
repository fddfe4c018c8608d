"""Changes of the service: one at a time, nobody behind a long one, and an end that goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from conclave import faults
from conclave.appliance.changes import Changes
from conclave.errors import Conflict, NotAllowed
from tests.support.appliance_bench import until


class Work:
    """A long change that runs until it is let go, and needs a moment to put things back."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.let_go = asyncio.Event()

    async def __call__(self) -> str:
        self.seen.append("began")
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.seen.append("put back")
            raise
        return "done"


def play(scene: Callable[[Changes, Work], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Changes(), Work())

    asyncio.run(run())


async def change(changes: Changes, seen: list[str]) -> None:
    async with changes.one():
        seen.append("changed")


def test_nobody_waits_behind_a_long_change() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        long = asyncio.create_task(changes.long(work))
        await asyncio.sleep(0)
        for refused in (change(changes, work.seen), changes.long(work)):
            with pytest.raises(Conflict, match="joining a cluster: wait") as caught:
                await refused
            assert caught.value.fault is faults.JOIN_IN_PROGRESS
        work.let_go.set()
        assert await long == "done"
        await change(changes, work.seen)
        assert work.seen == ["began", "changed"]

    play(scene)


def test_a_long_change_that_waits_for_a_short_one_refuses_others_already() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        work.let_go.set()
        async with changes.one():
            long = asyncio.create_task(changes.long(work))
            await asyncio.sleep(0)
            with pytest.raises(Conflict):
                await change(changes, work.seen)
            assert work.seen == []
        assert await long == "done"

    play(scene)


def test_an_end_ends_the_long_change_and_comes_after_it_was_put_back() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        long = asyncio.create_task(changes.long(work))
        await until(lambda: work.seen, "the long change began")
        async with changes.ending():
            work.seen.append("ended")
        with pytest.raises(NotAllowed, match="before the join was done") as caught:
            await long
        assert caught.value.fault is faults.SERVICE_STOPPED
        assert work.seen == ["began", "put back", "ended"]
        await change(changes, work.seen)

    play(scene)


def test_whoever_is_cancelled_takes_the_long_change_along() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        long = asyncio.create_task(changes.long(work))
        await until(lambda: work.seen, "the long change began")
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert work.seen == ["began", "put back"]
        await change(changes, work.seen)

    play(scene)


def test_what_fails_in_a_long_change_reaches_its_caller() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        async def fail() -> None:
            raise NotAllowed(faults.CLOCK_SKEW, "Skew.")

        with pytest.raises(NotAllowed, match="Skew"):
            await changes.long(fail)
        await change(changes, work.seen)

    play(scene)


def test_a_patient_change_waits_for_the_long_one() -> None:
    async def scene(changes: Changes, work: Work) -> None:
        async def wait() -> None:
            async with changes.patient():
                work.seen.append("patient")

        long = asyncio.create_task(changes.long(work))
        await until(lambda: work.seen, "the long change began")
        patient = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert work.seen == ["began"]
        work.let_go.set()
        await asyncio.gather(long, patient)
        assert work.seen == ["began", "patient"]

    play(scene)
