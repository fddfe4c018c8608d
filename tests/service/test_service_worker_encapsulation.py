"""Keys that two parties share by ML-KEM, over real TLS: who may, and what a repetition gets."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.meters import Use
from conclave.service.wire import Operation
from tests.service.conftest import Member, Tenant
from tests.service.test_service_worker_wrapping import counted

NIL = msgspec.Raw(b"\xc0")
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]


async def pair(tenant: Tenant, *, token: bool) -> list[bytes]:
    where = (int(Cka.TOKEN), TRUE if token else FALSE)
    chosen = [(int(Cka.PARAMETER_SET), ulong(2)), where]
    write = tenant.bench.write_arguments() if token else None
    args = wire.GenerateKeyPair(
        tenant.keyring, int(Ckm.ML_KEM_KEY_PAIR_GEN), NIL, chosen, [where], write
    )
    made = await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args)
    return [made[0][0], made[1][0]]


def encapsulation(
    tenant: Tenant, key: bytes, write: wire.Write | None, *template: tuple[int, bytes]
) -> wire.EncapsulateKey:
    whole = [*READABLE, *template]
    return wire.EncapsulateKey(tenant.keyring, key, int(Ckm.ML_KEM), NIL, whole, write)


def decapsulation(
    tenant: Tenant,
    key: bytes,
    ciphertext: bytes,
    write: wire.Write | None,
    *template: tuple[int, bytes],
) -> wire.DecapsulateKey:
    whole = [*READABLE, *template]
    return wire.DecapsulateKey(tenant.keyring, key, int(Ckm.ML_KEM), NIL, ciphertext, whole, write)


async def value_of(tenant: Tenant, reference: bytes) -> Any:
    args = wire.GetAttributes(tenant.keyring, reference, [int(Cka.VALUE)])
    ((_, _, value),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
    return value


@pytest.mark.parametrize("token", [True, False])
def test_both_sides_get_one_key(member: Member, token: bool) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await pair(tenant, token=token)
        where = (int(Cka.TOKEN), TRUE if token else FALSE)
        write = tenant.bench.write_arguments() if token else None
        args = encapsulation(tenant, public, write, where)
        ciphertext, mine = await tenant.client.ok(Operation.ENCAPSULATE_KEY, args)
        write = tenant.bench.write_arguments() if token else None
        back = decapsulation(tenant, private, ciphertext, write, where)
        yours = await tenant.client.ok(Operation.DECAPSULATE_KEY, back)
        assert (len(mine[0]) == wire.OBJECT_ID_BYTES) == token
        assert await value_of(tenant, mine[0]) == await value_of(tenant, yours[0])

    member.run(scenario)


def test_rule_c21_a_repeated_encapsulation_gives_the_first_ciphertext(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await pair(tenant, token=True)
        label = os.urandom(8).hex().encode()
        more = [(int(Cka.TOKEN), TRUE), (int(Cka.LABEL), label)]
        args = encapsulation(tenant, public, tenant.bench.write_arguments(), *more)
        first = await tenant.client.ok(Operation.ENCAPSULATE_KEY, args)
        destroy = wire.DestroyObject(tenant.keyring, public, tenant.bench.write_arguments())
        await tenant.client.ok(Operation.DESTROY_OBJECT, destroy)
        assert await tenant.client.ok(Operation.ENCAPSULATE_KEY, args) == first
        assert await tenant.find(label) == [first[1][0]]
        write = tenant.bench.write_arguments()
        back = decapsulation(tenant, private, first[0], write, (int(Cka.TOKEN), TRUE))
        made = await tenant.client.ok(Operation.DECAPSULATE_KEY, back)
        assert await tenant.client.ok(Operation.DECAPSULATE_KEY, back) == made
        assert await value_of(tenant, made[0]) == await value_of(tenant, first[1][0])

    member.run(scenario)


def test_nobody_encapsulates_without_a_login_or_for_what_is_not_there(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await pair(tenant, token=True)
        args = encapsulation(tenant, public, None)
        reply = await tenant.client.call(Operation.ENCAPSULATE_KEY, args, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        # A public session key for a public key needs none.
        open_to_all = encapsulation(tenant, public, None, (int(Cka.PRIVATE), FALSE))
        reply = await tenant.client.call(Operation.ENCAPSULATE_KEY, open_to_all, ticket=None)
        assert reply.value == Ckr.OK
        back = decapsulation(tenant, private, bytes(1088), None, (int(Cka.PRIVATE), FALSE))
        reply = await tenant.client.call(Operation.DECAPSULATE_KEY, back, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        missing = encapsulation(tenant, os.urandom(16), None)
        reply = await tenant.client.call(Operation.ENCAPSULATE_KEY, missing)
        assert reply.value == Ckr.KEY_HANDLE_INVALID
        missing_back = decapsulation(tenant, os.urandom(16), bytes(1088), None)
        reply = await tenant.client.call(Operation.DECAPSULATE_KEY, missing_back)
        assert reply.value == Ckr.KEY_HANDLE_INVALID

    member.run(scenario)


def test_encapsulation_is_counted_by_mechanism(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await pair(tenant, token=False)
        before = [counted(tenant, use, Ckm.ML_KEM) for use in (Use.ENCAPSULATE, Use.DECAPSULATE)]
        right = await tenant.client.ok(
            Operation.ENCAPSULATE_KEY, encapsulation(tenant, public, None)
        )
        for operation, args in (
            (Operation.ENCAPSULATE_KEY, encapsulation(tenant, private, None)),
            (Operation.DECAPSULATE_KEY, decapsulation(tenant, private, right[0], None)),
            (Operation.DECAPSULATE_KEY, decapsulation(tenant, private, right[0][1:], None)),
            (Operation.DECAPSULATE_KEY, decapsulation(tenant, public, right[0], None)),
        ):
            await tenant.client.call(operation, args)
        after = [counted(tenant, use, Ckm.ML_KEM) for use in (Use.ENCAPSULATE, Use.DECAPSULATE)]
        new = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
        assert new == [(1, 1), (1, 2)]

    member.run(scenario)
