"""One change of the cluster service at a time, and one that may take hours.

Invariant: nobody waits behind a long change.  Whoever wants to change something meanwhile is
refused; only what ends the service goes first, and it ends the long change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from conclave import faults
from conclave.errors import Conflict, NotAllowed

Result = TypeVar("Result")


class Changes:
    """Keeps changes apart."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._long: asyncio.Task[object] | None = None
        self._long_wanted = False

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold off other changes; raise Conflict (JOIN_IN_PROGRESS) during a long one."""
        self.require_short()
        async with self._lock:
            yield

    @contextlib.asynccontextmanager
    async def patient(self) -> AsyncIterator[None]:
        """Hold off other changes, waiting for a long one: for tasks in which nobody waits."""
        async with self._lock:
            yield

    @contextlib.asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Hold off other changes, ending a long one first."""
        while (long := self._long) is not None:
            long.cancel()
            await asyncio.wait({long})
            if self._long is long:
                self._long = None
        async with self._lock:
            yield

    async def long(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run `work` alone; raise NotAllowed (SERVICE_STOPPED) when something ends it."""
        self.require_short()
        self._long_wanted = True
        task = asyncio.create_task(self._alone(work))
        self._long = task
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            message = "The cluster service was stopped before the join was done: nothing joined."
            raise NotAllowed(faults.SERVICE_STOPPED, message) from None
        finally:
            self._long_wanted = False
            if self._long is task:
                self._long = None

    def require_short(self) -> None:
        """Raise Conflict (JOIN_IN_PROGRESS) while a long change runs."""
        if self._long_wanted:
            message = (
                "The appliance is joining a cluster: wait until its task has ended, or stop the"
                " cluster service."
            )
            raise Conflict(faults.JOIN_IN_PROGRESS, message)

    async def _alone(self, work: Callable[[], Awaitable[Result]]) -> Result:
        async with self._lock:
            return await work()
