"""C14 between members: a proof of the password is taken where it was given, whoever is asked."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import CredentialRefused, Unavailable
from conclave.ids import ClientId, ClusterTimeMs, LoginId
from conclave.service.context_tickets import ContextTicket, Use, open_context
from conclave.service.messages import ClientLogin, ContextLogin, ContextResult, SpendContext
from conclave.service.wire import Operation, Role
from tests.support.cluster_bench import PASSWORD, ClusterBench
from tests.support.several import several

OBJECT, LOGIN = os.urandom(16), LoginId(os.urandom(16))
USE, OTHER_USE = os.urandom(32), os.urandom(32)


async def proof(
    bench: ClusterBench, keyring: bytes, keys: dict[int, bytes], password: bytes = PASSWORD
) -> ContextTicket:
    """Log in for one use at a member and open what that gives."""
    login = ClientLogin(
        client_id=bench.client_id,
        source="127.0.0.1",
        keyring_id=keyring,
        role=Role.KRCO,
        password=password,
        attempt_id=os.urandom(16),
    )
    operation = int(Operation.SIGN)
    params = ContextLogin(login=login, login_id=LOGIN, object_id=OBJECT, operation=operation)
    result: ContextResult = await bench.worker.call("context_login", params)
    use = Use(
        cluster_id=bench.cluster_id,
        keyring_id=keyring,
        client_id=bench.client_id,
        login_id=LOGIN,
        object_id=OBJECT,
        operation=operation,
        now_ms=ClusterTimeMs(bench.page.cluster_time_ms()),
    )
    return open_context(result.context, keys, use)


async def spend(bench: ClusterBench, context: ContextTicket, use: bytes) -> None:
    params = SpendContext(
        member_id=context.member_id, context_id=context.context_id, use_digest=use
    )
    await bench.worker.call("spend_context", params)


async def refuse(bench: ClusterBench, context: ContextTicket, use: bytes) -> None:
    with pytest.raises(CredentialRefused) as caught:
        await spend(bench, context, use)
    assert caught.value.fault is faults.NOT_LOGGED_IN


@pytest.mark.system
def test_c14_a_proof_is_taken_at_the_member_that_gave_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with several(tmp_path) as house:
            first = await house.first()
            keys = {key.version: key.key for key in first.cluster_keys().ticket_keys}
            registered = await first.register()
            client_id = ClientId(bytes.fromhex(registered.client.client_id.replace("-", "")))
            first.client_id = client_id
            keyring, _ = await first.ready_keyring()
            second = await house.join(first)
            second.client_id = client_id
            await house.all_read_write()
            for giver, taker in ((first, second), (second, first)):
                with pytest.raises(CredentialRefused) as caught:
                    await proof(giver, keyring, keys, b"wrong password")
                assert caught.value.fault is faults.PIN_INCORRECT
                context = await proof(giver, keyring, keys)
                assert context.member_id == giver.member_id
                await spend(taker, context, USE)
                await spend(giver, context, USE)
                for bench in (giver, taker):
                    await refuse(bench, context, OTHER_USE)
            # With the giver's process its book is gone, and nothing is usable twice.
            context = await proof(second, keyring, keys)
            second.kill("cluster")
            with pytest.raises(Unavailable):
                await spend(first, context, USE)

    asyncio.run(run())
