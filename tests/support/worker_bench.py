"""Real crypto workers beside the real cluster process, and a client that speaks raw frames."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.ids import ClientId
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.bootstrap import WorkerBootstrap, encode_bootstrap
from conclave.service.client_gate import X509_V_FLAG_NO_CHECK_TIME
from conclave.service.client_messages import RegisteredClient
from conclave.service.messages import (
    AuthorizeResult,
)
from conclave.service.meters import Meters
from conclave.service.page import SharedPage
from conclave.settings import Limits
from tests.support.cluster_bench import ClusterBench, client_request
from tests.support.ports import free_port

P256 = bytes.fromhex("06082a8648ce3d030107")
NIL = msgspec.Raw(b"\xc0")


def listening_locally(path: Path) -> socket.socket:
    """Return a Unix socket that listens."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def listening(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    listener = socket.create_server((address, port), backlog=1024)
    listener.setblocking(False)
    return listener


class Reply(msgspec.Struct, array_like=True, frozen=True):
    request_id: int
    value: int
    result: Any = None
    ticket: bytes | None = None
    state: Any = None


class WireClient:
    """One connection; answers are handed out by request id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ticket: bytes | None = None
        self.greeting: Any = None
        self.state: Any = None
        """The newest fifth element of an answer."""
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._pump: asyncio.Task[None] | None = None

    async def frame(self) -> Any:
        header = await self.reader.readexactly(4)
        body = await self.reader.readexactly(int.from_bytes(header, "big"))
        return msgspec.msgpack.decode(body)

    async def begin(
        self, *, hello: bool = True, process_id: bytes | None = None, direct: bool = True
    ) -> None:
        self.greeting = msgspec.convert(await self.frame(), wire.Greeting)
        self._pump = asyncio.create_task(self._receive())
        if hello:
            reply = await self.call(
                wire.Operation.HELLO, wire.Hello(process_id or os.urandom(16), "tests", direct)
            )
            assert reply.value == 0

    async def _receive(self) -> None:
        try:
            while True:
                reply = msgspec.convert(await self.frame(), Reply)
                if reply.state is not None:
                    self.state = msgspec.convert(reply.state, wire.MemberState)
                future = self._waiting.pop(reply.request_id, None)
                if future is not None:
                    future.set_result(reply)
        except (asyncio.IncompleteReadError, OSError):
            for future in self._waiting.values():
                future.set_exception(ConnectionResetError())
            self._waiting.clear()

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    def send(
        self,
        operation: int,
        args: Any = (),
        *,
        ticket: bytes | None = None,
        min_position: int | None = None,
    ) -> asyncio.Future[Reply]:
        self._last_id += 1
        parts = [self._last_id, int(operation), ticket, args]
        body = msgspec.msgpack.encode(parts if min_position is None else [*parts, min_position])
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = future
        self.writer.write(len(body).to_bytes(4, "big") + body)
        return future

    async def call(self, operation: int, args: Any = (), *, ticket: Any = ...) -> Reply:
        """Ask with the client's ticket; take over a new one."""
        mine = self.ticket if ticket is ... else ticket
        reply = await asyncio.wait_for(self.send(operation, args, ticket=mine), 20)
        if reply.ticket is not None:
            self.ticket = reply.ticket
        return reply

    async def ok(self, operation: int, args: Any = (), *, ticket: Any = ...) -> Any:
        reply = await self.call(operation, args, ticket=ticket)
        assert reply.value == 0, hex(reply.value)
        return reply.result

    @property
    def ended(self) -> bool:
        """Tell whether the worker has ended the connection: no answer will come any more."""
        return self._pump is not None and self._pump.done()

    async def closed(self) -> bool:
        """Tell whether the worker ends the connection within a bounded time."""
        if self._pump is None:
            self._pump = asyncio.create_task(self._receive())
        await asyncio.wait_for(self._pump, 20)
        return True

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self.writer.close()
        with suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


@dataclass
class Identity:
    """A client's key and certificate."""

    client_id: ClientId
    key_pem: bytes
    certificate_pem: bytes
    ca_pem: str


@dataclass
class WorkerBench(ClusterBench):
    """The processes of one member, workers included."""

    # Where its workers listen; the link has a port of its own instead.
    address: str = "127.0.0.1"
    core_port: int = field(default_factory=free_port)
    listener: socket.socket = field(default_factory=listening)
    local: socket.socket | None = None
    """A Unix socket on which its workers serve as well."""
    workers: int = 1
    certificate: AuthorizeResult | None = None
    clients: list[WireClient] = field(default_factory=list)
    cache_mib: int = 64
    cache_idle_seconds: float = 900.0
    read_only_limit_seconds: int = 0
    meters: list[Meters] = field(default_factory=list)
    """What each worker counts."""

    def start_worker(self, index: int = 0) -> None:
        assert self.certificate is not None
        key_pem = self.member_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate_pem = self.certificate.member_certificate_pem.encode()
        self.start_worker_of(
            f"worker-{index}",
            page=self.page,
            listener=self.listener,
            member_id=self.member_id,
            certificate_pem=certificate_pem,
            key_pem=key_pem,
            index=index,
        )

    def start_worker_of(
        self,
        name: str,
        *,
        page: SharedPage,
        listener: socket.socket,
        member_id: str,
        certificate_pem: bytes,
        key_pem: bytes,
        index: int = 0,
    ) -> None:
        """Start a worker of this member, or of another that shares its store."""
        assert self.certificate is not None
        meters = Meters.create()
        listeners = [listener] if self.local is None else [listener, self.local]
        listen_fds = [each.fileno() for each in listeners]
        bootstrap = WorkerBootstrap(
            worker_index=index,
            worker_count=self.workers,
            listen_fds=listen_fds,
            page_fd=page.fd,
            meters_fd=meters.fd,
            database_path=str(self.database),
            cluster_socket_path=str(self.socket("cluster")),
            cluster_secret=self.secrets["worker"],
            certificate_pem=certificate_pem,
            key_pem=key_pem,
            ca_pem=self.certificate.ca_certificate_pem.encode(),
            member_id=member_id,
            limits=self.limits,
            read_only_limit_seconds=self.read_only_limit_seconds,
            cache_bytes=self.cache_mib << 20,
            cache_idle_seconds=self.cache_idle_seconds,
            log_path=str(self.directory / f"{name}.log"),
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "conclave.service.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[page.fd, *listen_fds, meters.fd],
        )
        assert process.stdin is not None
        process.stdin.write(encode_bootstrap(bootstrap))
        process.stdin.flush()
        self.meters.append(meters)
        self.processes[name] = process

    async def identity(self, name: str = "client") -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        done: RegisteredClient = await self.register(pem=client_request(name, key))
        return Identity(
            client_id=ClientId(bytes.fromhex(done.client.client_id.replace("-", ""))),
            key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            certificate_pem=done.certificate_pem.encode(),
            ca_pem=done.ca_certificate_pem,
        )

    async def open(self, identity: Identity | None, ca_pem: str = "") -> WireClient:
        """Connect; the greeting is not read yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
        context.load_verify_locations(cadata=identity.ca_pem if identity else ca_pem)
        if identity is not None:
            path = self.directory / f"{os.urandom(4).hex()}.pem"
            path.write_bytes(identity.key_pem + identity.certificate_pem)
            context.load_cert_chain(path)
        return await self._open_with(context)

    async def _open_with(self, context: ssl.SSLContext) -> WireClient:
        address, port = self.listener.getsockname()
        reader, writer = await asyncio.open_connection(address, port, ssl=context)
        client = WireClient(reader, writer)
        self.clients.append(client)
        return client

    async def connect_with(self, context: ssl.SSLContext) -> WireClient:
        client = await self._open_with(context)
        await asyncio.wait_for(client.begin(), 20)
        return client

    async def connect(
        self, identity: Identity, *, process_id: bytes | None = None, direct: bool = True
    ) -> WireClient:
        client = await self.open(identity)
        await asyncio.wait_for(client.begin(process_id=process_id, direct=direct), 20)
        return client

    def write_arguments(self, seconds: int = 30) -> wire.Write:
        return wire.Write(os.urandom(16), self.deadline(seconds))

    async def close(self) -> None:
        for meters in self.meters:
            meters.close()
        for client in self.clients:
            await client.close()
        await super().close()
        self.listener.close()
        if self.local is not None:
            self.local.close()


@asynccontextmanager
async def worker_bench(
    directory: Path,
    *,
    limits: Limits | None = None,
    authorized: bool = True,
    workers: int = 1,
    dual: bool = False,
    local: Path | None = None,
    cache_mib: int = 64,
) -> AsyncIterator[WorkerBench]:
    """Start login and cluster process, authorize (and restart for `authorized` False), workers."""
    bench = WorkerBench(
        directory,
        SharedPage.create(),
        limits=limits or Limits(),
        workers=workers,
        cache_mib=cache_mib,
    )
    bench.local = listening_locally(local) if local is not None else None
    try:
        bench.start_login()
        bench.start_cluster()
        await bench.ready()
        await bench.create(dual=dual)
        bench.certificate = await bench.authorize()
        if not authorized:
            bench.kill("cluster")
            bench.start_cluster()
            await bench.ready()
        for index in range(workers):
            bench.start_worker(index)
        yield bench
    finally:
        await bench.close()


def ec_pair(*, token: bool, label: bytes = b"ec") -> tuple[wire.Template, wire.Template]:
    shared = [
        (int(Cka.TOKEN), TRUE if token else FALSE),
        (int(Cka.LABEL), label),
    ]
    public = [*shared, (int(Cka.EC_PARAMS), P256), (int(Cka.VERIFY), TRUE)]
    return public, [*shared, (int(Cka.SIGN), TRUE)]


def aes_template(
    *, token: bool, label: bytes = b"aes", value: bytes | None = None
) -> wire.Template:
    template = [
        (int(Cka.CLASS), ulong(Cko.SECRET_KEY)),
        (int(Cka.KEY_TYPE), ulong(Ckk.AES)),
        (int(Cka.TOKEN), TRUE if token else FALSE),
        (int(Cka.LABEL), label),
        (int(Cka.ENCRYPT), TRUE),
        (int(Cka.DECRYPT), TRUE),
    ]
    return [*template, (int(Cka.VALUE), value)] if value is not None else template
