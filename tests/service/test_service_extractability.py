"""A setting by which no key leaves its keyring, whatever its owner asks for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.wire import Operation
from conclave.settings import Limits
from tests.service.conftest import Tenant, make_tenant
from tests.support.worker_bench import NIL, WorkerBench, ec_pair, worker_bench

KEPT = Limits(extractable_keys=False)
LEAVES = (int(Cka.EXTRACTABLE), TRUE)
STAYS = (int(Cka.EXTRACTABLE), FALSE)
SESSION = (int(Cka.TOKEN), FALSE)
GENERIC = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
KEK = [
    (int(Cka.CLASS), ulong(Cko.SECRET_KEY)),
    (int(Cka.KEY_TYPE), ulong(Ckk.AES)),
    (int(Cka.WRAP), TRUE),
    (int(Cka.UNWRAP), TRUE),
    (int(Cka.DERIVE), TRUE),
    (int(Cka.VALUE), bytes(range(32))),
]


async def create(tenant: Tenant, template: wire.Template, *, token: bool = False) -> bytes:
    write = tenant.bench.write_arguments() if token else None
    whole = [*template, (int(Cka.TOKEN), TRUE if token else FALSE)]
    args = wire.CreateObject(tenant.keyring, whole, write)
    made: list[bytes] = await tenant.client.ok(Operation.CREATE_OBJECT, args)
    return made[0]


async def flag(tenant: Tenant, reference: bytes, number: Cka) -> bytes:
    args = wire.GetAttributes(tenant.keyring, reference, [int(number)])
    ((_, _, value),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
    assert isinstance(value, bytes)
    return value


def wrapped(tenant: Tenant, kek: bytes, key: bytes) -> wire.WrapKey:
    return wire.WrapKey(tenant.keyring, kek, int(Ckm.AES_KEY_WRAP_KWP), NIL, key)


def test_no_key_is_made_extractable_where_the_setting_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path, limits=KEPT) as bench:
            tenant = await make_tenant(bench)
            keyring, leaving = tenant.keyring, [SESSION, LEAVES]
            public, private = ec_pair(token=False)
            made = await create(tenant, [*GENERIC, (int(Cka.VALUE), bytes(16))])
            kek = await create(tenant, KEK)
            generic = [*GENERIC, (int(Cka.VALUE), bytes(16)), *leaving]
            kwp, pair = int(Ckm.AES_KEY_WRAP_KWP), int(Ckm.EC_KEY_PAIR_GEN)
            sha256 = int(Ckm.SHA256_KEY_DERIVATION)
            length = (int(Cka.VALUE_LEN), ulong(16))
            for operation, args in (
                (Operation.CREATE_OBJECT, wire.CreateObject(keyring, generic, None)),
                (
                    Operation.GENERATE_KEY,
                    wire.GenerateKey(keyring, int(Ckm.AES_KEY_GEN), NIL, [*leaving, length], None),
                ),
                (
                    Operation.GENERATE_KEY_PAIR,
                    wire.GenerateKeyPair(keyring, pair, NIL, public, [*private, LEAVES], None),
                ),
                (
                    Operation.UNWRAP_KEY,
                    wire.UnwrapKey(keyring, kek, kwp, NIL, bytes(24), [*GENERIC, *leaving], None),
                ),
                (
                    Operation.DERIVE_KEY,
                    wire.DeriveKey(keyring, kek, sha256, NIL, [*GENERIC, *leaving], None),
                ),
            ):
                reply = await tenant.client.call(operation, args)
                assert reply.value == Ckr.ATTRIBUTE_VALUE_INVALID, operation.name
            assert await flag(tenant, made, Cka.EXTRACTABLE) == FALSE

    asyncio.run(scenario())


async def under_the_setting(bench: WorkerBench, tenant: Tenant) -> Tenant:
    """Start the worker anew with the setting, as an appliance that was restarted."""
    bench.kill("worker-0")
    bench.limits = KEPT
    bench.start_worker()
    later = replace(tenant, client=await bench.connect(tenant.identity))
    await later.login()
    return later


def test_what_was_extractable_before_stays_too_and_keeps_its_attributes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            tenant = await make_tenant(bench)
            kek = await create(tenant, KEK, token=True)
            template = [*GENERIC, (int(Cka.VALUE), bytes(16)), (int(Cka.SENSITIVE), FALSE), LEAVES]
            key = await create(tenant, template, token=True)
            leaving = wrapped(tenant, kek, key)
            blob = await tenant.client.ok(Operation.WRAP_KEY, leaving)
            assert await flag(tenant, key, Cka.VALUE) == bytes(16)
            tenant = await under_the_setting(bench, tenant)
            reply = await tenant.client.call(Operation.WRAP_KEY, leaving)
            assert reply.value == Ckr.KEY_UNEXTRACTABLE
            args = wire.GetAttributes(tenant.keyring, key, [int(Cka.VALUE)])
            ((_, value, content),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
            assert (value, content) == (Ckr.ATTRIBUTE_SENSITIVE, None)
            assert await flag(tenant, key, Cka.EXTRACTABLE) == TRUE
            copy = wire.ChangeObject(tenant.keyring, key, [SESSION], None)
            reply = await tenant.client.call(Operation.COPY_OBJECT, copy)
            assert reply.value == Ckr.ATTRIBUTE_VALUE_INVALID
            kept = wire.ChangeObject(tenant.keyring, key, [SESSION, STAYS], None)
            await tenant.client.ok(Operation.COPY_OBJECT, kept)
            guess = wire.Find(tenant.keyring, [(int(Cka.VALUE), bytes(16))], 0)
            assert await tenant.client.ok(Operation.FIND, guess) == []
            kwp = int(Ckm.AES_KEY_WRAP_KWP)
            back = wire.UnwrapKey(tenant.keyring, kek, kwp, NIL, blob, [*GENERIC, SESSION], None)
            unwrapped = await tenant.client.ok(Operation.UNWRAP_KEY, back)
            assert await flag(tenant, unwrapped[0], Cka.EXTRACTABLE) == FALSE

    asyncio.run(scenario())
