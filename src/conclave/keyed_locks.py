"""Let one attempt at a time in for each key, with few waiting and none for ever (rule C8).

Invariant: at most one holder for each key; a lock exists only while somebody holds it or waits,
so keys that strangers choose (names, addresses) take no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from conclave import faults
from conclave.errors import Unavailable

PATIENCE_SECONDS: Final = 20.0

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class KeyedLocks(Generic[Key]):
    """One lock for each key; `longest_queue` is how many may wait beside its holder."""

    def __init__(self, *, longest_queue: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._longest_queue = longest_queue
        self._patience_seconds = patience_seconds
        self._entries: dict[Key, _Entry] = {}

    @asynccontextmanager
    async def hold(self, key: Key) -> AsyncIterator[None]:
        """Hold the key's lock; raise Unavailable (BUSY) when too many wait or it takes too long."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.users > self._longest_queue:
            raise _busy()
        entry.users += 1
        try:
            await self._acquire(entry.lock)
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            entry.users -= 1
            if entry.users == 0:
                del self._entries[key]

    async def _acquire(self, lock: asyncio.Lock) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await lock.acquire()
        except TimeoutError:
            raise _busy() from None


def _busy() -> Unavailable:
    message = "Too many wait for their turn; nothing was counted or changed, try again."
    return Unavailable(faults.BUSY, message)
