"""One mutually authenticated connection to a crypto worker, in an event loop.

Requests are pipelined: answers come in any order and find their request by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from conclave.client.clusters import ClusterEntry
from conclave.client.dialogue import Answer, Dialogue
from conclave.errors import ConclaveError
from conclave.service import wire


class StreamConnection:
    """A connection after TLS, greeting and HELLO; any task may call, in one event loop."""

    capacity = 32
    """How many requests may be under way at once, before another connection helps."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialogue: Dialogue
    ) -> None:
        self.dialogue = dialogue
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._ended: ConclaveError | OSError | EOFError | None = None
        self._receiver: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        entry: ClusterEntry,
        context: ssl.SSLContext,
        process_id: bytes,
        deadline: float,
    ) -> StreamConnection:
        """Connect, check the server's name, read the greeting and say HELLO.

        `deadline` is an instant of time.monotonic. Raises Interrupted.
        """
        dialogue = Dialogue(entry)
        try:
            async with asyncio.timeout(dialogue.seconds_left(deadline)):
                reader, writer = await _connect(entry, context)
        except ssl.SSLError as cause:
            dialogue.unreachable(cause, tls=True)
        except (OSError, EOFError, ValueError) as cause:
            dialogue.unreachable(cause, tls=False)
        connection = cls(reader, writer, dialogue)
        try:
            await connection._greet(process_id, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def usable(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._ended is None

    def close(self) -> None:
        """Close without waiting for the peer; calls under way end as interrupted."""
        self._end(ConnectionAbortedError("it was closed here"))
        if self._receiver is not None:
            self._receiver.cancel()
        self._writer.transport.abort()

    async def call(
        self,
        operation: wire.Operation,
        args: msgspec.Raw,
        ticket: bytes | None,
        deadline: float,
        *,
        min_position: int | None = None,
    ) -> Answer:
        """Send one request and return its answer; raise Interrupted when none came in time."""
        frame = self.dialogue.request(operation, args, ticket, min_position)
        request_id = self.dialogue.last_id
        self._raise_if_ended()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            async with asyncio.timeout(self.dialogue.seconds_left(deadline)):
                self._writer.write(frame)
                await self._writer.drain()
                await asyncio.wait([future])
        except OSError as cause:
            self.dialogue.lost(cause)
        finally:
            self._waiting.pop(request_id, None)
        if future.cancelled():
            self._raise_if_ended()
        return future.result()

    async def _greet(self, process_id: bytes, deadline: float) -> None:
        certificate = self._writer.get_extra_info("peercert") or {}
        self.dialogue.check_name(cast(Mapping[str, Any], certificate))
        try:
            async with asyncio.timeout(self.dialogue.seconds_left(deadline)):
                self.dialogue.take_greeting(await self._read_frame())
        except (OSError, EOFError) as cause:
            self.dialogue.lost(cause)
        self._receiver = asyncio.create_task(self._receive())
        hello = self.dialogue.hello(process_id)
        self.dialogue.take_hello(await self.call(wire.Operation.HELLO, hello, None, deadline))

    async def _read_frame(self) -> bytes:
        header = await self._reader.readexactly(wire.FRAME_HEADER_BYTES)
        return await self._reader.readexactly(self.dialogue.length(header))

    async def _receive(self) -> None:
        """Hand answers to their requests until the connection ends."""
        try:
            while True:
                answer = self.dialogue.take_answer(await self._read_frame())
                future = self._waiting.pop(answer.request_id, None)
                if future is not None:
                    future.set_result(answer)
                elif not 0 < answer.request_id <= self.dialogue.last_id:
                    # One that nobody waits for any more was given up; this one never was asked.
                    self.dialogue.broken("it answered another request")
        except (ConclaveError, OSError, EOFError) as cause:
            self._end(cause)
            self._writer.transport.abort()

    def _end(self, cause: ConclaveError | OSError | EOFError) -> None:
        self._ended = self._ended or cause
        for future in self._waiting.values():
            future.cancel()

    def _raise_if_ended(self) -> None:
        if isinstance(self._ended, ConclaveError):
            raise self._ended
        if self._ended is not None:
            self.dialogue.lost(self._ended)


async def _connect(
    entry: ClusterEntry, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect over the Unix socket of a member on this host, or over TCP where that cannot be."""
    name = entry.common_name
    if entry.socket:
        with contextlib.suppress(FileNotFoundError, ConnectionError, PermissionError):
            return await asyncio.open_unix_connection(
                entry.socket, ssl=context, server_hostname=name
            )
    reader, writer = await asyncio.open_connection(
        entry.host, entry.port, ssl=context, server_hostname=name
    )
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return reader, writer
