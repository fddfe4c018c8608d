"""One running member for the tests of the worker; each test has its own client and keyring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.keyring.attributes import ulong
from conclave.service import wire
from conclave.service.wire import Operation, Role
from tests.support.cluster_bench import FIRST, PASSWORD, id_of
from tests.support.worker_bench import (
    NIL,
    Identity,
    WireClient,
    WorkerBench,
    aes_template,
    ec_pair,
    worker_bench,
)

LIMIT_SECONDS = 240.0


@dataclass
class Tenant:
    """A client with a keyring, whose roles are initialised."""

    bench: WorkerBench
    identity: Identity
    keyring: bytes
    client: WireClient

    async def login(self, client: WireClient | None = None, role: Role = Role.KRCO) -> bytes:
        client = client or self.client
        await client.ok(
            Operation.LOGIN,
            wire.Login(self.keyring, role, PASSWORD, os.urandom(16)),
            ticket=None,
        )
        assert client.ticket is not None
        return client.ticket

    async def another(self, *, role: Role | None = Role.KRCO) -> WireClient:
        client = await self.bench.connect(self.identity)
        if role is not None:
            await self.login(client, role)
        return client

    async def ec_key(self, *, token: bool = True, label: bytes = b"ec") -> tuple[bytes, bytes]:
        """Make a P-256 pair; return the references of the public and the private key."""
        public, private = ec_pair(token=token, label=label)
        write = self.bench.write_arguments() if token else None
        args = wire.GenerateKeyPair(
            self.keyring, int(Ckm.EC_KEY_PAIR_GEN), NIL, public, private, write
        )
        made = await self.client.ok(Operation.GENERATE_KEY_PAIR, args)
        return made[0][0], made[1][0]

    async def aes_key(self, *, token: bool = True, label: bytes = b"aes") -> bytes:
        template = [*aes_template(token=token, label=label), (int(Cka.VALUE_LEN), ulong(32))]
        write = self.bench.write_arguments() if token else None
        args = wire.GenerateKey(self.keyring, int(Ckm.AES_KEY_GEN), NIL, template, write)
        made: list[bytes] = await self.client.ok(Operation.GENERATE_KEY, args)
        return made[0]

    def sign_arguments(self, reference: bytes, data: bytes = b"data") -> wire.UseKey:
        return wire.UseKey(self.keyring, reference, int(Ckm.ECDSA_SHA256), NIL, data)

    async def signing(self) -> wire.UseKey:
        """Make a key; return the arguments that have it sign."""
        _, private = await self.ec_key()
        return self.sign_arguments(private)

    def verify_arguments(self, reference: bytes, signature: bytes) -> wire.VerifySignature:
        return wire.VerifySignature(
            self.keyring, reference, int(Ckm.ECDSA_SHA256), NIL, b"data", signature
        )

    def labelled(self, label: bytes) -> wire.Find:
        return wire.Find(self.keyring, [(int(Cka.LABEL), label)], 0)

    async def find(self, label: bytes, client: WireClient | None = None) -> list[bytes]:
        found: list[bytes] = await (client or self.client).ok(Operation.FIND, self.labelled(label))
        return found


Scenario = Callable[[Tenant], Awaitable[None]]


async def make_tenant(bench: WorkerBench, *, logged_in: bool = True) -> Tenant:
    """Register a client, make a keyring and initialise both roles over the wire."""
    identity = await bench.identity()
    client = await bench.connect(identity)
    keyring = await make_keyring(bench, client)
    client.ticket = None
    tenant = Tenant(bench, identity, keyring, client)
    if logged_in:
        await tenant.login()
    return tenant


async def signing_tenant(bench: WorkerBench) -> tuple[Tenant, wire.UseKey]:
    """Make a tenant with a key; return both, the key as the arguments that have it sign."""
    tenant = await make_tenant(bench)
    return tenant, await tenant.signing()


async def make_keyring(bench: WorkerBench, client: WireClient) -> bytes:
    (summary,) = await bench.make_keyrings(f"ring-{os.urandom(4).hex()}")
    keyring = id_of(summary)
    change = wire.SetPin(keyring, Role.KRSO, FIRST, PASSWORD, bench.write_arguments())
    await client.ok(Operation.SET_PIN, change, ticket=None)
    login = wire.Login(keyring, Role.KRSO, PASSWORD, os.urandom(16))
    await client.ok(Operation.LOGIN, login, ticket=None)
    initialize = wire.InitPin(keyring, PASSWORD, bench.write_arguments())
    await client.ok(Operation.INIT_PIN, initialize)
    return keyring


class Member:
    """A running member; `run` gives a scenario a tenant of its own."""

    def __init__(self, runner: asyncio.Runner, bench: WorkerBench) -> None:
        self._runner = runner
        self.bench = bench

    def run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_SECONDS):
                await scenario(await make_tenant(self.bench))

        self._runner.run(bounded())


@pytest.fixture(scope="session")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """Share one member among the tests that add and never break."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        bench = worker_bench(tmp_path_factory.mktemp("member"), workers=2)
        running: Any = runner.run(stack.enter_async_context(bench))
        yield Member(runner, running)
        runner.run(stack.aclose())
