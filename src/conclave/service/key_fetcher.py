"""How a worker gets the cluster's keys from the cluster process.

Invariant: answers are taken in the order in which they were asked for, one at a time, so that one
that was overtaken never brings former keys back; and nobody waits for an answer to a question that
was sent before he asked, which may not know what he has heard of.
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
    """Fetch keys and hand them to `take`; who asks before a question is sent shares its answer."""

    def __init__(self, channel: ChannelClient, take: Callable[[WorkerKeys], None]) -> None:
        self._channel = channel
        self._take = take
        self._one_at_a_time = asyncio.Lock()
        self._waiting: dict[bool, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch(self, *, anew: bool = False) -> asyncio.Task[None]:
        """Return a fetch that has not been sent yet; `anew` lets the store be read before."""
        task = self._waiting.get(anew)
        if task is None or task.done():
            task = self._waiting[anew] = asyncio.create_task(self._fetch(anew))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(_note_failure)
        return task

    async def _fetch(self, anew: bool) -> None:
        async with self._one_at_a_time:
            self._waiting.pop(anew, None)
            given: WorkerKeys = await self._channel.call(
                "worker_keys", FetchKeys(anew=anew), timeout_seconds=KEYS_TIMEOUT_SECONDS
            )
            self._take(given)

    def cancel(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()


def _note_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("The cluster process gave no keys: %s", error)
