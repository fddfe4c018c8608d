"""A worker lists and does what the policy of its settings leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, ulong
from conclave.service import wire
from conclave.service.wire import Operation
from conclave.settings import Limits
from tests.service.conftest import Tenant, make_tenant
from tests.support.worker_bench import NIL, worker_bench

P256 = bytes.fromhex("06082a8648ce3d030107")
SECP256K1 = bytes.fromhex("06052b8104000a")
SESSION = [(int(Cka.TOKEN), FALSE)]


async def refused_in_advance(
    tenant: Tenant, params: bytes, *more: tuple[int, bytes]
) -> set[tuple[int, ...]]:
    """Import a signing key, which a policy never forbids, and return its refusals."""
    template = [
        *SESSION,
        (int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)),
        (int(Cka.KEY_TYPE), ulong(Ckk.EC)),
        (int(Cka.EC_PARAMS), params),
        (int(Cka.VALUE), b"\x07"),
        *more,
    ]
    args = wire.CreateObject(tenant.keyring, template, None)
    made = await tenant.client.ok(Operation.CREATE_OBJECT, args)
    info = wire.ObjectReference(tenant.keyring, made[0])
    found = (await tenant.client.ok(Operation.KEY_INFO, info))[6]
    return {tuple(row) for row in found if row[0] != Ckm.ECDSA_SHA1}


def test_a_policy_of_mechanisms_holds_for_the_list_and_for_use(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(fips_mechanisms=True, min_rsa_bits=3072)
        async with asyncio.timeout(240), worker_bench(tmp_path, limits=limits) as bench:
            tenant = await make_tenant(bench)
            listed = {row[0]: row[1:] for row in await tenant.client.ok(Operation.MECHANISMS)}
            assert Ckm.AES_GCM in listed
            assert Ckm.CHACHA20_KEY_GEN not in listed
            assert listed[Ckm.SHA256_RSA_PKCS][0] == 3072
            key = wire.GenerateKey(tenant.keyring, int(Ckm.CHACHA20_KEY_GEN), NIL, SESSION, None)
            reply = await tenant.client.call(Operation.GENERATE_KEY, key)
            assert reply.value == Ckr.MECHANISM_INVALID
            public = [*SESSION, (int(Cka.MODULUS_BITS), ulong(2048))]
            generation = int(Ckm.RSA_PKCS_KEY_PAIR_GEN)
            pair = wire.GenerateKeyPair(tenant.keyring, generation, NIL, public, SESSION, None)
            reply = await tenant.client.call(Operation.GENERATE_KEY_PAIR, pair)
            assert reply.value == Ckr.KEY_SIZE_RANGE
            assert await refused_in_advance(tenant, P256) == set()
            told = await refused_in_advance(tenant, SECP256K1)
            assert (Ckm.ECDSA_SHA256, Ckf.SIGN, Ckr.CURVE_NOT_SUPPORTED) in told
            only = (int(Cka.ALLOWED_MECHANISMS), ulong(Ckm.ECDSA))
            told = await refused_in_advance(tenant, P256, only)
            assert (Ckm.ECDSA_SHA256, Ckf.SIGN, Ckr.MECHANISM_INVALID) in told
            assert Ckm.ECDSA not in {row[0] for row in told}

    asyncio.run(scenario())
