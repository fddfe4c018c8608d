"""The straight line, over real TLS: who may use a key, and what ends that at once."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.service import wire
from conclave.service.messages import NamedKeyring
from conclave.service.wire import Operation, Role
from tests.service.conftest import Member, Tenant, make_keyring
from tests.support.cluster_bench import PASSWORD
from tests.support.worker_bench import NIL, WireClient

NEW_PASSWORD = b"another-password"


async def verified_outside(tenant: Tenant, public: bytes, signature: bytes) -> None:
    """Check a signature of b"data" with a library that knows nothing of the worker."""
    args = wire.GetAttributes(tenant.keyring, public, [int(Cka.EC_POINT)])
    ((_, value, point),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
    assert value == 0
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[2:])
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    key.verify(encode_dss_signature(r, s), b"data", ec.ECDSA(SHA256()))


@pytest.mark.parametrize("token", [True, False])
def test_a_signature_is_right_and_a_wrong_one_is_told(member: Member, token: bool) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await tenant.ec_key(token=token)
        signature = await tenant.client.ok(Operation.SIGN, tenant.sign_arguments(private))
        await verified_outside(tenant, public, signature)
        args = tenant.verify_arguments(public, signature)
        assert (await tenant.client.call(Operation.VERIFY, args)).value == 0
        assert (await tenant.client.call(Operation.VERIFY, args, ticket=None)).value == 0
        wrong = tenant.verify_arguments(public, signature[:-1] + bytes([signature[-1] ^ 1]))
        reply = await tenant.client.call(Operation.VERIFY, wrong)
        assert reply.value == Ckr.SIGNATURE_INVALID

    member.run(scenario)


def test_encryption_goes_there_and_back(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        gcm = wire.GcmParameter(os.urandom(12), b"context", 128)
        for token in (True, False):
            key = await tenant.aes_key(token=token)
            plain = os.urandom(5000)
            head = [tenant.keyring, key, int(Ckm.AES_GCM), gcm]
            sealed = await tenant.client.ok(Operation.ENCRYPT, [*head, plain])
            assert await tenant.client.ok(Operation.DECRYPT, [*head, sealed]) == plain
            changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
            reply = await tenant.client.call(Operation.DECRYPT, [*head, changed])
            assert reply.value == Ckr.ENCRYPTED_DATA_INVALID

    member.run(scenario)


async def refused(tenant: Tenant, client: WireClient, args: Any, **options: Any) -> int:
    reply = await client.call(Operation.SIGN, args, **options)
    assert reply.result is None
    return reply.value


def test_a_private_key_works_for_nobody_but_its_krco(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        args = await tenant.signing()
        assert await refused(tenant, tenant.client, args, ticket=None) == Ckr.USER_NOT_LOGGED_IN
        for ticket in (b"", b"\0" * 200, os.urandom(250)):
            value = await refused(tenant, tenant.client, args, ticket=ticket)
            assert value == Ckr.USER_NOT_LOGGED_IN
        krso = await tenant.another(role=Role.KRSO)
        assert await refused(tenant, krso, args) == Ckr.KEY_HANDLE_INVALID
        stranger = await tenant.bench.connect(await tenant.bench.identity("stranger"))
        value = await refused(tenant, stranger, args, ticket=tenant.client.ticket)
        assert value == Ckr.USER_NOT_LOGGED_IN
        assert await tenant.client.ok(Operation.SIGN, args)

    member.run(scenario)


def test_a_ticket_opens_no_other_keyring(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        other = await make_keyring(tenant.bench, await tenant.another(role=None))
        args = wire.UseKey(other, private, int(Ckm.ECDSA_SHA256), NIL, b"data")
        assert await refused(tenant, tenant.client, args) == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)


def test_unknown_keyrings_and_objects_are_named_as_such(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        missing = tenant.sign_arguments(os.urandom(16))
        assert await refused(tenant, tenant.client, missing) == Ckr.KEY_HANDLE_INVALID
        forged = tenant.sign_arguments(b"\x01" + os.urandom(200))
        assert await refused(tenant, tenant.client, forged) == Ckr.KEY_HANDLE_INVALID
        for keyring in (os.urandom(16), b"", os.urandom(400)):
            args = wire.UseKey(keyring, os.urandom(16), int(Ckm.ECDSA), NIL, b"")
            assert await refused(tenant, tenant.client, args) == Ckr.KEYRING_NOT_FOUND

    member.run(scenario)


def test_rule_c13_a_logout_ends_the_ticket_on_every_worker(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        _, passing = await tenant.ec_key(token=False)
        ticket = tenant.client.ticket
        clients = [tenant.client, *[await tenant.another(role=None) for _ in range(4)]]
        for client in clients:
            args = tenant.sign_arguments(private)
            assert (await client.call(Operation.SIGN, args, ticket=ticket)).value == 0
        await tenant.client.ok(Operation.LOGOUT)
        for client in clients:
            value = await refused(tenant, client, tenant.sign_arguments(private), ticket=ticket)
            assert value == Ckr.USER_NOT_LOGGED_IN
        # Rule C12: what the login held in blobs is gone, also for the next login.
        tenant.client.ticket = None
        await tenant.login()
        value = await refused(tenant, tenant.client, tenant.sign_arguments(passing))
        assert value == Ckr.KEY_HANDLE_INVALID
        assert await tenant.client.ok(Operation.SIGN, tenant.sign_arguments(private))

    member.run(scenario)


def test_a_change_of_password_ends_other_tickets_at_once_and_not_the_callers(
    member: Member,
) -> None:
    async def scenario(tenant: Tenant) -> None:
        args = await tenant.signing()
        other = await tenant.another()
        assert await other.ok(Operation.SIGN, args)
        old = tenant.client.ticket
        change = wire.SetPin(
            tenant.keyring, Role.KRCO, PASSWORD, NEW_PASSWORD, tenant.bench.write_arguments()
        )
        await tenant.client.ok(Operation.SET_PIN, change)
        assert tenant.client.ticket != old
        assert await refused(tenant, other, args) == Ckr.USER_NOT_LOGGED_IN
        assert await tenant.client.ok(Operation.SIGN, args)

    member.run(scenario)


def test_a_deleted_keyring_is_gone_at_once(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        args = await tenant.signing()
        assert await tenant.client.ok(Operation.SIGN, args)
        details = await tenant.client.ok(Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring))
        name = NamedKeyring(name=details[0][2])
        await tenant.bench.daemon.call("delete_keyring", name)
        assert await refused(tenant, tenant.client, args) == Ckr.KEYRING_NOT_FOUND
        listed = await tenant.client.ok(Operation.LIST_TOKENS, wire.ListTokens(0, 0))
        assert tenant.keyring not in [token[1] for token in listed]

    member.run(scenario)


def test_a_thousand_pipelined_requests_are_each_answered(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await tenant.ec_key()
        client = tenant.client
        args = tenant.sign_arguments(private)
        futures = [client.send(Operation.SIGN, args, ticket=client.ticket) for _ in range(1000)]
        replies = [await future for future in futures]
        assert {reply.value for reply in replies} == {0}
        assert len({reply.result for reply in replies}) == 1000
        for reply in replies[::100]:
            await verified_outside(tenant, public, reply.result)

    member.run(scenario)
