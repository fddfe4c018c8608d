"""A local Unix socket behind which another member's PostgreSQL is found.

Invariant: whoever connects after `cut` reaches what `connect` finds then, never the former member.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from conclave.cluster.link.streams import READ_BYTES, StreamPair, pipe
from conclave.errors import ConclaveError

SOCKET_NAME: Final = ".s.PGSQL.5432"
MAX_CONNECTIONS: Final = 32
CONNECT_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


class Tunnel:
    """Pipe every connection of `<directory>/.s.PGSQL.5432` to a new one that `connect` makes.

    The directory is the caller's; `uid` and `gid` own the socket when they are given.
    """

    def __init__(
        self,
        directory: Path | str,
        connect: Callable[[], Awaitable[StreamPair]],
        *,
        mode: int = 0o600,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        self.path = Path(directory) / SOCKET_NAME
        self._connect = connect
        self._mode = mode
        self._owner = (-1 if uid is None else uid, -1 if gid is None else gid)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, replacing a socket that a killed predecessor left; raise OSError at failure."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._accepted, str(self.path), limit=READ_BYTES, start_serving=False
        )
        os.chown(self.path, *self._owner)
        self.path.chmod(self._mode)
        await self._server.start_serving()

    def cut(self) -> None:
        """End all connections now, those being made included."""
        for task in tuple(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """Accept no more and end all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._tasks)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also when it was cancelled before it began.
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far = await self._connect()
        except (OSError, TimeoutError, ConclaveError) as error:
            _log.info("tunnel: the primary's PostgreSQL cannot be reached: %s", error)
            return
        await pipe((reader, writer), far)
