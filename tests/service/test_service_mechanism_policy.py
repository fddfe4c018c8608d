"""A worker lists and does what the policy of its settings leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, ulong
from conclave.service import wire
from conclave.service.wire import Operation
from conclave.settings import Limits
from tests.service.conftest import make_tenant
from tests.support.worker_bench import NIL, worker_bench

SESSION = [(int(Cka.TOKEN), FALSE)]


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

    asyncio.run(scenario())
