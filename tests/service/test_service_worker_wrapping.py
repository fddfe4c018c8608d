"""Keys that leave and come back over real TLS: who may, and what a repetition gets."""

from __future__ import annotations

import os

import msgspec
import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.meters import Use
from conclave.service.wire import Operation, Role
from tests.service.conftest import Member, Tenant
from tests.support.worker_bench import NIL

SECRET = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
KEK = bytes.fromhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
PLAIN = bytes.fromhex("c37b7e6492584340bed12207808941155068f738")
WRAPPED = bytes.fromhex("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a")
"""RFC 5649, section 6."""


async def create(
    tenant: Tenant, template: list[tuple[int, bytes]], *, token: bool = False
) -> bytes:
    write = tenant.bench.write_arguments() if token else None
    whole = [*template, (int(Cka.TOKEN), TRUE if token else FALSE)]
    args = wire.CreateObject(tenant.keyring, whole, write)
    made: list[bytes] = await tenant.client.ok(Operation.CREATE_OBJECT, args)
    return made[0]


async def wrapping_key(tenant: Tenant, *, token: bool = False) -> bytes:
    template = [
        (int(Cka.CLASS), ulong(Cko.SECRET_KEY)),
        (int(Cka.KEY_TYPE), ulong(Ckk.AES)),
        (int(Cka.WRAP), TRUE),
        (int(Cka.UNWRAP), TRUE),
        (int(Cka.VALUE), KEK),
    ]
    return await create(tenant, template, token=token)


def wrap(tenant: Tenant, kek: bytes, key: bytes) -> wire.WrapKey:
    return wire.WrapKey(tenant.keyring, kek, int(Ckm.AES_KEY_WRAP_KWP), NIL, key)


def unwrap(
    tenant: Tenant, kek: bytes, template: list[tuple[int, bytes]], write: wire.Write | None
) -> wire.UnwrapKey:
    mechanism = int(Ckm.AES_KEY_WRAP_KWP)
    return wire.UnwrapKey(tenant.keyring, kek, mechanism, NIL, WRAPPED, template, write)


async def value_of(tenant: Tenant, reference: bytes) -> bytes:
    args = wire.GetAttributes(tenant.keyring, reference, [int(Cka.VALUE)])
    ((_, _, value),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
    assert isinstance(value, bytes)
    return value


@pytest.mark.parametrize("token", [True, False])
def test_a_published_key_leaves_and_comes_back(member: Member, token: bool) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await wrapping_key(tenant, token=token)
        hidden = [*SECRET, (int(Cka.VALUE), PLAIN), (int(Cka.EXTRACTABLE), TRUE)]
        key = await create(tenant, hidden, token=token)
        assert await tenant.client.ok(Operation.WRAP_KEY, wrap(tenant, kek, key)) == WRAPPED
        template = [*SECRET, *READABLE, (int(Cka.TOKEN), TRUE if token else FALSE)]
        write = tenant.bench.write_arguments() if token else None
        args = unwrap(tenant, kek, template, write)
        made = await tenant.client.ok(Operation.UNWRAP_KEY, args)
        assert (len(made[0]) == wire.OBJECT_ID_BYTES) == token
        assert await value_of(tenant, made[0]) == PLAIN

    member.run(scenario)


def test_rule_c21_a_repeated_unwrapping_makes_one_key_even_without_its_unwrapping_key(
    member: Member,
) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await wrapping_key(tenant, token=True)
        label = os.urandom(8).hex().encode()
        template = [*SECRET, (int(Cka.TOKEN), TRUE), (int(Cka.LABEL), label)]
        args = unwrap(tenant, kek, template, tenant.bench.write_arguments())
        made = await tenant.client.ok(Operation.UNWRAP_KEY, args)
        assert await tenant.client.ok(Operation.UNWRAP_KEY, args) == made
        destroy = wire.DestroyObject(tenant.keyring, kek, tenant.bench.write_arguments())
        await tenant.client.ok(Operation.DESTROY_OBJECT, destroy)
        assert await tenant.client.ok(Operation.UNWRAP_KEY, args) == made
        assert await tenant.find(label) == [made[0]]
        fresh = unwrap(tenant, kek, template, tenant.bench.write_arguments())
        reply = await tenant.client.call(Operation.UNWRAP_KEY, fresh)
        assert reply.value == Ckr.UNWRAPPING_KEY_HANDLE_INVALID

    member.run(scenario)


def test_who_is_not_the_krco_neither_wraps_nor_unwraps(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await wrapping_key(tenant, token=True)
        key = await create(tenant, [*SECRET, *READABLE, (int(Cka.VALUE), PLAIN)], token=True)
        leaving, coming = wrap(tenant, kek, key), unwrap(tenant, kek, SECRET, None)
        for operation, args in (
            (Operation.WRAP_KEY, leaving),
            (Operation.UNWRAP_KEY, coming),
        ):
            reply = await tenant.client.call(operation, args, ticket=None)
            assert reply.value == Ckr.USER_NOT_LOGGED_IN
            krso = await tenant.another(role=Role.KRSO)
            reply = await krso.call(operation, args)
            assert reply.value in {Ckr.USER_NOT_LOGGED_IN, Ckr.WRAPPING_KEY_HANDLE_INVALID}
            assert reply.result is None

    member.run(scenario)


def test_each_missing_key_has_its_name(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek, missing = await wrapping_key(tenant), os.urandom(16)
        for args, value in (
            (wrap(tenant, missing, kek), Ckr.WRAPPING_KEY_HANDLE_INVALID),
            (wrap(tenant, kek, missing), Ckr.KEY_HANDLE_INVALID),
            (wrap(tenant, kek, kek), Ckr.KEY_UNEXTRACTABLE),
        ):
            assert (await tenant.client.call(Operation.WRAP_KEY, args)).value == value
        data = await create(tenant, [(int(Cka.CLASS), ulong(Cko.DATA))])
        reply = await tenant.client.call(Operation.WRAP_KEY, wrap(tenant, kek, data))
        assert reply.value == Ckr.KEY_HANDLE_INVALID
        coming = unwrap(tenant, data, SECRET, None)
        reply = await tenant.client.call(Operation.UNWRAP_KEY, coming)
        assert reply.value == Ckr.UNWRAPPING_KEY_HANDLE_INVALID

    member.run(scenario)


def counted(tenant: Tenant, use: Use, mechanism: Ckm) -> tuple[int, int]:
    """Return what the workers counted: successes and failures."""
    readings = [each for meters in tenant.bench.meters for each in meters.readings()]
    found = [each for each in readings if (each.use, each.mechanism) == (use, mechanism)]
    return sum(sum(each.classes) for each in found), sum(each.failures for each in found)


def test_wrapping_unwrapping_and_derivation_are_counted_by_mechanism(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await wrapping_key(tenant)
        base = [*SECRET, *READABLE, (int(Cka.VALUE), PLAIN), (int(Cka.DERIVE), TRUE)]
        key = await create(tenant, base)
        fixed = await create(tenant, [*SECRET, (int(Cka.VALUE), PLAIN)])
        private = [(int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.RSA))]
        kwp, xor = Ckm.AES_KEY_WRAP_KWP, Ckm.XOR_BASE_AND_DATA
        text = msgspec.Raw(msgspec.msgpack.encode(b"data"))
        watched = ((Use.WRAP, kwp), (Use.UNWRAP, kwp), (Use.DERIVE, xor))
        before = [counted(tenant, *each) for each in watched]
        for operation, args in (
            (Operation.WRAP_KEY, wrap(tenant, kek, key)),
            (Operation.WRAP_KEY, wrap(tenant, kek, fixed)),
            (Operation.UNWRAP_KEY, unwrap(tenant, kek, [*SECRET, *READABLE], None)),
            (Operation.UNWRAP_KEY, unwrap(tenant, kek, SECRET[:1], None)),
            (Operation.UNWRAP_KEY, unwrap(tenant, kek, private, None)),
            (Operation.DERIVE_KEY, wire.DeriveKey(tenant.keyring, key, int(xor), text, [], None)),
            (Operation.DERIVE_KEY, wire.DeriveKey(tenant.keyring, kek, int(xor), text, [], None)),
        ):
            await tenant.client.call(operation, args)
        after = [counted(tenant, *each) for each in watched]
        new = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
        assert new == [(1, 1), (1, 2), (1, 1)]

    member.run(scenario)
