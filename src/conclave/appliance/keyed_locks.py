"""One lock for each key, made when it is wanted and gone when nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from conclave import faults
from conclave.errors import Unavailable


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class KeyedLocks:
    """Let one holder at a time in for each key; a full queue answers busy."""

    def __init__(self, *, longest_queue: int) -> None:
        self._longest_queue = longest_queue
        self._entries: dict[str, _Entry] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock; raise Unavailable (BUSY) when too many wait for it already."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.users > self._longest_queue:
            message = "Too many logins wait for their turn; nothing was counted, try again."
            raise Unavailable(faults.BUSY, message)
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if entry.users == 0:
                self._entries.pop(key, None)
