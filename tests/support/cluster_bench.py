"""The real login and cluster processes on their real channels, with cheap password hashing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from conclave.cluster.master_keys import ClusterKeys, derive_master_keys, open_cluster_keys
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, Argon2Cost
from conclave.demo.options import free_loopback_address
from conclave.ids import ClientId, ClusterId, KeyringId
from conclave.service.bootstrap import ClusterBootstrap, LoginBootstrap, encode_bootstrap
from conclave.service.channel import ChannelClient
from conclave.service.client_messages import RegisterClient, RegisteredClient
from conclave.service.messages import (
    Authorize,
    AuthorizeResult,
    ChangePassword,
    ClientLogin,
    CreateCluster,
    CreateKeyrings,
    InitializeKrco,
    InitializeToken,
    KeyringList,
    KeyringSummary,
    NamedKeyring,
    ObjectDelete,
    ObjectWrite,
    TicketResult,
    WriteObjects,
    WriteResult,
)
from conclave.service.page import SharedPage
from conclave.service.quiet import Nothing, Quiet
from conclave.service.tickets import Bearer, Ticket, open_ticket
from conclave.service.wire import Role
from conclave.settings import ClusterTimes, Limits, PostgresqlSettings
from conclave.store.location import EngineName
from conclave.store.repository import open_reader
from conclave.store.rows import KeyringRow

FIRST = b"first-password"
PASSWORD = b"a-password"
LONG_PASSWORD = b"a password of many characters"
WRONG = b"wrong-password"
START_SECONDS = 60.0


@dataclass
class ClusterBench:
    """One member's processes; `smk` is what the HSM would hold."""

    directory: Path
    page: SharedPage
    limits: Limits = field(default_factory=Limits)
    cost: Argon2Cost = LOW_COST_FOR_TESTS
    low_cost_for_tests: bool = True
    clock_offset_ms: int = 0
    smk: bytes = field(default_factory=lambda: os.urandom(32))
    domain: bytes = b"a cloning domain"
    address: str = field(default_factory=free_loopback_address)
    core_port: int = 50051
    postgresql_directory: str = ""
    automatic_authorization: bool = True
    strict_primary: bool = False
    cluster_id: str = field(default_factory=lambda: str(uuid4()))
    member_id: str = field(default_factory=lambda: str(uuid4()))
    member_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    secrets: dict[str, bytes] = field(
        default_factory=lambda: {"daemon": os.urandom(32), "worker": os.urandom(32)}
    )
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    client_id: ClientId = field(default_factory=lambda: ClientId(b""))

    def __post_init__(self) -> None:
        self.daemon = ChannelClient(self.socket("cluster"), self.secrets["daemon"])
        self.worker = ChannelClient(self.socket("cluster"), self.secrets["worker"])

    @property
    def database(self) -> Path:
        return self.directory / "cluster.db"

    def socket(self, name: str) -> Path:
        return self.directory / f"{name}.sock"

    # ------------------------------------------------------------------ processes

    def start_login(self) -> None:
        bootstrap = LoginBootstrap(
            socket_path=str(self.socket("login")),
            secrets=self.secrets,
            cost=self.cost,
            low_cost_for_tests=self.low_cost_for_tests,
            log_path=str(self.directory / "login.log"),
        )
        self._start("login", "conclave.service.login_process", bootstrap)

    def start_cluster(self, *, with_smk: bool = False) -> None:
        bootstrap = ClusterBootstrap(
            database_path=str(self.database),
            socket_path=str(self.socket("cluster")),
            secrets=self.secrets,
            login_socket_path=str(self.socket("login")),
            login_secret=self.secrets["daemon"],
            page_fd=self.page.fd,
            limits=self.limits,
            cost=self.cost,
            low_cost_for_tests=self.low_cost_for_tests,
            server_common_name="lnh.test",
            host_name="member-a",
            addresses=["127.0.0.1"],
            admin_port=50070,
            crypto_port=50052,
            clock_offset_ms=self.clock_offset_ms,
            member_key_spki_der=self.spki,
            member_key_pem=self.member_key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            core_address=self.address,
            postgresql=PostgresqlSettings(directory=self.postgresql_directory),
            cluster_settings=ClusterTimes(
                core_port=self.core_port,
                automatic_authorization=self.automatic_authorization,
                strict_primary=self.strict_primary,
            ),
            state_dir=str(self.directory),
            smk=self.smk if with_smk else None,
            domain=self.domain if with_smk else b"",
            log_path=str(self.directory / "cluster.log"),
        )
        self._start("cluster", "conclave.cluster.process", bootstrap)

    def _start(self, name: str, module: str, bootstrap: Quiet) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, pass_fds=[self.page.fd]
        )
        assert process.stdin is not None
        process.stdin.write(encode_bootstrap(bootstrap))
        process.stdin.flush()
        self.processes[name] = process

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    async def close(self) -> None:
        await self.daemon.close()
        await self.worker.close()
        for name in list(self.processes):
            self.kill(name)
        self.page.close()

    # ------------------------------------------------------------------ what a daemon does

    @property
    def spki(self) -> bytes:
        key = self.member_key.public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    async def ready(self) -> None:
        await self.daemon.call("status", Nothing(), timeout_seconds=START_SECONDS)

    async def create(self, *, dual: bool = False, engine: EngineName = "sqlite") -> None:
        await self.daemon.call(
            "create_cluster",
            CreateCluster(
                label="lab",
                cluster_id=self.cluster_id,
                member_id=self.member_id,
                member_name="member-a",
                address=self.address,
                admin_port=50070,
                crypto_port=50052,
                dual_identity=dual,
                engine=engine,
            ),
        )

    async def authorize(self, smk: bytes | None = None) -> AuthorizeResult:
        params = Authorize(smk=smk or self.smk, member_key_spki_der=self.spki)
        result: AuthorizeResult = await self.daemon.call("authorize", params)
        return result

    async def make_keyrings(
        self, *labels: str, password: bytes = FIRST, key: bytes = b""
    ) -> list[KeyringSummary]:
        params = CreateKeyrings(
            labels=list(labels), password=password, source="test", idempotency_key=key
        )
        result: KeyringList = await self.daemon.call("create_keyrings", params)
        return result.keyrings

    async def show(self, name: str) -> KeyringSummary:
        result: KeyringSummary = await self.daemon.call("show_keyring", NamedKeyring(name=name))
        return result

    async def unlock(self, name: str) -> None:
        await self.daemon.call("unlock_keyring", NamedKeyring(name=name))

    async def register(self, common_name: str = "client", **options: Any) -> RegisteredClient:
        params = RegisterClient(
            request_pem=options.get("pem") or client_request(common_name),
            label="",
            monitor_user="",
        )
        result: RegisteredClient = await self.daemon.call("register_client", params)
        return result

    # ------------------------------------------------------------------ what a worker does

    def deadline(self, seconds: int = 30) -> int:
        return self.page.cluster_time_ms() + 1000 * seconds

    async def login(
        self, keyring: bytes, password: bytes, role: Role = Role.KRCO, attempt: bytes | None = None
    ) -> bytes:
        params = ClientLogin(
            client_id=self.client_id,
            source="127.0.0.1",
            keyring_id=keyring,
            role=role,
            password=password,
            attempt_id=attempt or os.urandom(16),
        )
        result: TicketResult = await self.worker.call("login", params)
        return result.ticket

    async def change(
        self,
        keyring: bytes,
        old: bytes,
        new: bytes,
        role: Role = Role.KRSO,
        *,
        ticket: bytes | None = None,
        key: bytes | None = None,
        deadline_ms: int | None = None,
    ) -> bytes:
        params = ChangePassword(
            client_id=self.client_id,
            source="127.0.0.1",
            ticket=ticket,
            keyring_id=keyring,
            role=role,
            old_password=old,
            new_password=new,
            idempotency_key=key or os.urandom(16),
            deadline_ms=self.deadline() if deadline_ms is None else deadline_ms,
        )
        result: TicketResult = await self.worker.call("change_password", params)
        return result.ticket

    async def initialize_krco(
        self, keyring: bytes, ticket: bytes, password: bytes, key: bytes | None = None
    ) -> bytes:
        params = InitializeKrco(
            client_id=self.client_id,
            source="127.0.0.1",
            ticket=ticket,
            keyring_id=keyring,
            new_password=password,
            idempotency_key=key or os.urandom(16),
            deadline_ms=self.deadline(),
        )
        result: TicketResult = await self.worker.call("initialize_krco", params)
        return result.ticket

    async def initialize_token(
        self, keyring: bytes, password: bytes, label: str, key: bytes | None = None
    ) -> None:
        params = InitializeToken(
            client_id=self.client_id,
            source="127.0.0.1",
            keyring_id=keyring,
            password=password,
            label=label,
            idempotency_key=key or os.urandom(16),
            deadline_ms=self.deadline(),
        )
        await self.worker.call("initialize_token", params)

    async def write(
        self,
        keyring: bytes,
        ticket: bytes,
        *,
        writes: list[ObjectWrite] | None = None,
        deletes: list[ObjectDelete] | None = None,
        key: bytes | None = None,
        mac: bytes = b"mac",
        deadline_ms: int | None = None,
    ) -> WriteResult:
        params = WriteObjects(
            client_id=self.client_id,
            ticket=ticket,
            keyring_id=keyring,
            writes=writes or [],
            deletes=deletes or [],
            idempotency_key=key or os.urandom(16),
            request_mac=mac,
            deadline_ms=self.deadline() if deadline_ms is None else deadline_ms,
            result=b"result",
        )
        result: WriteResult = await self.worker.call("write_objects", params)
        return result

    async def ready_keyring(
        self, label: str = "ring", password: bytes = PASSWORD
    ) -> tuple[KeyringId, bytes]:
        """Make a keyring, change its first password, initialise its KRCO; return id and ticket."""
        (summary,) = await self.make_keyrings(label)
        keyring = id_of(summary)
        await self.change(keyring, FIRST, password)
        krso = await self.login(keyring, password, Role.KRSO)
        await self.initialize_krco(keyring, krso, password)
        return keyring, await self.login(keyring, password)

    # ------------------------------------------------------------------ looking inside

    def row(self, keyring: bytes) -> KeyringRow:
        reader = open_reader(self.database)
        try:
            row = reader.keyring(KeyringId(keyring))
        finally:
            reader.close()
        assert row is not None
        return row

    def cluster_keys(self) -> ClusterKeys:
        reader = open_reader(self.database)
        try:
            state = reader.cluster_state()
        finally:
            reader.close()
        assert state is not None
        return open_cluster_keys(
            state.sealed_keys, derive_master_keys(self.smk), ClusterId(self.cluster_id)
        )

    def opened(self, ticket: bytes) -> Ticket:
        keys = {key.version: key.key for key in self.cluster_keys().ticket_keys}
        now_ms = self.page.cluster_time_ms()
        return open_ticket(ticket, keys, Bearer(ClusterId(self.cluster_id), self.client_id, now_ms))


@asynccontextmanager
async def cluster_bench(
    directory: Path,
    *,
    dual: bool = False,
    limits: Limits | None = None,
    authorized: bool = True,
) -> AsyncIterator[ClusterBench]:
    """Start both processes, create a cluster, authorize it and register a client."""
    bench = ClusterBench(directory, SharedPage.create(), limits=limits or Limits())
    try:
        bench.start_login()
        bench.start_cluster()
        await bench.ready()
        if authorized:
            await bench.create(dual=dual)
            await bench.authorize()
            registered = await bench.register()
            bench.client_id = ClientId(bytes.fromhex(registered.client.client_id.replace("-", "")))
        yield bench
    finally:
        await bench.close()


@asynccontextmanager
async def held_store(bench: ClusterBench) -> AsyncIterator[None]:
    """Let nobody write into a member's SQLite meanwhile; its cluster process is started anew."""
    bench.kill("cluster")
    holder = sqlite3.connect(bench.database, isolation_level=None)
    bench.start_cluster(with_smk=False)
    await bench.ready()
    await bench.authorize()
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def id_of(summary: KeyringSummary) -> KeyringId:
    return KeyringId(bytes.fromhex(summary.keyring_id.replace("-", "")))


def new_object(object_id: bytes | None = None, **changes: Any) -> ObjectWrite:
    write = ObjectWrite(
        object_id=object_id or os.urandom(16), private=True, version=1, blob=b"sealed", mac=b""
    )
    return msgspec.structs.replace(write, **changes)


def client_request(
    common_name: str = "client", key: CertificateIssuerPrivateKeyTypes | None = None
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def with_failures(row: KeyringRow, failures: int) -> KeyringRow:
    return replace(row, krso=replace(row.krso, failures=failures))


async def gathered(*calls: Any) -> list[Any]:
    """Run calls at once; return results and errors in their order."""
    return await asyncio.gather(*calls, return_exceptions=True)
