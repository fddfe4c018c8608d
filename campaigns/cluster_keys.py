"""Keys made, used and deleted through the workers of chosen members.

Invariant: a key is expected to sign, or not to, from the answer of its last write on, at every
member that is visible after that answer; what a write without an answer has done is not judged.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from campaigns.cluster_history import GONE, KeyExpected, judge, moment
from campaigns.cluster_house import HouseWithVolumes, ServingBench
from campaigns.cluster_load import OPERATION_SECONDS, PAUSE_SECONDS, Load
from campaigns.load import der_of
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import TRUE, ulong
from conclave.service import wire
from conclave.service.client_gate import X509_V_FLAG_NO_CHECK_TIME
from conclave.service.wire import Operation, Role
from tests.support.cluster_bench import ClusterBench
from tests.support.worker_bench import NIL, P256, Identity, Reply, WireClient

CALL_SECONDS: Final = 4.0
KEPT_KEYS: Final = 20
REMEMBERED_KEYS: Final = 40
"""Of the deleted ones, the newest that are tried again after each fault."""
_BROKEN: Final = (OSError, EOFError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError)


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A key whose two halves the campaign knows."""

    label: str
    reference: bytes
    public: ec.EllipticCurvePublicKey


@dataclass
class Door:
    """One client's way to the workers of chosen members."""

    house: HouseWithVolumes
    context: ssl.SSLContext
    connections: dict[Path, WireClient] = field(default_factory=dict)
    _locks: dict[Path, asyncio.Lock] = field(default_factory=dict)

    async def ask(
        self, bench: ClusterBench, operation: int, args: Any, ticket: bytes | None
    ) -> Reply | None:
        """Return the answer of a member's worker, None when there is none in time."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                connection = await self._connected(self.house.serving[bench.directory])
                return await connection.send(operation, args, ticket=ticket)
        except (*_BROKEN, KeyError):
            await self.drop(bench.directory)
            return None

    async def _connected(self, serving: ServingBench) -> WireClient:
        directory = serving.directory
        async with self._locks.setdefault(directory, asyncio.Lock()):
            if (known := self.connections.get(directory)) is not None and known.ended:
                await self.drop(directory)
            if directory not in self.connections:
                connection = await serving.connect_with(self.context)
                serving.clients.remove(connection)  # it is ours to close
                self.connections[directory] = connection
            return self.connections[directory]

    async def drop(self, directory: Path) -> None:
        """Forget a connection."""
        connection = self.connections.pop(directory, None)
        if connection is not None:
            connection.writer.transport.abort()
            await connection.close()

    async def close(self) -> None:
        """Forget all connections."""
        for directory in list(self.connections):
            await self.drop(directory)


def context_of(identity: Identity, directory: Path) -> ssl.SSLContext:
    """Return what a client presents; the host's clock decides nothing (rule T1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    context.load_verify_locations(cadata=identity.ca_pem)
    path = directory / f"{os.urandom(4).hex()}.pem"
    path.write_bytes(identity.key_pem + identity.certificate_pem)
    context.load_cert_chain(path)
    return context


class KeyClient:
    """Makes keys of one keyring, signs with them and deletes them; nobody else touches them."""

    def __init__(
        self, load: Load, door: Door, keyring: bytes, password: bytes, chance: random.Random
    ) -> None:
        self._load = load
        self._history = load.history
        self._door = door
        self._keyring = keyring
        self._password = password
        self._chance = chance
        self._ticket: bytes | None = None
        self._alive: list[Key] = []
        self._deleted: list[Key] = []
        self._number = 0
        self.signed: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Work until the load ends."""
        while not self._load.stopping.is_set():
            full = len(self._alive) >= KEPT_KEYS
            if self._alive and (full or self._chance.random() < 0.4):
                await self._delete(self._alive.pop(self._chance.randrange(len(self._alive))))
            else:
                await self._create()
            await asyncio.sleep(self._chance.random() * 8 * PAUSE_SECONDS)

    async def close(self) -> None:
        """End the connections."""
        await self._door.close()

    # ------------------------------------------------------------------ writes

    async def _create(self) -> None:
        self._number += 1
        secret = ec.derive_private_key(1 + self._chance.getrandbits(250), ec.SECP256R1())
        label = f"key-{self._number}"
        template = [
            (int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)),
            (int(Cka.KEY_TYPE), ulong(Ckk.EC)),
            (int(Cka.TOKEN), TRUE),
            (int(Cka.LABEL), label.encode()),
            (int(Cka.SIGN), TRUE),
            (int(Cka.EC_PARAMS), P256),
            (int(Cka.VALUE), secret.private_numbers().private_value.to_bytes(32, "big")),
        ]
        arguments = wire.CreateObject(self._keyring, template, self._write())
        reply = await self._insist(Operation.CREATE_OBJECT, arguments, "keys created")
        if reply is None:
            return
        key = Key(label, bytes(reply.result[0]), secret.public_key())
        for bench in self._load.holding():
            await self.must_sign(bench, key, "just created")
        self._alive.append(key)

    async def _delete(self, key: Key) -> None:
        arguments = wire.DestroyObject(self._keyring, key.reference, self._write())
        if await self._insist(Operation.DESTROY_OBJECT, arguments, "keys deleted") is None:
            return
        for bench in self._load.holding():
            await self.must_not_sign(bench, key, "just deleted")
        self._deleted.append(key)
        del self._deleted[:-REMEMBERED_KEYS]

    def _write(self) -> wire.Write:
        deadline_ms = self._load.house.members[0].deadline(int(OPERATION_SECONDS) + 5)
        return wire.Write(os.urandom(16), deadline_ms)

    async def _insist(self, operation: Operation, arguments: Any, counted: str) -> Reply | None:
        """Ask members until one has done it; None when that is not certain at the end."""
        deadline = time.monotonic() + OPERATION_SECONDS
        while time.monotonic() < deadline:
            bench = self._load.member()
            reply = await self._ask(bench, operation, arguments)
            if reply is not None and reply.value == Ckr.OK:
                if bench.directory in self._load.cut_off | self._load.absent:
                    self._history.counts["acknowledged by a member cut off"] += 1
                    return None
                self._history.counts[counted] += 1
                return reply
            await asyncio.sleep(PAUSE_SECONDS * (1 + self._load.chance.random()))
        self._history.counts[f"{counted}: no answer"] += 1
        return None

    async def _ask(self, bench: ClusterBench, operation: Operation, arguments: Any) -> Reply | None:
        """Ask one member, logged in; None when it does not answer."""
        ticket = self._ticket
        if ticket is None:
            login = wire.Login(self._keyring, Role.KRCO, self._password, os.urandom(16))
            entered = await self._door.ask(bench, Operation.LOGIN, login, None)
            if entered is None or entered.ticket is None:
                return None
            ticket = self._ticket = entered.ticket
        reply = await self._door.ask(bench, operation, arguments, ticket)
        if reply is not None:
            if reply.value:
                self._history.counts[f"worker answers {_name(reply.value)}"] += 1
            if reply.value == Ckr.USER_NOT_LOGGED_IN and self._ticket is ticket:
                self._ticket = None
            if reply.ticket is not None:
                self._ticket = reply.ticket
        return reply

    # ------------------------------------------------------------------ signatures

    async def _sign(self, bench: ClusterBench, key: Key) -> Reply | None:
        """Sign at one member; whatever it signs is verified."""
        data, begun = os.urandom(32), time.monotonic()
        arguments = wire.UseKey(self._keyring, key.reference, int(Ckm.ECDSA_SHA256), NIL, data)
        reply = await self._ask(bench, Operation.SIGN, arguments)
        if bench.directory in self._load.absent | self._load.cut_off:
            return None
        if reply is not None and reply.value == Ckr.OK:
            self.signed.append((begun, time.monotonic()))
            self._history.counts["signatures by workers"] += 1
            try:
                key.public.verify(der_of(reply.result), data, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                self._history.complain("wrong signature", self._said(bench, key, "signs"))
        return reply

    async def must_sign(self, bench: ClusterBench, key: Key, when: str) -> None:
        """Expect a signature of a visible member."""
        await self._expect(bench, key, KeyExpected.SIGNS, when)

    async def must_not_sign(self, bench: ClusterBench, key: Key, when: str) -> None:
        """Expect a refusal of a visible member."""
        await self._expect(bench, key, KeyExpected.GONE, when)

    async def _expect(
        self, bench: ClusterBench, key: Key, expected: KeyExpected, when: str
    ) -> None:
        reply = await self._sign(bench, key)
        if reply is None:
            return
        complaint = judge(reply.value, expected)
        if complaint:
            self._history.complain(complaint, self._said(bench, key, when))
        elif expected is KeyExpected.GONE and reply.value in GONE:
            self._history.counts["refusals to sign with a deleted key"] += 1

    async def signs_at(self, bench: ClusterBench) -> bool:
        """Tell whether a member signs with the oldest key."""
        if not self._alive:
            return True
        reply = await self._sign(bench, self._alive[0])
        return reply is not None and reply.value in (Ckr.OK, *GONE)

    async def look(self, bench: ClusterBench) -> None:
        """Try one living and one deleted key at a visible member."""
        luck = self._load.chance
        if self._alive and bench in self._load.holding():
            key = luck.choice(self._alive)
            reply = await self._sign(bench, key)
            # Its deletion may have begun meanwhile.
            if reply is not None and reply.value in GONE and key in self._alive:
                self._history.complain("missing", self._said(bench, key, "after a fault"))
        if self._deleted and bench in self._load.holding():
            await self.must_not_sign(bench, luck.choice(self._deleted), "after a fault")

    def _said(self, bench: ClusterBench, key: Key, when: str) -> str:
        return (
            f"{key.label} {key.reference.hex()} {when}, at member"
            f" {self._load.house.members.index(bench)}, epoch {bench.page.epoch()}, {moment()}"
        )


def _name(value: int) -> str:
    return Ckr(value).name if value in list(Ckr) else hex(value)
