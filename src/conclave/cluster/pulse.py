"""Whether this member's PostgreSQL answers; one that hangs is killed, so that it starts anew.

Invariant: PostgreSQL is killed only after it left a question on a connection that nothing else
uses without answer for long enough, while no change of its role gave it work to do: a long order of
ours is no hang (rule C27).  Time in which it waited for a processor or for the disk, or in which
this process did, is no silence of its own: on a busy machine everybody is slow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conclave.cluster.replication import Replication
from conclave.errors import ConclaveError
from conclave.store.postgresql.control import Control
from conclave.store.postgresql.server import states_of

BEAT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.1
"""How often it is looked at while it does not answer."""
STOPPED_LOOKS: Final = 10
"""Longest silence, in looks, of a server of which every process is stopped."""
IDLE_LOOKS: Final = 20
"""Longest silence of a server of which no process could run: each waits for something else."""
LONGEST_LOOKS: Final = 150
"""Longest silence of one that works or would: starved that long, spinning, or its disk is gone."""
QUESTION_SECONDS: Final = 60.0
"""Until when an answer is waited for at all, however slow this process is."""
_STOPPED: Final = frozenset("Tt")
_AT_WORK: Final = frozenset("RD")
"""On a processor or in line for one, or waiting for the disk: no fault of the server."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Silence:
    """How many looks a question is without answer, by what the server did meanwhile."""

    stopped: int = 0
    idle: int = 0
    whole: int = 0

    def longer(self, states: Collection[str]) -> Silence:
        """Return the silence after one more look at the states of the server's processes.

        However late the look came, it counts once: who is late itself cannot blame the server.
        """
        longer = replace(self, whole=self.whole + 1)
        if not _AT_WORK.isdisjoint(states):
            return longer
        longer = replace(longer, idle=self.idle + 1)
        if not states or not _STOPPED.issuperset(states):
            return longer
        return replace(longer, stopped=self.stopped + 1)

    @property
    def too_long(self) -> bool:
        """Tell whether the server hangs."""
        return (
            self.stopped >= STOPPED_LOOKS or self.idle >= IDLE_LOOKS or self.whole >= LONGEST_LOOKS
        )


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
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            pid = self._pid()
            if pid is not None and await self._hangs(pid):
                logger.error("PostgreSQL, process %d, hangs: it is killed and started anew.", pid)
                await end_hung(self._replication.kill_hung, self._on_killed)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._control.close()

    def _pid(self) -> int | None:
        """Return which process is to answer, None while none must."""
        if self._replication.under_orders or not self._replication.running:
            return None
        return self._replication.instance.pid

    async def _hangs(self, pid: int) -> bool:
        """Ask until there is an answer, nobody wants one any more, or the silence is too long."""
        silence = Silence()
        asking = asyncio.create_task(self._answers())
        try:
            while self._pid() == pid:
                # A refusal is no answer: asked again at the next look.
                answered, _ = await asyncio.wait({asking}, timeout=LOOK_SECONDS)
                if answered and asking.result():
                    return False
                if answered:
                    await asyncio.sleep(LOOK_SECONDS)
                    asking = asyncio.create_task(self._answers())
                silence = silence.longer(states_of(pid))
                if silence.too_long and self._pid() == pid:
                    return True
            return False
        finally:
            asking.cancel()
            await asyncio.wait({asking})

    async def _answers(self) -> bool:
        try:
            await self._control.ask("SELECT 1", seconds=QUESTION_SECONDS)
        except ConclaveError:
            await self._control.close()
            return False
        return True


async def end_hung(kill: Callable[[], Awaitable[None]], on_killed: Callable[[], None]) -> None:
    """Kill a server that hangs, and tell of it even if that fails: it serves nobody either way."""
    try:
        await kill()
    except ConclaveError as error:
        logger.error("PostgreSQL that hangs is not ended yet: %s", error.message)
    finally:
        on_killed()
