"""Replace workers one after another, so that the others serve meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from conclave.appliance.supervisor import Child

WORKER_SECONDS: Final = 20.0

_log = logging.getLogger(__name__)


class Renewal:
    """One round of replacements at a time, beside whoever asked for it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def begin(self, workers: Sequence[Child]) -> None:
        """Begin a new round, in place of one that is under way."""
        await self.stop()
        self._task = asyncio.create_task(_replace(tuple(workers)), name="renew workers")

    async def stop(self) -> None:
        """End the round under way."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _replace(workers: Sequence[Child]) -> None:
    for worker in workers:
        if not await worker.hand_over(WORKER_SECONDS):
            _log.warning(
                "%s does not serve %.0f s after it was replaced; the next one is replaced all the"
                " same",
                worker.name,
                WORKER_SECONDS,
            )
