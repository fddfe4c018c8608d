"""The listener for other members.

Invariant: a connection gets no further than its first frame until `judge` has accepted the key
that it proved, and a peer without a certificate gets no further than the join.  Whoever is cut is
cut on all connections at once; calls of theirs that are under way end by themselves, since they
may have written, and their answers go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, assert_never

import msgspec

from conclave import faults
from conclave.cluster.link.codec import (
    MAX_FRAME_BYTES,
    MAX_IN_FLIGHT,
    MAX_UNSENT_BYTES,
    NIL,
    Answer,
    Call,
    call_decoder,
    encoder,
    parameter_decoder,
)
from conclave.cluster.link.hello import (
    Channel,
    Hello,
    Judge,
    Peer,
    Verdict,
    anonymous_hello,
    answer_hello,
    peer_key_sha256,
    receive_hello,
)
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import LINK_METHODS
from conclave.cluster.link.streams import (
    READ_BYTES,
    StreamPair,
    finish,
    pipe,
    read_frame,
    watch_for_loss,
)
from conclave.errors import BadInput, ConclaveError, InternalFault, NotAllowed
from conclave.ids import MemberId
from conclave.port_holders import name_holder
from conclave.service.channel_errors import WireError, error_to_wire
from conclave.service.frames import FrameTooLong, frame
from conclave.service.quiet import Quiet
from conclave.source_networks import network_of

ACCEPT_PAUSE_SECONDS: Final = 0.1
LOCAL_CONNECT_SECONDS: Final = 5.0

Handler = Callable[[Any, Peer], Awaitable[Quiet]]
"""Takes the parameter that `LINK_METHODS` declares and whose call it is."""
JoinHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Peer], Awaitable[None]]
"""Runs the exchange of a join; the connection ends when it returns."""
OpenPostgresql = Callable[[], Awaitable[StreamPair]]

_NONSENSE = (OSError, EOFError, TimeoutError, FrameTooLong, msgspec.DecodeError, UnicodeDecodeError)
"""What a peer can cause by what it sends, or by not sending it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds against peers that nobody has judged yet, and against those that were accepted."""

    connections: int = 128
    connections_per_source: int = 32
    joins: int = 4
    handshake_seconds: float = 5.0
    """For TLS, and again for the hello."""
    join_seconds: float = 120.0


@dataclass(eq=False, slots=True)
class _Connection:
    """One caller that was accepted; `task` runs all that happens on it."""

    peer: Peer
    channel: Channel
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    task: asyncio.Task[Any]

    def cut(self) -> None:
        self.writer.transport.abort()
        self.task.cancel()


class LinkServer:
    """Serve the channels `calls`, `postgresql` and `join` to whom `judge` accepts.

    `my_hello` makes this member's hello for a channel; that of `join` goes to strangers.
    `open_local_postgresql` connects to the
    socket of the local PostgreSQL.  Without a `join_handler` no join is possible.
    """

    def __init__(
        self,
        identity: LinkIdentity,
        judge: Judge,
        my_hello: Callable[[Channel], Hello],
        handlers: Mapping[str, Handler],
        open_local_postgresql: OpenPostgresql,
        *,
        join_handler: JoinHandler | None = None,
        limits: LinkLimits | None = None,
    ) -> None:
        unknown = handlers.keys() - LINK_METHODS.keys()
        if unknown:
            raise ValueError(f"No row in the method table for {sorted(unknown)}.")
        self.identity = identity
        self._judge = judge
        self._my_hello = my_hello
        self._open_postgresql = open_local_postgresql
        self._join_handler = join_handler
        self._limits = limits or LinkLimits()
        self._calls = _CallRunner(handlers)
        self.port = 0
        """Where it listens, once it was started."""
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sources: Counter[str] = Counter()
        self._connections: set[_Connection] = set()

    # -------------------------------------------------------------- life

    async def start(self, address: str, port: int) -> int:
        """Listen; return the port, which the system chooses for 0.

        Raises BadInput for an address that is none or not of this machine, InternalFault without
        a certificate.
        """
        self.identity.server_context()
        try:
            version = ipaddress.ip_address(address).version
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=128)
        except (ValueError, OSError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            holder = name_holder(address, port) if taken else ""
            message = (
                f"The core address {address}, port {port}, cannot be listened on: {error}{holder}."
            )
            raise BadInput(faults.CLUSTER_CONFIG, message) from error
        listener.setblocking(False)
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))
        self.port = int(listener.getsockname()[1])
        return self.port

    async def close(self, *, grace_seconds: float = 2.0) -> None:
        """Accept no more, let calls under way end within the grace, then cut every caller off."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._calls.settle(grace_seconds)
        for connection in tuple(self._connections):
            connection.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, member_id: str) -> None:
        """End all connections of a member now."""
        for connection in tuple(self._connections):
            if connection.peer.member_id == member_id:
                connection.cut()

    def cut_postgresql(self, member_id: str | None = None) -> None:
        """End the PostgreSQL connections of a member now, or those of all."""
        for connection in tuple(self._connections):
            if connection.channel == "postgresql" and member_id in {
                None,
                connection.peer.member_id,
            }:
                connection.cut()

    def connected(self, channel: Channel) -> list[MemberId]:
        """Return whose connections of a channel are open, one entry for each."""
        return sorted(c.peer.member_id for c in self._connections if c.channel == channel)

    # -------------------------------------------------------------- a connection

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, name = await loop.sock_accept(listener)
            except OSError as error:
                # Too many open files, mostly: connections that end make room again.
                _log.warning("link: no connection could be accepted: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            source = network_of(str(name[0]))
            if (
                len(self._tasks) >= self._limits.connections
                or self._sources[source] >= self._limits.connections_per_source
            ):
                _log.warning("link: too many connections, one of %s was closed", source)
                sock.close()
                continue
            self._sources[source] += 1
            task = loop.create_task(self._serve(sock, source))
            self._tasks.add(task)
            task.add_done_callback(partial(self._forget, sock, source))

    def _forget(self, sock: socket.socket, source: str, task: asyncio.Task[None]) -> None:
        sock.close()  # here, since a task that is cancelled early never begins
        self._tasks.discard(task)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("link: a connection of %s failed inside", source, exc_info=error)

    async def _serve(self, sock: socket.socket, source: str) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._secure(sock)
            async with asyncio.timeout(self._limits.handshake_seconds):
                hello = await receive_hello(reader)
            await self._introduced(hello, reader, writer, source)
        except _NONSENSE as error:
            _log.info("link: a connection of %s ended: %r", source, error)
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _secure(self, sock: socket.socket) -> StreamPair:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            sock,
            ssl=self.identity.server_context(),
            ssl_handshake_timeout=self._limits.handshake_seconds,
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        watch_for_loss(writer)
        return reader, writer

    async def _introduced(
        self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> None:
        peer = Peer(MemberId(hello.member_id), peer_key_sha256(writer), source)
        verdict = self._verdict(hello, peer)
        if not verdict.accepted:
            _log.warning("link: %s was refused: %r", source, verdict.message)
            stranger = peer.key_sha256 is None
            mine = anonymous_hello(hello.channel) if stranger else self._my_hello(hello.channel)
            answer_hello(writer, mine, verdict)
            await finish([writer])
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        # Listed before anything is waited for, so that a cut that comes next finds it.
        connection = _Connection(peer, hello.channel, reader, writer, task)
        self._connections.add(connection)
        try:
            await self._run(connection)
        finally:
            self._connections.discard(connection)

    def _verdict(self, hello: Hello, peer: Peer) -> Verdict:
        if peer.key_sha256 is None and hello.channel != "join":
            message = "Only a member with a certificate of the cluster may do this."
            return Verdict.refuse(faults.NOT_AUTHENTICATED, message, reason="stranger")
        verdict = self._judge(hello, peer.key_sha256, peer.address)
        if verdict.accepted and hello.channel == "join":
            joins = sum(c.channel == "join" for c in self._connections)
            if self._join_handler is None or joins >= self._limits.joins:
                message = "Another join is in progress, or none is possible here now."
                return Verdict.refuse(faults.JOIN_IN_PROGRESS, message, reason="join")
        return verdict if peer.key_sha256 is not None else verdict.for_stranger()

    async def _run(self, connection: _Connection) -> None:
        reader, writer, channel = connection.reader, connection.writer, connection.channel
        hello = self._my_hello(channel)
        match channel:
            case "calls":
                answer_hello(writer, hello, Verdict.accept())
                await self._calls.serve(reader, writer, connection.peer)
            case "postgresql":
                await self._run_postgresql(reader, writer, hello)
            case "join":
                answer_hello(writer, hello, Verdict.accept())
                assert self._join_handler is not None  # noqa: S101 - see _verdict
                async with asyncio.timeout(self._limits.join_seconds):
                    await self._join_handler(reader, writer, connection.peer)
                await finish([writer])
            case _:
                assert_never(channel)

    async def _run_postgresql(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello
    ) -> None:
        try:
            async with asyncio.timeout(LOCAL_CONNECT_SECONDS):
                local = await self._open_postgresql()
        except (OSError, TimeoutError, ConclaveError) as error:
            _log.warning("link: the local PostgreSQL cannot be reached: %s", error)
            message = "PostgreSQL cannot be reached on this member now."
            answer_hello(
                writer, hello, Verdict.refuse(faults.BUSY, message, reason="no-postgresql")
            )
            await finish([writer])
            return
        answer_hello(writer, hello, Verdict.accept())
        await pipe((reader, writer), local)


# ------------------------------------------------------------------ calls


class _CallRunner:
    """Run calls of all connections; each is held until it ends, whatever becomes of its caller."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._tasks: set[asyncio.Task[None]] = set()

    async def settle(self, grace_seconds: float) -> None:
        """Let calls under way end within the grace, then cancel the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        """Serve one connection until it ends; read no further while too many calls are under way.

        Raises what a peer that sends nonsense causes.
        """
        room = asyncio.Semaphore(MAX_IN_FLIGHT)
        while True:
            await room.acquire()
            call = call_decoder.decode(await read_frame(reader, MAX_FRAME_BYTES))
            task = asyncio.get_running_loop().create_task(self._answer(call, writer, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _task: room.release())

    async def _answer(self, call: Call, writer: asyncio.StreamWriter, peer: Peer) -> None:
        body = encoder.encode(Answer(call.call_id, *await self.run(call.method, call.params, peer)))
        if len(body) > MAX_FRAME_BYTES:
            message = f"The answer to {call.method} has {len(body)} bytes, more than are allowed."
            error = error_to_wire(InternalFault(faults.INTERNAL, message))
            body = encoder.encode(Answer(call.call_id, error, NIL))
        transport = writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            _log.warning("link: %s does not read its answers and was cut off", peer.address)
            transport.abort()
            return
        writer.write(frame(body))
        with contextlib.suppress(OSError):
            await writer.drain()

    async def run(
        self, method: str, params: msgspec.Raw, peer: Peer
    ) -> tuple[WireError | None, msgspec.Raw]:
        """Run one method; return its error or its result as the wire carries them."""
        try:
            return None, msgspec.Raw(encoder.encode(await self._run(method, params, peer)))
        except ConclaveError as error:
            return error_to_wire(error), NIL
        except Exception:  # noqa: BLE001
            # The boundary of the process: the cause goes to the log, the caller learns that.
            _log.exception("link: method %s failed", method)
            message = f"Method {method} failed inside; the log of its member has the cause."
            return error_to_wire(InternalFault(faults.INTERNAL, message)), NIL

    async def _run(self, method: str, params: msgspec.Raw, peer: Peer) -> Quiet:
        handler = self._handlers.get(method)
        if handler is None:
            raise NotAllowed(faults.NO_ACL_RULE, f"Members have no method {method[:64]!r} here.")
        try:
            parameter = parameter_decoder(method).decode(params)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"Method {method} was called with a parameter of another shape: {error}."
            raise InternalFault(faults.INTERNAL, message) from error
        return await handler(parameter, peer)
