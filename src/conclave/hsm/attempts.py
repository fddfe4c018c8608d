"""Let one attempt at a credential run at a time, with few waiting and none for ever (C8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from conclave import faults
from conclave.errors import Unavailable
from conclave.hsm.model import Owner

MAX_WAITING: Final = 16
PATIENCE_SECONDS: Final = 20.0


class AttemptGates:
    """One gate for each credential: failures are counted one after the other, never in parallel."""

    def __init__(self) -> None:
        self._locks: dict[Owner, asyncio.Lock] = {}
        self._inside: dict[Owner, int] = {}

    @asynccontextmanager
    async def enter(self, owner: Owner) -> AsyncIterator[None]:
        """Hold the credential's gate; raise Unavailable when too many wait or it takes too long."""
        inside = self._inside.get(owner, 0)
        if inside > MAX_WAITING:
            raise _busy(owner)
        self._inside[owner] = inside + 1
        lock = self._locks.setdefault(owner, asyncio.Lock())
        try:
            await self._acquire(lock, owner)
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(owner)

    async def _acquire(self, lock: asyncio.Lock, owner: Owner) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise _busy(owner) from None

    def _leave(self, owner: Owner) -> None:
        self._inside[owner] -= 1
        if self._inside[owner] == 0:
            del self._inside[owner], self._locks[owner]


def _busy(owner: Owner) -> Unavailable:
    message = f"Other logins of role {owner.role.value} are under way; try again."
    return Unavailable(faults.BUSY, message)
