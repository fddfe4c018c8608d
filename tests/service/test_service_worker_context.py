"""C14 over real TLS: a key with CKA_ALWAYS_AUTHENTICATE serves after its own login only."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.ids import KeyringId
from conclave.keyring.attributes import FALSE, TRUE
from conclave.service import wire
from conclave.service.wire import Operation, Role
from tests.service.conftest import Member, Tenant
from tests.support.cluster_bench import PASSWORD
from tests.support.worker_bench import NIL, ec_pair

WRONG = b"wrong password"


async def guarded_key(tenant: Tenant, *, token: bool) -> tuple[bytes, bytes]:
    """Make a pair whose private half asks for the password before each use."""
    public, private = ec_pair(token=token)
    private = [*private, (int(Cka.ALWAYS_AUTHENTICATE), TRUE), (int(Cka.DERIVE), TRUE)]
    write = tenant.bench.write_arguments() if token else None
    args = wire.GenerateKeyPair(
        tenant.keyring, int(Ckm.EC_KEY_PAIR_GEN), NIL, public, private, write
    )
    made = await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args)
    return made[0][0], made[1][0]


def login(
    tenant: Tenant, key: bytes, password: bytes = PASSWORD, operation: int = Operation.SIGN
) -> wire.ContextLogin:
    return wire.ContextLogin(tenant.keyring, key, int(operation), password, os.urandom(16))


def use(
    tenant: Tenant, key: bytes, context: bytes, data: bytes = b"data", **more: Any
) -> wire.UseInContext:
    operation = int(more.get("operation", Operation.SIGN))
    kind = int(Ckm.ECDSA_SHA256)
    return wire.UseInContext(tenant.keyring, key, operation, context, kind, NIL, data)


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let a process do nothing meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("token", [True, False])
def test_each_use_needs_a_proof_of_its_own(member: Member, token: bool) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        public, private = await guarded_key(tenant, token=token)
        context = await client.ok(Operation.CONTEXT_LOGIN, login(tenant, private))
        signature = await client.ok(Operation.USE_IN_CONTEXT, use(tenant, private, context))
        args = tenant.verify_arguments(public, signature)
        assert (await client.call(Operation.VERIFY, args)).value == 0
        # The same use again, as after a lost answer; then another one.
        again = await client.ok(Operation.USE_IN_CONTEXT, use(tenant, private, context))
        args = tenant.verify_arguments(public, again)
        assert (await client.call(Operation.VERIFY, args)).value == 0
        other = use(tenant, private, context, b"other data")
        reply = await client.call(Operation.USE_IN_CONTEXT, other)
        assert (reply.value, reply.ticket) == (Ckr.USER_NOT_LOGGED_IN, client.ticket)
        context = await client.ok(Operation.CONTEXT_LOGIN, login(tenant, private))
        other = use(tenant, private, context, b"other data")
        assert await client.ok(Operation.USE_IN_CONTEXT, other)

    member.run(scenario)


def test_without_a_proof_such_a_key_does_nothing(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        _, private = await guarded_key(tenant, token=True)
        reply = await client.call(Operation.SIGN, tenant.sign_arguments(private))
        assert reply.value == Ckr.KEY_FUNCTION_NOT_PERMITTED
        reply = await client.call(Operation.USE_IN_CONTEXT, use(tenant, private, b""))
        assert (reply.value, reply.ticket) == (Ckr.USER_NOT_LOGGED_IN, client.ticket)
        ecdh = wire.EcdhParameter(1, b"", bytes(65))
        derive = [tenant.keyring, private, int(Ckm.ECDH1_DERIVE), ecdh, [(int(Cka.TOKEN), FALSE)]]
        reply = await client.call(Operation.DERIVE_KEY, [*derive, None])
        assert reply.value == Ckr.KEY_FUNCTION_NOT_PERMITTED

    member.run(scenario)


def test_a_proof_is_for_one_key_one_operation_and_one_login(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        _, first = await guarded_key(tenant, token=True)
        _, second = await guarded_key(tenant, token=True)
        context = await client.ok(Operation.CONTEXT_LOGIN, login(tenant, first))
        another = await tenant.another()
        for args, asked in (
            (use(tenant, second, context), client),
            (use(tenant, first, context, operation=Operation.DECRYPT), client),
            (use(tenant, first, context), another),
        ):
            reply = await asked.call(Operation.USE_IN_CONTEXT, args)
            assert (reply.value, reply.ticket) == (Ckr.USER_NOT_LOGGED_IN, asked.ticket)
        assert await client.ok(Operation.USE_IN_CONTEXT, use(tenant, first, context))

    member.run(scenario)


def test_a_wrong_password_counts_and_leaves_the_login(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        _, private = await guarded_key(tenant, token=True)
        wrong = await client.call(Operation.CONTEXT_LOGIN, login(tenant, private, WRONG))
        assert wrong.value == Ckr.PIN_INCORRECT
        info = await client.ok(Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring), ticket=None)
        assert info[4] == 1  # failed attempts
        assert await client.ok(Operation.CONTEXT_LOGIN, login(tenant, private))
        info = await client.ok(Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring), ticket=None)
        assert info[4] == 0
        krso = await tenant.another(role=Role.KRSO)
        reply = await krso.call(Operation.CONTEXT_LOGIN, login(tenant, private))
        assert reply.value == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)


def bump_clients(tenant: Tenant) -> None:
    tenant.bench.page.bump_clients()


def bump_keyring(tenant: Tenant) -> None:
    tenant.bench.page.bump_keyring(KeyringId(tenant.keyring))


def bump_global(tenant: Tenant) -> None:
    tenant.bench.page.bump_global()


@pytest.mark.parametrize("change", [bump_clients, bump_keyring, bump_global])
def test_what_is_acknowledged_while_a_proof_is_taken_holds(
    member: Member, change: Callable[[Tenant], None]
) -> None:
    """C15: who lost the keyring while the issuer was asked, which may take seconds, has no use."""

    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        _, private = await guarded_key(tenant, token=True)
        context = await client.ok(Operation.CONTEXT_LOGIN, login(tenant, private))
        args = use(tenant, private, context)
        with stopped(tenant.bench.processes["cluster"]):
            asked = client.send(Operation.USE_IN_CONTEXT, args, ticket=client.ticket)
            # Requests are begun in their order, so now the issuer is being asked.
            await client.ok(Operation.PING)
            change(tenant)
        assert (await asyncio.wait_for(asked, 20)).value == wire.BUSY
        # Nothing was done: asked again it is the same use, of whoever still may.
        assert await client.ok(Operation.USE_IN_CONTEXT, args)

    member.run(scenario)


def test_what_asks_for_no_password_gets_no_proof(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, plain = await tenant.ec_key()
        public, private = await guarded_key(tenant, token=True)
        for key, operation, value in (
            (plain, Operation.SIGN, Ckr.ARGUMENTS_BAD),
            (public, Operation.SIGN, Ckr.ARGUMENTS_BAD),
            (private, Operation.VERIFY, Ckr.ARGUMENTS_BAD),
            (private, Operation.DERIVE_KEY, Ckr.ARGUMENTS_BAD),
            (bytes(16), Operation.SIGN, Ckr.KEY_HANDLE_INVALID),
        ):
            args = login(tenant, key, operation=operation)
            assert (await tenant.client.call(Operation.CONTEXT_LOGIN, args)).value == value
        args = login(tenant, private)
        reply = await tenant.client.call(Operation.CONTEXT_LOGIN, args, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)
