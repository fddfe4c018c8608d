"""How a worker gets the cluster's keys from the cluster process.

Invariant: answers are taken in the order in which they were asked for, one at a time, so that one
that was overtaken never brings former keys back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from conclave.service.channel import ChannelClient
from conclave.service.messages import FetchKeys, WorkerKeys

KEYS_TIMEOUT_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class KeyFetcher:
    """Fetch keys and hand them to `take`; who asks at the same time waits for the same answer."""

    def __init__(self, channel: ChannelClient, take: Callable[[WorkerKeys], None]) -> None:
        self._channel = channel
        self._take = take
        self._one_at_a_time = asyncio.Lock()
        self._tasks: dict[bool, asyncio.Task[None]] = {}

    def fetch(self, *, anew: bool = False) -> asyncio.Task[None]:
        """Return a fetch under way, begun now if need be; `anew` lets the store be read before."""
        task = self._tasks.get(anew)
        if task is None or task.done():
            task = self._tasks[anew] = asyncio.create_task(self._fetch(anew))
            task.add_done_callback(_note_failure)
        return task

    async def _fetch(self, anew: bool) -> None:
        async with self._one_at_a_time:
            given: WorkerKeys = await self._channel.call(
                "worker_keys", FetchKeys(anew=anew), timeout_seconds=KEYS_TIMEOUT_SECONDS
            )
            self._take(given)

    def cancel(self) -> None:
        """End what is under way."""
        for task in self._tasks.values():
            task.cancel()


def _note_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("The cluster process gave no keys: %s", error)
