"""A worker that echoes: the other end of the module's network side, in the hands of a test.

It speaks greeting, HELLO and framing as docs/protocol.md has them, over mutual TLS 1.3, with one
thread per connection.  Whatever is asked is answered with its own arguments, save the operations
below, which misbehave on purpose.  Several of them play the members of one cluster
(`tests/native/members.py`): then each tells its state and lists the members.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import itertools
import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from conclave.errors import Ckr
from tests.support.ports import free_port

RECEIVE_BYTES = 1 << 18
TRICKLE_BYTES = 10_000


class Misbehave(enum.IntEnum):
    """Operations that only this server knows."""

    DELAY = 60000  # [milliseconds]: answers later, out of order
    DROP = 60001  # [key, times]: hangs up so many times, then answers
    VALUE = 60002  # [CK_RV]: answers with it
    BUSY = 60003  # [key, times]: is busy so many times, then answers
    RAW = 60004  # [bytes]: sends them instead of an answer
    TICKET = 60005  # [bytes]: answers with a renewed ticket
    SILENT = 60006  # []: never answers
    EXTRA = 60007  # []: answers twice, with elements and ids nobody knows
    TRICKLE = 60008  # []: begins an answer and goes on with a byte now and then


@dataclass
class Worker:
    """What one greeting says."""

    index: int
    count: int
    cluster_time_ms: int = 1_700_000_000_000


HELLO = 0
MEMBERS = 5
BEHIND = 0xC0000002
WRITES = frozenset({12, 13, 14, 25})
"""Operations that change something whatever their arguments are."""


@dataclass
class Told:
    """What a member says of itself in the fifth element of an answer."""

    epoch: int = 1
    promoter: str = "member-0"
    position: int = 100
    members_version: int = 1
    read_write: bool = True

    def element(self) -> list[Any]:
        """Give the element."""
        return [
            self.epoch,
            self.promoter,
            self.position,
            self.members_version,
            self.read_write,
        ]


@dataclass
class EchoServer:
    """Listens on loopback until `stop`."""

    context: ssl.SSLContext
    workers: int = 2
    port: int = 0
    greeting: bytes | None = None
    """Sent instead of a greeting frame."""
    hello_value: int = 0
    shuffle: bool = False
    deaf: bool = False
    """Accepts and says nothing, like a stopped process."""
    hangs_up: bool = False
    """Closes after the greeting."""
    always_worker: int | None = None
    member_id: str = "a member"
    told: Told | None = None
    """What it tells as a member of a cluster; None: nothing."""
    listing: Callable[[], list[Any]] | None = None
    """What it answers to MEMBERS."""
    refuses: int = 0
    """Answers everything but HELLO and MEMBERS with it."""
    served_by: collections.Counter[int] = field(default_factory=collections.Counter)
    """Requests that each worker was asked, HELLO left out."""
    served: collections.Counter[int] = field(default_factory=collections.Counter)
    """Operations answered with their own arguments."""
    refused: collections.Counter[int] = field(default_factory=collections.Counter)
    """Operations that were answered with a refusal."""
    least_positions: list[int] = field(default_factory=list)
    hellos: list[list[Any]] = field(default_factory=list)
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    process_ids: list[bytes] = field(default_factory=list)
    greeted: list[int] = field(default_factory=list)
    client_serials: list[int] = field(default_factory=list)
    accepted: int = 0
    """How many connections there have been, greeted or not."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._counts: dict[bytes, int] = {}
        self._turn = itertools.count()
        self.port = self.port or free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._running = True
        self._awake = threading.Event()
        self._awake.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody at once and stop listening."""
        self._running = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._awake.set()

    def hang_up(self) -> None:
        """Reset every connection, as the death of a worker does."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def hang(self) -> None:
        """Go on accepting and say nothing more, as a stopped process does."""
        self._awake.clear()

    def resume(self) -> None:
        """Answer again, what came meanwhile too."""
        self._awake.set()

    def wait_awake(self) -> None:
        """Return once the server does not hang."""
        self._awake.wait()

    @property
    def connections(self) -> int:
        """Return how many connections are open."""
        with self._lock:
            return len(self._connections)

    def _accept(self) -> None:
        while self._running:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        try:
            if self.deaf:
                connection.recv(1 << 20)
                while self._running and connection.recv(1 << 20):
                    pass
                return
            self.wait_awake()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.context.wrap_socket(connection, server_side=True) as secure:
                with self._lock:
                    self._connections.discard(connection)
                    self._connections.add(secure)
                connection = secure
                certificate = secure.getpeercert() or {}
                self.client_serials.append(int(str(certificate["serialNumber"]), 16))
                Session(self, secure).run()
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def next_worker(self) -> Worker:
        """Take turns, unless told to be one worker."""
        turn = next(self._turn) % self.workers if self.always_worker is None else self.always_worker
        with self._lock:
            self.greeted.append(turn)
        return Worker(turn, self.workers)

    def count_served(self, worker: int) -> None:
        """Count a request that a worker was asked."""
        with self._lock:
            self.served_by[worker] += 1

    def count(self, key: bytes) -> int:
        """Return how often `key` was counted before."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key] - 1


def frame(body: bytes) -> bytes:
    """Put a length in front."""
    return struct.pack(">I", len(body)) + body


class HangUp(Exception):
    """The session ends here."""


class Session:
    """One connection."""

    def __init__(self, server: EchoServer, connection: ssl.SSLSocket) -> None:
        self._server = server
        self._connection = connection
        self._received = bytearray()
        self._told: list[Any] | None = None
        self._worker = 0
        self._late: collections.deque[bytes] = collections.deque()
        self._waker, self._alarm = socket.socketpair()

    def run(self) -> None:
        """Greet, then answer until the other side leaves."""
        with self._waker, self._alarm, contextlib.suppress(HangUp):
            self._greet()
            while True:
                self._turn()

    def _greet(self) -> None:
        server = self._server
        worker = server.next_worker()
        self._worker = worker.index
        if server.greeting is not None:
            self._send(server.greeting)
        else:
            self._send(frame(msgspec.msgpack.encode(self._greeting(worker))))
        if server.hangs_up:
            raise HangUp

    def _turn(self) -> None:
        """Answer what has come, and what was put off until now."""
        ready, _, _ = select.select([self._connection, self._alarm], [], [])
        self._server.wait_awake()
        answers = []
        if self._alarm in ready:
            self._alarm.recv(1)
            answers.append(self._late.popleft())
        if self._connection in ready:
            answers += self._receive()
        if self._server.shuffle:
            random.shuffle(answers)
        if answers:
            self._server.wait_awake()
            self._send(b"".join(answers))

    def _receive(self) -> list[bytes]:
        data = self._connection.recv(RECEIVE_BYTES)
        if not data:
            raise HangUp
        self._received += data
        while self._connection.pending():
            self._received += self._connection.recv(RECEIVE_BYTES)
        return [answer for body in self._frames() for answer in self._answer(body)]

    def _greeting(self, worker: Worker) -> list[Any]:
        return [
            0,
            "conclave",
            1,
            worker.index,
            worker.count,
            "a cluster",
            self._server.member_id,
            worker.cluster_time_ms,
            True,
        ]

    def _send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def _frames(self) -> list[bytes]:
        bodies = []
        while len(self._received) >= 4:
            (length,) = struct.unpack_from(">I", self._received)
            if len(self._received) < 4 + length:
                break
            bodies.append(bytes(self._received[4 : 4 + length]))
            del self._received[: 4 + length]
        return bodies

    def _answer(self, body: bytes) -> list[bytes]:
        request = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        number, operation = (msgspec.msgpack.decode(part, type=int) for part in request[:2])
        args = request[3]
        if operation == HELLO:
            hello = msgspec.msgpack.decode(args)
            self._server.process_ids.append(hello[0])
            self._server.hellos.append(hello)
            return [self._told_with([number, self._server.hello_value])]
        if operation == MEMBERS and self._server.listing is not None:
            return [self._told_with([number, 0, self._server.listing()])]
        if operation >= Misbehave.DELAY:
            self._server.requests.append((operation, bytes(args)))
            return self._misbehave(number, Misbehave(operation), msgspec.msgpack.decode(args))
        least = msgspec.msgpack.decode(request[4], type=int) if len(request) > 4 else 0
        return [self._echo(number, operation, args, least)]

    def _echo(self, number: int, operation: int, args: msgspec.Raw, least: int) -> bytes:
        server = self._server
        server.count_served(self._worker)
        if least:
            server.least_positions.append(least)
        value = server.refuses
        if server.told is not None and server.told.position < least:
            value = BEHIND
        elif server.told is not None and operation in WRITES and not server.told.read_write:
            value = int(Ckr.TOKEN_WRITE_PROTECTED)
        if value:
            server.refused[operation] += 1
            return self._told_with([number, value])
        server.served[operation] += 1
        return self._told_with([number, 0, args])

    def _told_with(self, answer: list[Any]) -> bytes:
        """Add what has changed since this connection was told last."""
        told = None if self._server.told is None else self._server.told.element()
        if told is not None and told != self._told:
            self._told = told
            answer = [*answer, *[None] * (4 - len(answer)), told]
        return frame(msgspec.msgpack.encode(answer))

    def _misbehave(self, number: int, how: Misbehave, args: list[Any]) -> list[bytes]:
        good = frame(msgspec.msgpack.encode([number, 0, args]))
        match how:
            case Misbehave.DELAY:
                threading.Timer(args[0] / 1000, self._send_late, (good,)).start()
                return []
            case Misbehave.DROP if self._server.count(args[0]) < args[1]:
                raise HangUp
            case Misbehave.BUSY if self._server.count(args[0]) < args[1]:
                return [frame(msgspec.msgpack.encode([number, 0xC0000001]))]
            case Misbehave.VALUE:
                return [frame(msgspec.msgpack.encode([number, args[0], "a result", None]))]
            case Misbehave.RAW:
                return [args[0]]
            case Misbehave.TICKET:
                return [frame(msgspec.msgpack.encode([number, 0, None, args[0]]))]
            case Misbehave.SILENT:
                return []
            case Misbehave.TRICKLE:
                threading.Thread(target=self._trickle, daemon=True).start()
                return [struct.pack(">I", TRICKLE_BYTES)]
            case Misbehave.EXTRA:
                stranger = frame(msgspec.msgpack.encode([number + 1000, 0, "not yours"]))
                extra = frame(msgspec.msgpack.encode([number, 0, args, None, {"a": [1.5]}, -7]))
                return [stranger, extra, good]
        return [good]

    def _trickle(self) -> None:
        pause = threading.Event()
        for _ in range(TRICKLE_BYTES // 10):
            pause.wait(0.05)
            self._send_late(b"\0")

    def _send_late(self, data: bytes) -> None:
        self._late.append(data)
        with contextlib.suppress(OSError):
            self._waker.send(b"!")


def server_context(directory: Path) -> ssl.SSLContext:
    """TLS 1.3 with a client certificate of `directory`'s authority, without tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    context.load_verify_locations(directory / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    return context
