"""Keys that come of other keys, over real TLS: who may, and what a repetition gets."""

from __future__ import annotations

import os

import msgspec
import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.wire import Operation
from tests.service.conftest import Member, Tenant

SECRET = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
IKM = bytes.fromhex("0b" * 22)
SALT = bytes.fromhex("000102030405060708090a0b0c")
INFO = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
OKM = bytes.fromhex(
    "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
)
"""RFC 5869, appendix A.1."""
SALT_KEY = 4


async def base_key(tenant: Tenant, value: bytes, *, token: bool) -> bytes:
    template = [
        *SECRET,
        (int(Cka.DERIVE), TRUE),
        (int(Cka.VALUE), value),
        (int(Cka.TOKEN), TRUE if token else FALSE),
    ]
    write = tenant.bench.write_arguments() if token else None
    args = wire.CreateObject(tenant.keyring, template, write)
    made: list[bytes] = await tenant.client.ok(Operation.CREATE_OBJECT, args)
    return made[0]


def hkdf(
    tenant: Tenant,
    base: bytes,
    salt: bytes,
    write: wire.Write | None,
    *template: tuple[int, bytes],
) -> wire.DeriveKey:
    choice = wire.HkdfParameter(True, True, int(Ckm.SHA256), SALT_KEY, INFO, salt)
    parameter = msgspec.Raw(msgspec.msgpack.encode(choice))
    size = (int(Cka.VALUE_LEN), ulong(len(OKM)))
    whole = [*READABLE, size, *template]
    return wire.DeriveKey(tenant.keyring, base, int(Ckm.HKDF_DERIVE), parameter, whole, write)


@pytest.mark.parametrize("token", [True, False])
def test_a_published_key_is_derived_with_a_key_as_salt(member: Member, token: bool) -> None:
    async def scenario(tenant: Tenant) -> None:
        base = await base_key(tenant, IKM, token=token)
        salt = await base_key(tenant, SALT, token=token)
        write = tenant.bench.write_arguments() if token else None
        where = (int(Cka.TOKEN), TRUE if token else FALSE)
        made = await tenant.client.ok(Operation.DERIVE_KEY, hkdf(tenant, base, salt, write, where))
        assert (len(made[0]) == wire.OBJECT_ID_BYTES) == token
        args = wire.GetAttributes(tenant.keyring, made[0], [int(Cka.VALUE)])
        ((_, _, value),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
        assert value == OKM

    member.run(scenario)


def test_rule_c21_a_repeated_derivation_makes_one_key_even_without_its_base(
    member: Member,
) -> None:
    async def scenario(tenant: Tenant) -> None:
        base = await base_key(tenant, IKM, token=True)
        salt = await base_key(tenant, SALT, token=False)
        label = os.urandom(8).hex().encode()
        more = [(int(Cka.TOKEN), TRUE), (int(Cka.LABEL), label)]
        args = hkdf(tenant, base, salt, tenant.bench.write_arguments(), *more)
        made = await tenant.client.ok(Operation.DERIVE_KEY, args)
        destroy = wire.DestroyObject(tenant.keyring, base, tenant.bench.write_arguments())
        await tenant.client.ok(Operation.DESTROY_OBJECT, destroy)
        assert await tenant.client.ok(Operation.DERIVE_KEY, args) == made
        assert await tenant.find(label) == [made[0]]
        fresh = hkdf(tenant, base, salt, tenant.bench.write_arguments(), *more)
        reply = await tenant.client.call(Operation.DERIVE_KEY, fresh)
        assert reply.value == Ckr.KEY_HANDLE_INVALID

    member.run(scenario)


def test_nobody_derives_without_a_login_or_of_what_is_not_there(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        base = await base_key(tenant, IKM, token=True)
        args = hkdf(tenant, base, base, None)
        reply = await tenant.client.call(Operation.DERIVE_KEY, args, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        public = hkdf(tenant, base, base, None, (int(Cka.PRIVATE), FALSE))
        reply = await tenant.client.call(Operation.DERIVE_KEY, public, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        args = hkdf(tenant, base, os.urandom(16), None)
        reply = await tenant.client.call(Operation.DERIVE_KEY, args)
        assert reply.value == Ckr.KEY_HANDLE_INVALID

    member.run(scenario)
