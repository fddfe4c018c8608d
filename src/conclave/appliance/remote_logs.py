"""Lines of the system log sent to other hosts: RFC 5424 over UDP, TCP or TLS.

Framing is of RFC 5426, 6587 and 5425.

Invariant: nobody waits for a remote host.  Each has a queue with a bound and a task that sends;
what does not fit is counted, and the count is sent once the host takes lines again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final, Literal

import msgspec

from conclave.appliance.name_lookups import look_up
from conclave.appliance.remote_log_trust import RemoteLogTrust
from conclave.appliance.system_log import Entry, wire_message

MAX_QUEUED: Final = 1000
CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 10.0
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)

Protocol = Literal["udp", "tcp", "tls"]
DEFAULT_PORTS: Final[Mapping[Protocol, int]] = {"udp": 514, "tcp": 514, "tls": 6514}


class RemoteHost(msgspec.Struct, frozen=True):
    """Where lines are sent."""

    address: str
    port: int = 514
    protocol: Protocol = "udp"

    @property
    def host_id(self) -> str:
        """Return what names it in lists: `192.0.2.7:514`."""
        return f"{self.address}:{self.port}"


class RemoteLog:
    """Sends lines to one host."""

    def __init__(self, host: RemoteHost, trust: RemoteLogTrust) -> None:
        self.host: Final = host
        self.last_error = ""
        """Why the last attempt to connect or to send failed; "" since one succeeded."""
        self._trust = trust
        self._queue = deque[Entry]()
        self._lost = 0
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"syslog {host.host_id}")

    def put(self, entry: Entry) -> None:
        """Send a line as soon as the host takes it; callable from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, entry)

    async def stop(self) -> None:
        """End; what is not sent yet is lost."""
        self._task.cancel()
        await asyncio.wait({self._task})

    def _put(self, entry: Entry) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._lost += 1
            return
        self._queue.append(entry)
        self._wanted.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with _connected(self.host, self._trust) as connection:
                    self.last_error = ""
                    while True:
                        await self._wanted.wait()
                        await self._send_all(connection)
                        pause = FIRST_PAUSE_SECONDS
            except (OSError, TimeoutError, UnicodeError) as cause:
                # Not logged at a level that is sent: it would feed the queue that is stuck.
                self.last_error = str(cause) or "no answer in time"
                _log.debug("remote host %s: %s", self.host.host_id, cause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _send_all(self, connection: _Connection) -> None:
        while self._queue:
            entry = self._queue[0]
            await connection.send(wire_message(entry))
            self._queue.popleft()
            if self._lost and not self._queue:
                text = f"{self._lost} lines could not be sent to {self.host.host_id}"
                await connection.send(wire_message(replace(entry, message=text)))
                self._lost = 0
        self._wanted.clear()


class _Connection(asyncio.DatagramProtocol):
    """A way to one host; UDP reports what the host refuses at the next line."""

    def __init__(self) -> None:
        self.datagrams: asyncio.DatagramTransport | None = None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, message: bytes) -> None:
        """Send one message; raise OSError or TimeoutError."""
        if self.datagrams is not None:
            self.datagrams.sendto(message)
        elif self.writer is not None and self.reader is not None:
            if self.reader.at_eof():
                raise ConnectionResetError("the host closed the connection")
            self.writer.write(b"%d %s" % (len(message), message))
            async with asyncio.timeout(SEND_SECONDS):
                await self.writer.drain()


@contextlib.asynccontextmanager
async def _connected(host: RemoteHost, trust: RemoteLogTrust) -> AsyncIterator[_Connection]:
    connection = _Connection()
    name = host.address.strip("[]")
    kind = socket.SOCK_DGRAM if host.protocol == "udp" else socket.SOCK_STREAM
    async with asyncio.timeout(CONNECT_SECONDS):
        context = await asyncio.to_thread(trust.context) if host.protocol == "tls" else None
        *others, last = await look_up(name, host.port, kind)
        for address in others:
            with contextlib.suppress(OSError):
                await _open(connection, host, address, name, context)
                break
        else:
            await _open(connection, host, last, name, context)
    try:
        if connection.writer is not None and host.protocol == "tls":
            shown = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            trust.check_dates(shown)
        yield connection
    finally:
        if connection.datagrams is not None:
            connection.datagrams.close()
        if connection.writer is not None:
            # A host that reads nothing would hold a closed connection with its lines for ever.
            connection.writer.transport.abort()


async def _open(
    connection: _Connection,
    host: RemoteHost,
    address: str,
    name: str,
    context: ssl.SSLContext | None,
) -> None:
    if host.protocol == "udp":
        connection.datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: connection, remote_addr=(address, host.port)
        )
    else:
        connection.reader, connection.writer = await asyncio.open_connection(
            address, host.port, ssl=context, server_hostname=None if context is None else name
        )
