"""CKA_TRUSTED over real TLS: the KRSO alone gives it, and what it opens."""

from __future__ import annotations

import msgspec
import pytest

from conclave.crypto.standard import Cka, Ckg, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.wire import Operation, Role
from tests.service.conftest import Member, Tenant
from tests.support.crypto_vectors import packed
from tests.support.worker_bench import NIL, WireClient

OAEP = msgspec.Raw(packed(int(Ckm.SHA256), int(Ckg.MGF1_SHA256), b""))
CAREFUL = [
    (int(Cka.CLASS), ulong(Cko.SECRET_KEY)),
    (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET)),
    (int(Cka.VALUE), bytes(16)),
    (int(Cka.EXTRACTABLE), TRUE),
    (int(Cka.WRAP_WITH_TRUSTED), TRUE),
]
TRUST = [(int(Cka.TRUSTED), TRUE)]


async def rsa_public(tenant: Tenant, *, token: bool) -> bytes:
    place = (int(Cka.TOKEN), TRUE if token else FALSE)
    public = [place, (int(Cka.MODULUS_BITS), ulong(2048)), (int(Cka.WRAP), TRUE)]
    private = [(int(Cka.TOKEN), FALSE)]
    write = tenant.bench.write_arguments() if token else None
    args = wire.GenerateKeyPair(
        tenant.keyring, int(Ckm.RSA_PKCS_KEY_PAIR_GEN), NIL, public, private, write
    )
    made = await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args)
    reference: bytes = made[0][0]
    return reference


async def change(
    tenant: Tenant, client: WireClient, reference: bytes, template: list[tuple[int, bytes]]
) -> int:
    write = tenant.bench.write_arguments()
    args = wire.ChangeObject(tenant.keyring, reference, template, write)
    return (await client.call(Operation.SET_ATTRIBUTES, args)).value


async def wrap(tenant: Tenant, kek: bytes) -> int:
    made = await tenant.client.ok(
        Operation.CREATE_OBJECT, wire.CreateObject(tenant.keyring, CAREFUL, None)
    )
    args = wire.WrapKey(tenant.keyring, kek, int(Ckm.RSA_PKCS_OAEP), OAEP, made[0])
    return (await tenant.client.call(Operation.WRAP_KEY, args)).value


def test_the_krso_alone_says_what_is_trusted(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await rsa_public(tenant, token=True)
        assert await wrap(tenant, kek) == Ckr.KEY_NOT_WRAPPABLE
        assert await change(tenant, tenant.client, kek, TRUST) == Ckr.ATTRIBUTE_READ_ONLY
        krso = await tenant.another(role=Role.KRSO)
        assert await change(tenant, krso, kek, TRUST) == Ckr.OK
        assert await wrap(tenant, kek) == Ckr.OK
        assert await change(tenant, tenant.client, kek, [(int(Cka.LABEL), b"x")]) == Ckr.OK
        assert await wrap(tenant, kek) == Ckr.OK
        assert await change(tenant, krso, kek, [(int(Cka.TRUSTED), FALSE)]) == Ckr.OK
        assert await wrap(tenant, kek) == Ckr.KEY_NOT_WRAPPABLE

    member.run(scenario)


@pytest.mark.parametrize(
    "template",
    [
        [(int(Cka.LABEL), b"x")],
        [*TRUST, (int(Cka.LABEL), b"x")],
        [(int(Cka.WRAP), TRUE)],
        [],
    ],
)
def test_the_krso_changes_nothing_else(member: Member, template: list[tuple[int, bytes]]) -> None:
    async def scenario(tenant: Tenant) -> None:
        kek = await rsa_public(tenant, token=True)
        krso = await tenant.another(role=Role.KRSO)
        assert await change(tenant, krso, kek, template) == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)


def test_the_krso_reaches_no_private_key_to_trust_it(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        private = await tenant.aes_key()
        krso = await tenant.another(role=Role.KRSO)
        assert await change(tenant, krso, private, TRUST) == Ckr.OBJECT_HANDLE_INVALID
        stranger = await tenant.another(role=None)
        assert await change(tenant, stranger, private, TRUST) == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)
