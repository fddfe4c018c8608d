"""A crypto worker: `python -m conclave.service.worker`, one per core, started by the daemon.

It accepts clients on the inherited sockets, reads the cluster store, and writes nothing: every
change goes to the cluster process.  It gets derived keys only (rule C7).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import ssl
import sys
import time
from collections import OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import uvloop

from conclave.clock import ApplianceClock
from conclave.errors import ConclaveError
from conclave.service.bootstrap import (
    WorkerBootstrap,
    announce_service,
    configure_logging,
    give_memory_back,
    harden_process,
    read_bootstrap,
    watch_parent,
)
from conclave.service.cache import ViewCache
from conclave.service.channel import ChannelClient
from conclave.service.client_gate import member_context, server_context
from conclave.service.connection import Connection
from conclave.service.core import Core
from conclave.service.meters import Meters
from conclave.service.page import SharedPage
from conclave.service.spreader import Spreader
from conclave.service.store_reader import StoreReader
from conclave.service.wire import PROTOCOL_VERSION, Greeting

MAX_CONNECTIONS: Final = 4096
HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 2.0
BACKLOG: Final = 1024
TICK_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 60.0
"""One line in the log per source and so many seconds, however often it misbehaves."""
MAX_SOURCES: Final = 1024

_log = logging.getLogger("conclave.service.worker")


class Worker:
    """The parts of one worker, and what its connections share."""

    def __init__(self, bootstrap: WorkerBootstrap) -> None:
        self._bootstrap = bootstrap
        self.index = bootstrap.worker_index
        self.count = bootstrap.worker_count
        self.member_id = bootstrap.member_id
        self.cluster_id = ""
        page = SharedPage.attach(bootstrap.page_fd, writable=False)
        self.core = Core(
            page=page,
            reader=StoreReader(Path(bootstrap.database_path), page),
            channel=ChannelClient(bootstrap.cluster_socket_path, bootstrap.cluster_secret),
            views=ViewCache(
                max_bytes=bootstrap.cache_bytes, idle_ms=int(bootstrap.cache_idle_seconds * 1000)
            ),
            limits=bootstrap.limits,
            member_id=bootstrap.member_id,
            read_only_limit_seconds=bootstrap.read_only_limit_seconds,
        )
        self.clock = ApplianceClock(page.appliance_offset_ms)
        self.core.meters = Meters(bootstrap.meters_fd, writable=True)
        self.core.spreader = Spreader(
            self.core.members,
            self.core.watch,
            self.clock,
            lambda: member_context(bootstrap.certificate_pem, bootstrap.key_pem, bootstrap.ca_pem),
        )
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._hostile: OrderedDict[str, float] = OrderedDict()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`."""
        bootstrap = self._bootstrap
        context = server_context(bootstrap.certificate_pem, bootstrap.key_pem, bootstrap.ca_pem)
        await self._learn_cluster()
        self.core.tick()
        servers = [await self._listen(fd, context) for fd in bootstrap.listen_fds]
        ticking = asyncio.create_task(self._tick())
        _log.info(
            "Worker %d of %d serves; it keeps objects of keyrings in %d MiB, unused ones for %g s.",
            self.index + 1,
            self.count,
            self._bootstrap.cache_bytes >> 20,
            self._bootstrap.cache_idle_seconds,
        )
        announce_service()
        await self._stopping.wait()
        for server in servers:
            server.close()
        ticking.cancel()
        await self._wind_up()

    async def _listen(self, fd: int, context: ssl.SSLContext) -> asyncio.Server:
        listener = socket.socket(fileno=fd)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        local = listener.family == socket.AF_UNIX
        return await (loop.create_unix_server if local else loop.create_server)(
            lambda: Connection(self),
            sock=listener,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )

    def stop(self) -> None:
        """End `run` after what is under way."""
        self._stopping.set()

    async def _wind_up(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SHUTDOWN_SECONDS)
        for connection in tuple(self._connections):
            connection.close()
        await self.core.spreader.close()
        await self.core.close()

    async def _learn_cluster(self) -> None:
        try:
            self.cluster_id = await self.core.reader.cluster_id()
        except ConclaveError as error:
            _log.warning("The cluster's id is not known yet: %s", error)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self.cluster_id:
                await self._learn_cluster()
            self.core.tick()
            for connection in tuple(self._connections):
                connection.check_certificate()

    # ------------------------------------------------------------------ for connections

    def greeting(self) -> Greeting:
        """Return the first frame of a connection."""
        page = self.core.page
        return Greeting(
            request_id=0,
            magic="conclave",
            protocol_version=PROTOCOL_VERSION,
            worker_index=self.index,
            worker_count=self.count,
            cluster_id=self.cluster_id,
            member_id=self.member_id,
            cluster_time_ms=page.cluster_time_ms(),
            authorized=page.authorized(),
        )

    def admit(self, connection: Connection) -> bool:
        """Take note of a connection; False when there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.note_hostile(connection.source, "there are too many connections")
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Take note of a connection's end."""
        self._connections.discard(connection)

    def start_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside the others and hold it until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note_hostile(self, source: str, reason: str) -> None:
        """Log why a peer was dropped, once per source and minute."""
        now = time.monotonic()
        if now - self._hostile.get(source, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._hostile[source] = now
        self._hostile.move_to_end(source)
        if len(self._hostile) > MAX_SOURCES:
            self._hostile.popitem(last=False)
        _log.warning("A connection from %s was ended: %s.", source, reason)


async def serve(bootstrap: WorkerBootstrap) -> None:
    """Run a worker until SIGTERM."""
    worker = Worker(bootstrap)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    # What stands now lives as long as the process: no collection need look at it again.
    give_memory_back()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    await worker.run()


def main() -> None:
    """Start as a child of the daemon."""
    harden_process()
    bootstrap = read_bootstrap(sys.stdin.buffer, WorkerBootstrap)
    configure_logging(bootstrap.log_path, level=bootstrap.log_level)
    watch_parent(sys.stdin.buffer)
    uvloop.run(serve(bootstrap))


if __name__ == "__main__":
    main()
