"""An HTTPS listener: uvicorn over sockets and a TLS context that others made.

Invariant: no peer holds a connection for nothing; a request's head has a deadline, an idle
connection too, also where the peer does not answer the end of TLS, and there is a limit to their
number, in all and of one source.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio import TimerHandle, Transport
from collections.abc import Iterator, Sequence
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from conclave.appliance.connections import BoundedListener, ConnectionBudget

HEAD_SECONDS: Final = 30.0
"""From the connection, or the last answer, to the end of the next request's head."""
KEEP_ALIVE_SECONDS: Final = 30
GOODBYE_SECONDS: Final = 2.0
"""How long a peer may take to answer the end of TLS."""
START_SECONDS: Final = 10.0
MAX_HEAD_BYTES: Final = 32 * 1024
_POLL_SECONDS: Final = 0.01


class _BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose request heads have a deadline."""

    _head_deadline: TimerHandle | None = None
    _goodbye: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        if self._goodbye is not None:
            self._goodbye.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def _await_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget_deadline()
        elif self._head_deadline is None and not self.transport.is_closing():
            self._head_deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_deadline = None
        if self.conn.their_state is h11.IDLE:
            self._end()

    def _end(self) -> None:
        """Close, and cut the connection soon after when the peer does not do its part."""
        if not self.transport.is_closing():
            self.transport.close()
            self._goodbye = self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class _Server(uvicorn.Server):
    """A server inside somebody else's process: signals are none of its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield


class HttpsDoor:
    """One listener, started and stopped any number of times."""

    def __init__(self, app: ASGIApp, *, max_connections: int) -> None:
        self._app = app
        self._max_connections = max_connections
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext) -> None:
        """Listen and serve until `stop`."""

        def context_factory(*_unused: Any) -> ssl.SSLContext:
            return tls

        self._server = _Server(
            uvicorn.Config(
                self._app,
                http=_BoundedProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                ssl_context_factory=context_factory,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        budget = ConnectionBudget(self._max_connections)
        listeners = [BoundedListener.take_over(each, budget) for each in sockets]
        self._serving = asyncio.create_task(self._server.serve(list(listeners)))
        async with asyncio.timeout(START_SECONDS):
            while not self._server.started:
                if self._serving.done():
                    await self._serving
                await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, *, deadline_seconds: float) -> None:
        """Finish what is in flight, at most until the deadline, and close the sockets.

        A stop that is broken off may be asked for again: it is over when the sockets are closed.
        """
        if self._server is None or self._serving is None:
            return
        server, serving = self._server, self._serving
        server.config.timeout_graceful_shutdown = max(1, int(deadline_seconds))
        server.should_exit = True
        done, _ = await asyncio.wait({serving}, timeout=deadline_seconds + 2)
        if not done:
            server.force_exit = True
            serving.cancel()
            await asyncio.wait({serving})
        if self._serving is serving:
            self._server = self._serving = None
