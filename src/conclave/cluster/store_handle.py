"""The cluster store as this process uses it, whichever engine serves and whatever is its role.

Invariant: writes pass a gate.  While it is closed none begins, and whoever closes it learns when
the last one under way has ended; so a primary that stops has answered all it committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Engine

from conclave import faults
from conclave.cluster.store_threads import Acknowledge, Publish, ReaderThread, WriterThread
from conclave.errors import Unavailable
from conclave.store.repository import ClusterReader, ClusterWriter

GATE_SECONDS: Final = 10.0
"""How long a write waits at a closed gate before it is told to come again."""

T = TypeVar("T")


class StoreHandle:
    """One open store, or none; replaced as a whole when engine or role change."""

    def __init__(self, publish: Publish) -> None:
        self.publish = publish
        """Called in the writer's thread after each commit."""
        self.acknowledge: Acknowledge | None = None
        """Awaited before a commit is answered; both hold from the next `use` on."""
        self._writer: WriterThread | None = None
        self._reader: ReaderThread | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def writable(self) -> bool:
        """Tell whether there is a writer."""
        return self._writer is not None

    @property
    def readable(self) -> bool:
        """Tell whether there is a store to read."""
        return self._reader is not None

    @property
    def busy(self) -> bool:
        """Tell whether writes are under way."""
        return self._under_way > 0

    def use(self, open_reader: Callable[[], ClusterReader], writer: Engine | None) -> None:
        """Serve from this store; `writer` is None for a copy that only follows."""
        self.close()
        if writer is not None:
            self._writer = WriterThread(writer, self.publish, self.acknowledge)
        self._reader = ReaderThread(open_reader)

    def close(self) -> None:
        """Let go of the store; what waits in its threads is carried out first."""
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if writer is not None:
            writer.close()
        if reader is not None:
            reader.close()

    async def write(
        self,
        work: Callable[[ClusterWriter], T],
        *,
        internal: bool = False,
        objects_only: bool = False,
    ) -> T:
        """Run `work` in a transaction; see `WriterThread.write`.  Internal changes pass the gate.

        Raises Unavailable (BUSY) when the gate stays closed or this member has no writer.
        """
        if not internal:
            await self._pass_gate()
        self._under_way += 1
        self._idle.clear()
        try:
            if self._writer is None:
                message = "This member takes no writes at present; try again."
                raise Unavailable(faults.BUSY, message)
            return await self._writer.write(work, internal=internal, objects_only=objects_only)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def read(self, work: Callable[[ClusterReader], T]) -> T:
        """Ask the store; see `ReaderThread.read`; raise Unavailable (BUSY) while there is none."""
        if self._reader is None:
            message = "The cluster store is not open at present; try again."
            raise Unavailable(faults.BUSY, message)
        return await self._reader.read(work)

    async def pause(self, seconds: float) -> None:
        """Close the gate and wait for the writes under way; Unavailable when they do not end."""
        self._open.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self._open.set()
            message = f"Writes under way did not end within {seconds:.0f} s; try again."
            raise Unavailable(faults.BUSY, message) from None

    def shut(self) -> None:
        """Close the gate without waiting."""
        self._open.clear()

    def resume(self) -> None:
        """Open the gate."""
        self._open.set()

    async def _pass_gate(self) -> None:
        if self._open.is_set():
            return  # nearly always, and a deadline costs more than all else here
        try:
            async with asyncio.timeout(GATE_SECONDS):
                # It may have been closed again before this one went on.
                while not self._open.is_set():
                    await self._open.wait()
        except TimeoutError:
            message = "The cluster is changing its primary; try again."
            raise Unavailable(faults.BUSY, message) from None
