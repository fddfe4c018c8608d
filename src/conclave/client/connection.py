"""One mutually authenticated connection to a crypto worker, over a socket that blocks.

Its coroutines never suspend: see `conclave.client.ways.finish`.

Invariant: after Interrupted nothing is known of the request in flight and the connection is
closed, so an answer can never be taken for another request's.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from conclave.client.clusters import ClusterEntry
from conclave.client.dialogue import Answer, Dialogue, MonotonicSeconds
from conclave.service import wire


class Connection:
    """A connection after TLS, greeting and HELLO; one request at a time, not thread-safe."""

    capacity = 1
    """How many requests may be under way at once."""

    def __init__(self, stream: ssl.SSLSocket, dialogue: Dialogue) -> None:
        self._stream = stream
        self.dialogue = dialogue
        self.usable = True

    @classmethod
    async def open(
        cls,
        entry: ClusterEntry,
        context: ssl.SSLContext,
        process_id: bytes,
        deadline: float,
        *,
        monotonic: MonotonicSeconds = time.monotonic,
    ) -> Connection:
        """Connect, check the server's name, read the greeting and say HELLO.

        `deadline` is an instant of `monotonic`. Raises Interrupted.
        """
        dialogue = Dialogue(entry, monotonic)
        stream = _connect(dialogue, context, deadline - monotonic())
        connection = cls(stream, dialogue)
        try:
            dialogue.check_name(cast(Mapping[str, Any], stream.getpeercert() or {}))
            dialogue.take_greeting(connection._read_frame(deadline))
            hello = dialogue.hello(process_id)
            dialogue.take_hello(await connection.call(wire.Operation.HELLO, hello, None, deadline))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close without waiting for the peer."""
        self.usable = False
        self._stream.close()

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
        try:
            self._send(frame, deadline)
            answer = self.dialogue.take_answer(self._read_frame(deadline))
            if answer.request_id != self.dialogue.last_id:
                self.dialogue.broken("it answered another request")
        except BaseException:
            self.close()
            raise
        return answer

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._stream.settimeout(self.dialogue.seconds_left(deadline))
            self._stream.sendall(data)
        except OSError as cause:
            self.dialogue.lost(cause)

    def _read_frame(self, deadline: float) -> bytes:
        header = self._read(wire.FRAME_HEADER_BYTES, deadline)
        return self._read(self.dialogue.length(header), deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                self._stream.settimeout(self.dialogue.seconds_left(deadline))
                part = self._stream.recv(size - len(received))
            except OSError as cause:
                self.dialogue.lost(cause)
            if not part:
                self.dialogue.lost(ConnectionResetError("the peer closed it"))
            received += part
        return bytes(received)


def _connect(dialogue: Dialogue, context: ssl.SSLContext, timeout_seconds: float) -> ssl.SSLSocket:
    entry = dialogue.entry
    try:
        if timeout_seconds <= 0:
            raise TimeoutError("the deadline has passed")
        plain = _local(entry, timeout_seconds) or _remote(entry, timeout_seconds)
    except (OSError, ValueError) as cause:
        dialogue.unreachable(cause, tls=False)
    try:
        return context.wrap_socket(plain, server_hostname=entry.common_name)
    except OSError as cause:
        plain.close()
        dialogue.unreachable(cause, tls=True)


def _local(entry: ClusterEntry, timeout_seconds: float) -> socket.socket | None:
    """Connect over the Unix socket of a member on this host; None where that cannot be."""
    if not entry.socket:
        return None
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(timeout_seconds)
    try:
        plain.connect(entry.socket)
    except OSError:
        # It is away, as while the member starts: TCP tells whether the member is.
        plain.close()
        return None
    return plain


def _remote(entry: ClusterEntry, timeout_seconds: float) -> socket.socket:
    plain = socket.create_connection((entry.host, entry.port), timeout=timeout_seconds)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return plain
