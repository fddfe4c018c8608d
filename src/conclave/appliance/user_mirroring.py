"""Carry the users into the cluster store while the cluster service runs.

Invariant: no change of a user waits for the mirror or fails with it.  What could not be carried
over is logged and tried again until it is; the whole list goes over each time, so a later success
makes up for every earlier failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from conclave import faults
from conclave.errors import ConclaveError
from conclave.service.messages import Quiet, UserRecord, UserRecords

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


class Mirrored(Protocol):
    """What takes the users: the cluster service."""

    def call(self, method: str, params: Quiet) -> Awaitable[Any]:
        """Call a method of the cluster process."""


class UserMirroring:
    """One task that carries the users over whenever it is woken."""

    def __init__(
        self,
        records: Callable[[], list[UserRecord]],
        cluster: Mirrored,
        *,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
    ) -> None:
        self._records = records
        self._cluster = cluster
        self._first_delay_seconds = first_delay_seconds
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to wait for `wake`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="user-mirroring")

    async def stop(self) -> None:
        """End, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def wake(self) -> None:
        """Carry the users over soon; returns at once."""
        self._wanted.set()

    async def _run(self) -> None:
        delay = self._first_delay_seconds
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if await self._carry_over():
                delay = self._first_delay_seconds
                continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            self._wanted.set()

    async def _carry_over(self) -> bool:
        """Tell whether nothing is left to do until somebody wakes us."""
        try:
            await self._cluster.call("put_users", UserRecords(users=self._records()))
        except ConclaveError as error:
            if error.fault is faults.SERVICE_STOPPED:
                return True  # its next start wakes us
            _log.warning("the users were not mirrored, trying again: %s", error.message)
            return False
        except Exception:  # noqa: BLE001 - the boundary of a task
            # Without this one surprise would end mirroring for good.
            _log.exception("mirroring the users failed, trying again")
            return False
        return True
