"""Locks by key: one holder, a bounded queue, a bounded wait, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from conclave import faults
from conclave.errors import Unavailable
from conclave.keyed_locks import KeyedLocks


def play(scene: Callable[[KeyedLocks[str]], Awaitable[None]], patience_seconds: float = 10) -> None:
    async def run() -> None:
        locks = KeyedLocks[str](longest_queue=2, patience_seconds=patience_seconds)
        await scene(locks)
        assert not locks._entries

    asyncio.run(run())


def test_one_holder_for_each_key_and_no_waiting_for_another_key() -> None:
    async def scene(locks: KeyedLocks[str]) -> None:
        order: list[str] = []

        async def attempt(name: str) -> None:
            async with locks.hold("a"):
                order.append(name)
                await asyncio.sleep(0)
                order.append(name)

        async with locks.hold("b"):
            await asyncio.gather(*(attempt(str(number)) for number in range(3)))
        assert order == ["0", "0", "1", "1", "2", "2"]

    play(scene)


def test_a_full_queue_refuses_at_once_and_leaves_the_others_alone() -> None:
    async def scene(locks: KeyedLocks[str]) -> None:
        async def attempt() -> None:
            async with locks.hold("a"):
                pass

        async with locks.hold("a"):
            waiting = [asyncio.create_task(attempt()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refusal:
                await attempt()
            assert refusal.value.fault is faults.BUSY
        await asyncio.gather(*waiting)

    play(scene)


def test_nobody_waits_for_ever() -> None:
    async def scene(locks: KeyedLocks[str]) -> None:
        async with locks.hold("a"):
            with pytest.raises(Unavailable):
                async with locks.hold("a"):
                    pytest.fail("held twice")

    play(scene, patience_seconds=0.01)


def test_who_is_cancelled_while_waiting_or_holding_leaves_the_lock_free() -> None:
    async def scene(locks: KeyedLocks[str]) -> None:
        holds = asyncio.Event()

        async def attempt() -> None:
            async with locks.hold("a"):
                holds.set()
                await asyncio.get_running_loop().create_future()

        tasks = [asyncio.create_task(attempt()) for _ in range(2)]
        await holds.wait()
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait({task})
        async with asyncio.timeout(60), locks.hold("a"):
            pass

    play(scene)
