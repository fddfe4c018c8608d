"""Throw mutated requests at a connection in this process, beside a real member.

Every seed is one request with placeholders, which are replaced by a live keyring, its objects and
a live ticket, so that mutants reach deep.  A finding is anything but an answer of the protocol's
shape or the end of the connection: an unexpected exception (which the worker logs), an answer that
does not decode, a request under way that never ends, or a turn that blocks the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.ids import ClientId, ProcessId
from conclave.keyring.attributes import ulong
from conclave.service.bootstrap import WorkerBootstrap
from conclave.service.client_gate import PeerCertificate
from conclave.service.connection import Connection
from conclave.service.frames import FrameSplitter, frame
from conclave.service.meters import Meters
from conclave.service.wire import MAX_FRAME_BYTES, Operation
from conclave.service.worker import Worker
from tests.service.conftest import Tenant, make_tenant
from tests.support.worker_bench import Reply, WorkerBench, aes_template, ec_pair

SEEDS: Final = Path(__file__).parent.parent / "service" / "seeds"
SLOW_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 60.0
SETTLE_EVERY: Final = 64
RENEW_EVERY: Final = 2000

KEYRING, PRIVATE, PUBLIC, SECRET = (bytes([number]) * 16 for number in (0x11, 0x12, 0x13, 0x14))
TICKET, PRIVATE_BLOB, PUBLIC_BLOB = (bytes([number]) * 24 for number in (0x15, 0x16, 0x17))
IDEMPOTENCY: Final = bytes([0x18]) * 16
DEADLINE: Final = 0x1919191919


def seed_requests() -> dict[str, list[Any]]:
    """Return one request per operation and kind of reference, with placeholders."""
    write = [IDEMPOTENCY, DEADLINE]
    pair = [list(map(list, template)) for template in ec_pair(token=True)]
    aes = [list(item) for item in aes_template(token=True, value=bytes(32))]
    rsa = [[int(Cka.MODULUS_BITS), ulong(2048)]]
    gcm, iv = [bytes(12), b"context", 128], bytes(16)
    use = [KEYRING, PRIVATE, int(Ckm.ECDSA_SHA256), None, b"data", False]
    changed = [[int(Cka.LABEL), b"changed"]]
    arguments: dict[str, tuple[Operation, list[Any]]] = {
        "hello": (Operation.HELLO, [IDEMPOTENCY, "fuzzer"]),
        "ping": (Operation.PING, []),
        "list": (Operation.LIST_TOKENS, [0, 10]),
        "info": (Operation.TOKEN_INFO, [KEYRING]),
        "mechanisms": (Operation.MECHANISMS, []),
        "members": (Operation.MEMBERS, []),
        "login": (Operation.LOGIN, [KEYRING, 1, b"a-password", IDEMPOTENCY]),
        "logout": (Operation.LOGOUT, []),
        "set-pin": (Operation.SET_PIN, [KEYRING, 1, b"old-password", b"new-password", write]),
        "init-pin": (Operation.INIT_PIN, [KEYRING, b"new-password", write]),
        "init-token": (Operation.INIT_TOKEN, [KEYRING, b"some-password", "label", write]),
        "find": (Operation.FIND, [KEYRING, [[int(Cka.LABEL), b"ec"]], 10]),
        "get": (Operation.GET_ATTRIBUTES, [KEYRING, PRIVATE, [0, 1, 2, 3, 0x11, 0x180]]),
        "get-blob": (Operation.GET_ATTRIBUTES, [KEYRING, PRIVATE_BLOB, [0, 1, 2, 3, 0x11]]),
        "set": (Operation.SET_ATTRIBUTES, [KEYRING, PRIVATE, changed, write]),
        "set-blob": (Operation.SET_ATTRIBUTES, [KEYRING, PUBLIC_BLOB, changed, None]),
        "create": (Operation.CREATE_OBJECT, [KEYRING, aes, write]),
        "copy": (Operation.COPY_OBJECT, [KEYRING, PUBLIC, changed, write]),
        "copy-blob": (Operation.COPY_OBJECT, [KEYRING, PRIVATE_BLOB, changed, None]),
        "destroy": (Operation.DESTROY_OBJECT, [KEYRING, IDEMPOTENCY, write]),
        "size": (Operation.OBJECT_SIZE, [KEYRING, PUBLIC]),
        "key-info": (Operation.KEY_INFO, [KEYRING, PRIVATE]),
        "generate": (
            Operation.GENERATE_KEY,
            [KEYRING, int(Ckm.AES_KEY_GEN), None, [[int(Cka.VALUE_LEN), ulong(32)]], None],
        ),
        "generate-pair": (
            Operation.GENERATE_KEY_PAIR,
            [KEYRING, int(Ckm.EC_KEY_PAIR_GEN), None, *pair, write],
        ),
        "generate-rsa": (
            Operation.GENERATE_KEY_PAIR,
            [KEYRING, int(Ckm.RSA_PKCS_KEY_PAIR_GEN), None, rsa, [], None],
        ),
        "sign": (Operation.SIGN, use),
        "sign-blob": (Operation.SIGN, [KEYRING, PRIVATE_BLOB, *use[2:]]),
        "verify": (Operation.VERIFY, [KEYRING, PUBLIC, *use[2:5], bytes(64), False]),
        "encrypt": (Operation.ENCRYPT, [KEYRING, SECRET, int(Ckm.AES_GCM), gcm, b"data"]),
        "decrypt": (Operation.DECRYPT, [KEYRING, SECRET, int(Ckm.AES_CBC_PAD), iv, b"d" * 32]),
        "counter": (Operation.ENCRYPT, [KEYRING, SECRET, int(Ckm.AES_CTR), [32, bytes(16)], b"d"]),
        "random": (Operation.RANDOM, [32]),
        "forward": (Operation.FORWARD, [KEYRING, "127.0.0.1", b"request", IDEMPOTENCY]),
    }
    arguments |= _seeds_of_moving_keys(aes, iv, write) | _seeds_of_recovery()
    arguments |= _seeds_of_contexts()
    # A logout with the live ticket would make all that follows shallow.
    return {
        name: [1, int(operation), None if name == "logout" else TICKET, args]
        for name, (operation, args) in arguments.items()
    }


def _seeds_of_recovery() -> dict[str, tuple[Operation, list[Any]]]:
    rsa = int(Ckm.RSA_PKCS)
    return {
        "sign-recover": (Operation.SIGN_RECOVER, [KEYRING, PRIVATE, rsa, None, b"data", False]),
        "verify-recover": (
            Operation.VERIFY_RECOVER,
            [KEYRING, PUBLIC, rsa, None, bytes(256), False],
        ),
    }


def _seeds_of_contexts() -> dict[str, tuple[Operation, list[Any]]]:
    sign, kind = int(Operation.SIGN), int(Ckm.ECDSA_SHA256)
    return {
        "context-login": (
            Operation.CONTEXT_LOGIN,
            [KEYRING, PRIVATE, sign, b"password", IDEMPOTENCY],
        ),
        "use-in-context": (
            Operation.USE_IN_CONTEXT,
            [KEYRING, PRIVATE, sign, bytes(300), kind, None, b"data", True],
        ),
    }


def _seeds_of_moving_keys(
    aes: list[Any], iv: bytes, write: list[Any]
) -> dict[str, tuple[Operation, list[Any]]]:
    return {
        "wrap": (Operation.WRAP_KEY, [KEYRING, SECRET, int(Ckm.AES_CBC_PAD), iv, SECRET]),
        "unwrap": (
            Operation.UNWRAP_KEY,
            [KEYRING, SECRET, int(Ckm.AES_KEY_WRAP), None, bytes(24), aes[:2], None],
        ),
        "unwrap-token": (
            Operation.UNWRAP_KEY,
            [KEYRING, SECRET, int(Ckm.AES_CBC_PAD), iv, b"d" * 32, aes, write],
        ),
        "derive": (
            Operation.DERIVE_KEY,
            [KEYRING, SECRET, int(Ckm.CONCATENATE_BASE_AND_KEY), SECRET, aes[:2], None],
        ),
        "encapsulate": (
            Operation.ENCAPSULATE_KEY,
            [KEYRING, PUBLIC, int(Ckm.ML_KEM), None, aes[:2], None],
        ),
        "decapsulate-token": (
            Operation.DECAPSULATE_KEY,
            [KEYRING, PRIVATE, int(Ckm.ML_KEM), None, bytes(1088), aes[:2], write],
        ),
        "derive-token": (
            Operation.DERIVE_KEY,
            [KEYRING, PRIVATE, int(Ckm.ECDH1_DERIVE), [1, b"", bytes(65)], aes[:2], write],
        ),
    }


def write_seeds() -> None:
    """Write the seeds as files."""
    SEEDS.mkdir(exist_ok=True)
    for name, parts in seed_requests().items():
        (SEEDS / f"{name}.bin").write_bytes(frame(msgspec.msgpack.encode(parts)))


class Sink:
    """Stands for the transport: keeps what was answered, never chokes."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def local_worker(bench: WorkerBench) -> Worker:
    """Return a worker in this process that listens nowhere."""
    return Worker(
        WorkerBootstrap(
            worker_index=0, worker_count=1, listen_fds=[], page_fd=os.dup(bench.page.fd),
            meters_fd=Meters.create().fd,
            database_path=str(bench.database), cluster_socket_path=str(bench.socket("cluster")),
            cluster_secret=bench.secrets["worker"], certificate_pem=b"", key_pem=b"", ca_pem=b"",
            member_id=bench.member_id, limits=bench.limits,
        )
    )  # fmt: skip


def local_connection(worker: Worker, tenant: Tenant) -> Connection:
    """Return a connection of a tenant's client without a network below it."""
    made = Connection(worker)
    made.attach(cast(asyncio.Transport, Sink()))
    made.client_id = ClientId(tenant.identity.client_id)
    made.process_id = ProcessId(os.urandom(16))
    certificate = x509.load_pem_x509_certificate(tenant.identity.certificate_pem)
    made._peer = PeerCertificate.read(certificate.public_bytes(Encoding.DER))
    made.keyrings = None  # assignment mode `open`: all keyrings are his
    made.client_generation = worker.core.page.client_generation()
    return made


@dataclass
class Report:
    """What a run did."""

    inputs: int = 0
    ended: int = 0
    values: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


class _Alarm(logging.Handler):
    """Note every error that the worker logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.raised: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.raised.append(self.format(record))


class Mutator:
    """Change values inside a request, and bytes of its encoding."""

    NUMBERS: Final = (
        *(0, 1, 2, 3, -1, 16, 64, 65, 127, 128, 255, 256, 1 << 16, (1 << 20) + 1),
        *((1 << 31) - 1, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1),
    )

    def __init__(self, source: random.Random, seeds: list[list[Any]]) -> None:
        self._random = source
        self._seeds = seeds

    def next(self) -> bytes:
        """Return bytes to send: one frame mostly, sometimes several or a torn one."""
        parts = msgspec.msgpack.decode(msgspec.msgpack.encode(self._random.choice(self._seeds)))
        parts[0] = self._random.randrange(1, 1 << 32)
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 4))):
            parts = self._change(parts)
        try:
            body = bytearray(msgspec.msgpack.encode(parts))
        except OverflowError:
            body = bytearray(b"\xc0")
        if self._random.random() < 0.15:
            self._damage(body)
        data = frame(bytes(body)[:MAX_FRAME_BYTES])
        if self._random.random() < 0.02:
            data = data[: self._random.randrange(len(data) + 1)] + os.urandom(4)
        return data

    def _change(self, value: Any) -> Any:
        choose = self._random
        if isinstance(value, list) and value and choose.random() < 0.85:
            position = choose.randrange(len(value))
            if choose.random() < 0.08:
                return self._reshape(value, position)
            return [*value[:position], self._change(value[position]), *value[position + 1 :]]
        if isinstance(value, bytes):
            return self._change_bytes(value)
        if isinstance(value, bool) or value is None:
            return choose.choice((True, False, None, b"", 0, []))
        if isinstance(value, int):
            return choose.choice((*self.NUMBERS, value + 1, value ^ (1 << choose.randrange(32))))
        return choose.choice((None, [], [[]], b"", "text", 5, value))

    def _reshape(self, value: list[Any], position: int) -> list[Any]:
        how = self._random.randrange(4)
        if how == 0:
            return value[:position] + value[position + 1 :]
        if how == 1:
            return [*value, value[position]]
        if how == 2:
            return value * self._random.choice((2, 40, 70))
        return [value]

    def _change_bytes(self, value: bytes) -> bytes:
        choose = self._random
        how = choose.randrange(6)
        if how == 0:
            return value[: choose.randrange(len(value) + 1)]
        if how == 1:
            return value + os.urandom(choose.choice((1, 8, 255, 70_000)))
        if how == 2:
            return b""
        if how == 3:
            return choose.choice((b"\0", b"\xff", b"\x01")) * (len(value) or 1)
        changed = bytearray(value or b"\0")
        for _ in range(choose.randrange(1, 4)):
            changed[choose.randrange(len(changed))] = choose.randrange(256)
        return bytes(changed)

    def _damage(self, body: bytearray) -> None:
        for _ in range(self._random.randrange(1, 6)):
            position = self._random.randrange(len(body))
            how = self._random.randrange(3)
            if how == 0:
                body[position] = self._random.randrange(256)
            elif how == 1:
                del body[position : position + self._random.randrange(1, 9)]
                body += b"\xc0" if not body else b""
            else:
                body[position:position] = os.urandom(self._random.randrange(1, 9))


class FrameFuzzer:
    """Feed mutants to connections until the time is up."""

    def __init__(self, bench: WorkerBench, *, seed: int) -> None:
        self._bench = bench
        self._random = random.Random(seed)
        self._alarm = _Alarm()
        self.report = Report()

    async def run(self, *, seconds: float, inputs: int = 1 << 62) -> Report:
        """Fuzz for a time or a number of inputs, whichever ends first."""
        logging.getLogger("conclave").addHandler(self._alarm)
        worker = local_worker(self._bench)
        ends = time.monotonic() + seconds
        try:
            await worker.core.refresh_keys()
            while time.monotonic() < ends and self.report.inputs < inputs:
                await self._one_tenant(worker, ends, inputs)
        finally:
            logging.getLogger("conclave").removeHandler(self._alarm)
            await worker.core.close()
        return self.report

    async def _one_tenant(self, worker: Worker, ends: float, inputs: int) -> None:
        tenant = await make_tenant(self._bench)
        mutator = Mutator(self._random, await self._live_seeds(tenant))
        connection = self._connection(worker, tenant)
        for number in range(RENEW_EVERY):
            if time.monotonic() > ends or self.report.inputs >= inputs:
                break
            data = mutator.next()
            await self._feed(connection, data)
            if number % SETTLE_EVERY == 0:
                await self._settle(connection, data)
            if self._sink(connection).closed:
                self.report.ended += 1
                connection = self._connection(worker, tenant)
        await self._settle(connection, b"")
        await tenant.client.close()

    async def _live_seeds(self, tenant: Tenant) -> list[list[Any]]:
        public, private = await tenant.ec_key()
        session_public, session_private = await tenant.ec_key(token=False)
        assert tenant.client.ticket is not None
        live = {
            KEYRING: tenant.keyring,
            PRIVATE: private,
            PUBLIC: public,
            SECRET: await tenant.aes_key(),
            TICKET: tenant.client.ticket,
            PRIVATE_BLOB: session_private,
            PUBLIC_BLOB: session_public,
            IDEMPOTENCY: os.urandom(16),
            DEADLINE: self._bench.deadline(3600),
        }
        seeds = [path.read_bytes() for path in sorted(SEEDS.glob("*.bin"))]
        return [_with(msgspec.msgpack.decode(seed[4:]), live) for seed in seeds]

    def _connection(self, worker: Worker, tenant: Tenant) -> Connection:
        made = local_connection(worker, tenant)
        if self._random.random() < 0.05:
            made.process_id = ProcessId(b"")  # it must begin with HELLO
        return made

    @staticmethod
    def _sink(connection: Connection) -> Sink:
        return cast(Sink, connection._transport)

    async def _feed(self, connection: Connection, data: bytes) -> None:
        self.report.inputs += 1
        started = time.thread_time()
        connection.data_received(data)
        await asyncio.sleep(0)
        if time.thread_time() - started > SLOW_SECONDS:
            self._found("slow", data)
        if self._alarm.raised:
            self._found(self._alarm.raised.pop(), data)
        self._check_answers(connection, data)

    def _check_answers(self, connection: Connection, data: bytes) -> None:
        sink = self._sink(connection)
        sent, sink.sent = bytes(sink.sent), bytearray()
        for body in FrameSplitter(MAX_FRAME_BYTES).feed(sent):
            try:
                value = msgspec.msgpack.decode(body, type=Reply).value
                self.report.values[value] += 1
                if value == Ckr.GENERAL_ERROR:
                    self._found("an invariant failed behind the worker", data)
            except msgspec.DecodeError as error:
                self._found(f"an answer does not decode: {error}", data)

    async def _settle(self, connection: Connection, data: bytes) -> None:
        """Wait until nothing is under way."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while connection._outstanding or connection._waiting:
                    await asyncio.sleep(0.002)
                    if self._sink(connection).closed:
                        break
        except TimeoutError:
            self._found("a request never ended", data)
        self._check_answers(connection, data)
        if self._alarm.raised:
            self._found(self._alarm.raised.pop(), data)

    def _found(self, what: str, data: bytes) -> None:
        name = hashlib.sha256(data).hexdigest()[:12]
        self.report.findings.append(f"{name}: {what}\n{data[:2000].hex()}")


def _with(value: Any, live: dict[Any, Any]) -> Any:
    if isinstance(value, list):
        return [_with(item, live) for item in value]
    return live.get(value, value) if isinstance(value, bytes | int) else value
