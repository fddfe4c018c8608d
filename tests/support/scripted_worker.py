"""A worker that greets, answers HELLO and MEMBERS, and plays a script for the other requests."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from conclave.client.clusters import ClusterEntry
from conclave.service import wire
from tests.support.authority import Authority, key_pem, pem

SERVER_NAME = "lnh.example"
CLUSTER_TIME_MS = 1_900_000_000_000
GREETING = (0, "conclave", wire.PROTOCOL_VERSION, 0, 1, "c", "m", CLUSTER_TIME_MS, True)
DROP = "drop"
HOLD = "hold"
SILENCE = "silence"
KEYRING = b"k" * 16

Step = str | bytes | tuple[object, ...]
"""DROP, SILENCE, HOLD (answered after the next), raw bytes, or (value, result, ticket)."""


@dataclass
class Worker:
    """Greets, answers HELLO, and then plays its script, one step for each request."""

    directory: Path
    script: list[Step] = field(default_factory=list)
    name: str = SERVER_NAME
    greeting: object = GREETING
    hello: int = 0
    state: object = None
    members: object = None
    before_members: list[Step] = field(default_factory=list)
    """DROP, or answers, to the first requests for the list of members."""
    authority: Authority = field(default_factory=Authority)
    begins: datetime.datetime = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    ends: datetime.datetime = datetime.datetime(2125, 1, 1, tzinfo=datetime.UTC)
    usage: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    requests: list[wire.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.asked = threading.Event()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = self._make_context()
        self._stream: ssl.SSLSocket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if stream := self._stream:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=5).close()
        self._thread.join()
        self._listener.close()

    def entry(self, common_name: str = SERVER_NAME) -> ClusterEntry:
        client_key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = self.authority.issue("client", client_key.public_key(), usage=usage)
        files = {"c.pem": pem(certificate), "k.pem": key_pem(client_key), "ca": self.authority.pem}
        for name, text in files.items():
            (self.directory / name).write_text(text)
        port = self.port
        certificate_file, key_file, ca_file = (self.directory / name for name in files)
        return ClusterEntry(0, "127.0.0.1", port, certificate_file, key_file, ca_file, common_name)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _make_context(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.authority.issue(
            self.name,
            key.public_key(),
            usage=self.usage,
            begins=self.begins,
            ends=self.ends,
        )
        both = self.directory / "server.pem"
        both.write_text(pem(certificate) + key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        context.load_verify_locations(cadata=self.authority.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _serve(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            if self._stopped.is_set():
                plain.close()
                return
            self.connections += 1
            plain.settimeout(20)
            with (
                contextlib.suppress(OSError, EOFError),
                self._context.wrap_socket(plain, server_side=True) as stream,
            ):
                self._stream = stream
                self._talk(stream)
            plain.close()

    def _talk(self, stream: ssl.SSLSocket) -> None:
        send(stream, self.greeting)
        held: list[wire.Request] = []
        while True:
            body = receive(stream)
            request = msgspec.msgpack.decode(body, type=wire.Request)
            if request.operation == wire.Operation.HELLO:
                send(stream, (request.request_id, self.hello, None, None, self.state))
                continue
            if request.operation == wire.Operation.MEMBERS:
                step = self.before_members.pop(0) if self.before_members else (0, self.members)
                if step == DROP:
                    return
                send(stream, (request.request_id, *step))
                continue
            self.requests.append(request)
            self.bodies.append(bytes(request.args))
            self.asked.set()
            step = self.script.pop(0) if self.script else (0, None)
            if step == DROP:
                return
            if step == SILENCE:
                self._stopped.wait(60)
                return
            if step == HOLD:
                held.append(request)
                continue
            if isinstance(step, bytes):
                stream.sendall(step)
                continue
            send(stream, (request.request_id, *step))
            while held:
                send(stream, (held.pop().request_id, 0, b"held", b"late"))


def send(stream: ssl.SSLSocket, message: object) -> None:
    body = msgspec.msgpack.encode(message)
    stream.sendall(len(body).to_bytes(4, "big") + body)


def receive(stream: ssl.SSLSocket) -> bytes:
    def exactly(size: int) -> bytes:
        received = b""
        while len(received) < size:
            part = stream.recv(size - len(received))
            if not part:
                raise EOFError
            received += part
        return received

    return exactly(int.from_bytes(exactly(4), "big"))


Start = Callable[..., Worker]


def pair_of_members(start: Start, *first: Step, second: tuple[Step, ...] = ()) -> list[Worker]:
    """Return two members of one cluster in epoch 3, which list each other."""
    one = start(*first, state=(3, "m", 10, 1, True))
    other = start(*second, state=(3, "m", 10, 1, True), authority=one.authority)
    rows = [
        (name, "127.0.0.1", worker.port, "local", b"k" * 32, wire.Standing.READ_WRITE)
        for name, worker in (("one", one), ("other", other))
    ]
    one.members = other.members = (1, rows, "local")
    return [one, other]
