"""Throw mutated requests at connections in this process, beside a real member.

Every seed is one request that succeeds: its placeholders are replaced by a live keyring, its
objects, tickets and signatures, so that mutants reach deep.  A finding is anything but an answer of
the protocol's shape or the end of the connection: an unexpected exception, which this worker or
another process logs, an answer that does not decode, a request under way that never ends, or a turn
that blocks the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conclave.errors import Ckr
from conclave.ids import ProcessId
from conclave.service.bootstrap import WorkerBootstrap
from conclave.service.client_gate import PeerCertificate
from conclave.service.connection import Connection
from conclave.service.frames import FrameSplitter, frame
from conclave.service.meters import Meters
from conclave.service.wire import MAX_FRAME_BYTES
from conclave.service.worker import Worker
from tests.support.frame_seeds import Door, LiveValues, Nested, door_of, encoded, stored_seeds
from tests.support.second_member import SecondMember
from tests.support.worker_bench import Reply, WorkerBench

SLOW_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.002
MAX_LOOKS: Final = 30_000
"""A minute of looking whether all is answered; looks are counted, since a machine that stands still
meanwhile lets no time pass for anybody."""
SETTLE_EVERY: Final = 64
"""Inputs between two times of waiting for all answers, and of making again what was used up."""
RENEW_EVERY: Final = 2000
TENANTS: Final = 4
MAX_LATE: Final = 2
ARGUMENTS: Final = 3
"""Where a request has them."""


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
    assert bench.certificate is not None
    key_pem = bench.member_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Worker(
        WorkerBootstrap(
            worker_index=0, worker_count=1, listen_fds=[], page_fd=os.dup(bench.page.fd),
            meters_fd=Meters.create().fd,
            database_path=str(bench.database), cluster_socket_path=str(bench.socket("cluster")),
            cluster_secret=bench.secrets["worker"],
            certificate_pem=bench.certificate.member_certificate_pem.encode(), key_pem=key_pem,
            ca_pem=bench.certificate.ca_certificate_pem.encode(),
            member_id=bench.member_id, limits=bench.limits,
        )
    )  # fmt: skip


async def local_connection(
    worker: Worker, certificate_pem: bytes, *, process_id: bytes = b""
) -> Connection:
    """Admit a client or member without a network below it; with a process id, after its HELLO."""
    made, sink = Connection(worker), Sink()
    made.attach(cast(asyncio.Transport, sink))
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    made._peer = PeerCertificate.read(certificate.public_bytes(Encoding.DER))
    await made._read_client()
    if sink.closed:
        raise TimeoutError("It was not admitted, or not in time.")
    sink.sent.clear()  # the greeting
    made.process_id = ProcessId(process_id)
    return made


async def all_answered(connection: Connection) -> None:
    """Wait until nothing of a connection is under way; raise TimeoutError when that never ends."""
    for _ in range(MAX_LOOKS):
        is_busy = connection._outstanding or connection._waiting
        if not is_busy or connection._transport.is_closing():
            connection._outbox.flush()
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise TimeoutError


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

    def __init__(self, source: random.Random, live: LiveValues) -> None:
        self._random = source
        self._seeds = list(stored_seeds().values())
        self._live = live
        self._fresh = source.randbytes(16)
        self._last: tuple[Door, bytes] | None = None

    def next(self) -> tuple[Door, bytes]:
        """Return bytes to send, one frame mostly and sometimes a torn one, and where they belong.

        Sometimes they carry the last one's idempotency key, or are the last one once more, and
        sometimes they come to a wrong door.
        """
        if self._last is not None and self._random.random() < 0.03:
            return self._last
        seed = self._random.choice(self._seeds)
        if self._random.random() < 0.9:
            self._fresh = self._random.randbytes(16)
        door = self._random.choice(list(Door)) if self._random.random() < 0.03 else door_of(seed)
        self._last = door, self._mutated(self._live.put_into(seed, self._fresh))
        return self._last

    def _mutated(self, parts: Any) -> bytes:
        parts[0] = self._random.randrange(1, 1 << 32)
        try:
            for _ in range(self._random.choice((0, 1, 1, 1, 2, 4))):
                parts = self._change_request(parts)
            body = bytearray(encoded(parts))
        except OverflowError:
            body = bytearray(b"\xc0")
        if self._random.random() < 0.1:
            self._damage(body)
        data = frame(bytes(body)[:MAX_FRAME_BYTES])
        if self._random.random() < 0.02:
            data = data[: self._random.randrange(len(data) + 1)] + os.urandom(4)
        return data

    def _change_request(self, parts: Any) -> Any:
        """Change the arguments mostly: a changed head is refused before anything looks at them."""
        if not isinstance(parts, list) or len(parts) <= ARGUMENTS or self._random.random() < 0.25:
            return self._change(parts)
        return [*parts[:ARGUMENTS], self._change(parts[ARGUMENTS]), *parts[ARGUMENTS + 1 :]]

    def _change(self, value: Any) -> Any:
        choose = self._random
        if isinstance(value, list) and value and choose.random() < 0.95:
            position = choose.randrange(len(value))
            if choose.random() < 0.05:
                return self._reshape(value, position)
            return [*value[:position], self._change(value[position]), *value[position + 1 :]]
        if isinstance(value, Nested):
            if choose.random() < 0.85:
                return Nested(self._change_request(value.value))
            return self._change_bytes(encoded(value.value))
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


class Doors:
    """The connections of one tenant's client and of another member's worker."""

    def __init__(
        self, worker: Worker, live: LiveValues, other: SecondMember, source: random.Random
    ) -> None:
        self._worker = worker
        self._process_id = live.process_id
        self._certificates = {
            Door.CLIENT: live.tenant.identity.certificate_pem,
            Door.MEMBER: other.certificate_pem,
        }
        self._random = source
        self._open: dict[Door, Connection] = {}
        self.all: list[Connection] = []
        """What may still owe answers."""

    async def at(self, door: Door) -> Connection:
        """Return the connection that a request for a door goes to."""
        if door is Door.NEWCOMER:
            owner = Door.MEMBER if self._random.random() < 0.25 else Door.CLIENT
            self._open[owner] = made = await self.newcomer(owner)
            return made
        standing = self._open.get(door)
        # One that never said its HELLO, or under another process id, is left to what it got.
        if standing is None or standing._closed or standing.process_id != self._process_id:
            standing = self._open[door] = await self.newcomer(door)
            standing.process_id = ProcessId(self._process_id)
        return standing

    async def newcomer(self, owner: Door = Door.CLIENT) -> Connection:
        """Return a new connection that has not said HELLO."""
        made = await local_connection(self._worker, self._certificates[owner])
        self.all.append(made)
        return made

    def clear(self) -> None:
        """Forget all connections but those that stand open."""
        self.all = [each for each in self._open.values() if not each._closed]


class FrameFuzzer:
    """Feed mutants to connections until the time is up."""

    def __init__(self, bench: WorkerBench, *, seed: int) -> None:
        self._bench = bench
        self._seed = seed
        self._alarm = _Alarm()
        self.report = Report()

    async def run(self, *, seconds: float, inputs: int = 1 << 62) -> Report:
        """Fuzz for a time or a number of inputs, whichever ends first."""
        ends = time.monotonic() + seconds
        # Tenants side by side, since each waits most of the time for what it changed.
        async with self._members() as (worker, other), asyncio.TaskGroup() as tenants:
            for number in range(TENANTS):
                source = random.Random(f"{self._seed}/{number}")
                tenants.create_task(self._fuzz(worker, other, source, ends, inputs))
        return self.report

    async def _fuzz(
        self, worker: Worker, other: SecondMember, source: random.Random, ends: float, inputs: int
    ) -> None:
        late = 0
        while time.monotonic() < ends and self.report.inputs < inputs:
            try:
                await self._one_tenant(worker, other, source, ends, inputs)
                late = 0
            except TimeoutError:
                # Once is a machine that stood still; a member that hangs is late again.
                late += 1
                if late == MAX_LATE:
                    raise

    async def seed_values(self) -> dict[str, int | None]:
        """Return what each seed gets unmutated: its value, None for the connection's end."""
        values = {}
        async with self._members() as (worker, other):
            live = await LiveValues.make(self._bench)
            doors = Doors(worker, live, other, random.Random(self._seed))
            for name, parts in stored_seeds().items():
                assert await live.renew()
                other.replay(live.tenant.keyring)
                connection = await doors.at(door_of(parts))
                before = Counter(self.report.values)
                data = frame(encoded(live.put_into(parts, os.urandom(16))))
                await self._feed(connection, data)
                await self._settle(connection, data)
                values[name] = next(iter(self.report.values - before), None)
            await live.tenant.client.close()
        return values

    @asynccontextmanager
    async def _members(self) -> AsyncIterator[tuple[Worker, SecondMember]]:
        """Run a worker here, and another member's beside it."""
        other, worker = SecondMember(self._bench), local_worker(self._bench)
        logging.getLogger("conclave").addHandler(self._alarm)
        try:
            other.enrol()
            other.start()
            await worker.core.refresh_keys()
            yield worker, other
        finally:
            logging.getLogger("conclave").removeHandler(self._alarm)
            await worker.core.spreader.close()
            await worker.core.close()
            self._bench.kill(other.name)
            other.close()
        for path in sorted(self._bench.directory.glob("*.log")):
            for line in path.read_text().splitlines():
                if msgspec.json.decode(line)["level"] in {"error", "critical"}:
                    self._found(f"{path.name}: {line}", b"")

    async def _one_tenant(
        self, worker: Worker, other: SecondMember, source: random.Random, ends: float, inputs: int
    ) -> None:
        live = await LiveValues.make(self._bench)
        doors, mutator = Doors(worker, live, other, source), Mutator(source, live)
        for number in range(1, RENEW_EVERY):
            if time.monotonic() > ends or self.report.inputs >= inputs:
                break
            door, data = mutator.next()
            connection = await doors.at(door)
            await self._feed(connection, data)
            self.report.ended += self._sink(connection).closed
            if number % SETTLE_EVERY == 0:
                await self._settle_all(doors, data)
                other.replay(live.tenant.keyring)
                if not await live.renew():
                    break
        await self._settle_all(doors, b"")
        await live.tenant.client.close()

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
                value = _value_of(body, forwarded=bool(connection.member_key))
            except msgspec.DecodeError as error:
                self._found(f"an answer does not decode: {error}", data)
                continue
            self.report.values[value] += 1
            if value == Ckr.GENERAL_ERROR:
                self._found("an invariant failed behind the worker", data)

    async def _settle_all(self, doors: Doors, data: bytes) -> None:
        for connection in doors.all:
            await self._settle(connection, data)
        doors.clear()

    async def _settle(self, connection: Connection, data: bytes) -> None:
        try:
            await all_answered(connection)
        except TimeoutError:
            self._found("a request never ended", data)
        self._check_answers(connection, data)
        if self._alarm.raised:
            self._found(self._alarm.raised.pop(), data)

    def _found(self, what: str, data: bytes) -> None:
        name = hashlib.sha256(data).hexdigest()[:12]
        self.report.findings.append(f"{name}: {what}\n{data[:2000].hex()}")


def _value_of(body: bytes, *, forwarded: bool) -> int:
    """Return an answer's value; for a FORWARD that was carried out, the value inside it."""
    reply = msgspec.msgpack.decode(body, type=Reply)
    if forwarded and isinstance(reply.result, bytes):
        return msgspec.msgpack.decode(reply.result, type=Reply).value
    return reply.value
