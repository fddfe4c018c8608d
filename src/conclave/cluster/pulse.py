"""Whether this member's PostgreSQL answers; one that hangs is killed, so that it starts anew.

Invariant: PostgreSQL is killed only after it gave no answer twice in a row on a connection that
nothing else uses, while nobody was changing its role; a long order of ours is no hang (rule C27).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from conclave.cluster.replication import Replication
from conclave.errors import ConclaveError
from conclave.store.postgresql.control import Control

BEAT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.2
MISSED_BEATS: Final = 2

logger = logging.getLogger(__name__)


class Pulse:
    """Asks PostgreSQL for a sign of life; `on_killed` is told when it was killed."""

    def __init__(
        self, replication: Replication, run_dir: Path, on_killed: Callable[[], None]
    ) -> None:
        self._replication = replication
        self._control = Control(run_dir)
        self._on_killed = on_killed

    async def watch_for_ever(self) -> None:
        """Look after PostgreSQL as long as it runs."""
        missed = 0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            pid = self._pid()
            if pid is None:
                missed = 0
                continue
            missed = 0 if await self._answers() else missed + 1
            if missed >= MISSED_BEATS and self._pid() == pid:
                missed = 0
                logger.error("PostgreSQL, process %d, hangs: it is killed and started anew.", pid)
                await self._replication.kill_hung()
                self._on_killed()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._control.close()

    def _pid(self) -> int | None:
        """Return which process is to answer, None while none must."""
        if self._replication.changing or not self._replication.running:
            return None
        return self._replication.instance.pid

    async def _answers(self) -> bool:
        try:
            await self._control.ask("SELECT 1", seconds=ANSWER_SECONDS)
        except ConclaveError:
            await self._control.close()
            return False
        return True
