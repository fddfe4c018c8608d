"""What the daemon waits for: a change, its own patience, or the end of the cluster process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from conclave.cluster.notices import Notices
from conclave.service.messages import Notice, Watch

WATCH = Watch(seen=1, seconds=60.0)


def told_after(event: Callable[[Notices], Awaitable[None]], watches: int = 1) -> Notice:
    """Return what a daemon is told that waits already when something happens."""

    async def scene() -> Notice:
        notices = Notices()
        waiting = asyncio.create_task(notices.watch(WATCH, "daemon"))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await event(notices)
            told = await waiting
            for _ in range(watches - 1):
                told = await notices.watch(WATCH, "daemon")
        return told

    return asyncio.run(scene())


def test_a_change_ends_the_wait() -> None:
    told = told_after(lambda notices: notices.change(removed="deleted"))
    assert (told.number, told.removed) == (2, "deleted")


def test_the_end_of_the_process_ends_every_wait_with_nothing_new() -> None:
    assert told_after(Notices.end, watches=2).number == 1
