"""FORWARD: a member spreads the requests of clients that talk to it alone, and loses none."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from conclave import faults
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.ids import RowRevision
from conclave.keyring.attributes import TRUE, ulong
from conclave.service import wire
from conclave.service.client_messages import AssignKeyrings, AssignmentMode, TakeKeyring
from conclave.service.wire import BEHIND, Operation
from tests.service.conftest import Tenant, make_tenant
from tests.service.test_service_worker_faults import revoke_in_the_store
from tests.support.second_member import SecondMember
from tests.support.worker_bench import NIL, Reply, WireClient, WorkerBench, worker_bench

CONCURRENT = 16
REQUESTS = 3000
"""So many that the first ones, for which the other member reads keys and lists, weigh little."""


def run(
    tmp_path: Path,
    scenario: Callable[[Tenant, SecondMember], Awaitable[None]],
    *,
    group: str = "local",
) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            other = SecondMember(bench, group)
            try:
                other.enrol()
                tenant = await make_tenant(bench)
                other.start()
                await scenario(tenant, other)
            finally:
                other.close()

    asyncio.run(bounded())


async def rsa_key(tenant: Tenant) -> tuple[rsa.RSAPublicKey, bytes]:
    """Make an RSA key of 3072 bits, whose signature costs about two milliseconds."""
    public = [(int(Cka.MODULUS_BITS), ulong(3072)), (int(Cka.TOKEN), TRUE)]
    private = [(int(Cka.TOKEN), TRUE), (int(Cka.SIGN), TRUE)]
    write = tenant.bench.write_arguments()
    args = wire.GenerateKeyPair(
        tenant.keyring, int(Ckm.RSA_PKCS_KEY_PAIR_GEN), NIL, public, private, write
    )
    made = await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args)
    question = wire.GetAttributes(tenant.keyring, made[0][0], [int(Cka.MODULUS)])
    (answer,) = await tenant.client.ok(Operation.GET_ATTRIBUTES, question)
    numbers = rsa.RSAPublicNumbers(65537, int.from_bytes(answer[2]))
    return numbers.public_key(), made[1][0]


def sign_arguments(tenant: Tenant, reference: bytes, data: bytes) -> wire.UseKey:
    return wire.UseKey(tenant.keyring, reference, int(Ckm.SHA256_RSA_PKCS), NIL, data)


async def spreading_client(tenant: Tenant) -> WireClient:
    client = await tenant.bench.connect(tenant.identity, direct=False)
    await tenant.login(client)
    return client


async def sign_many(
    tenant: Tenant, client: WireClient, key: tuple[rsa.RSAPublicKey, bytes], count: int
) -> None:
    """Sign `count` times, CONCURRENT at once, and verify each signature."""
    numbers = iter(range(count))

    async def signer() -> None:
        for number in numbers:
            data = f"message {number}".encode()
            args = sign_arguments(tenant, key[1], data)
            reply = await client.send(Operation.SIGN, args, ticket=client.ticket)
            assert reply.value == 0, hex(reply.value)
            key[0].verify(reply.result, data, padding.PKCS1v15(), SHA256())

    await asyncio.gather(*(signer() for _ in range(CONCURRENT)))


async def connected(tenant: Tenant, client: WireClient, key: Any) -> None:
    """Wait until the first worker has asked the second one for something."""
    log = tenant.bench.directory / "worker-0.log"
    async with asyncio.timeout(60):
        while "A connection to member" not in log.read_text():
            await sign_many(tenant, client, key, CONCURRENT)


async def counts(bench: WorkerBench) -> tuple[int, int]:
    """End the first worker; return how many requests it had done elsewhere, and how many here."""
    process = bench.processes["worker-0"]
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 20)
    lines = (bench.directory / "worker-0.log").read_text().splitlines()
    (message,) = [json.loads(line)["message"] for line in lines if "were spread" in line]
    elsewhere, here = re.findall("[0-9]+", message)
    return int(elsewhere), int(here)


def test_two_members_of_a_group_share_a_saturating_load(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        key = await rsa_key(tenant)
        other.replay(tenant.keyring)
        client = await spreading_client(tenant)
        await connected(tenant, client, key)
        await sign_many(tenant, client, key, REQUESTS)
        elsewhere, here = await counts(tenant.bench)
        assert elsewhere + here > REQUESTS // 2
        assert 0.35 <= elsewhere / (elsewhere + here) <= 0.65

    run(tmp_path, scenario)


def test_section_8_rule_8_another_group_serves_nothing_while_the_own_one_does(
    tmp_path: Path,
) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        key = await rsa_key(tenant)
        other.replay(tenant.keyring)
        client = await spreading_client(tenant)
        await connected(tenant, client, key)
        await sign_many(tenant, client, key, 100)
        # Its key alone is away: the other group is all that serves.
        tenant.bench.page.set_authorized(False)
        async with asyncio.timeout(60):
            args = sign_arguments(tenant, key[1], b"data")
            while (await client.send(Operation.SIGN, args, ticket=client.ticket)).value:
                await client.call(Operation.PING)
        elsewhere, _ = await counts(tenant.bench)
        assert elsewhere == 1

    run(tmp_path, scenario, group="standby")


def test_no_request_fails_when_the_other_member_dies_hangs_or_falls_behind(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        key = await rsa_key(tenant)
        other.replay(tenant.keyring)
        client = await spreading_client(tenant)
        await connected(tenant, client, key)
        process = tenant.bench.processes[other.name]
        events: list[Callable[[], None]] = [
            lambda: other.page.set_authorized(False),
            lambda: other.page.set_authorized(True),
            lambda: tenant.bench.page.set_log_position(RowRevision(1_000_000)),
            lambda: process.send_signal(signal.SIGSTOP),
            lambda: process.send_signal(signal.SIGCONT),
            lambda: tenant.bench.kill(other.name),
        ]
        for event in events:
            load = asyncio.create_task(sign_many(tenant, client, key, REQUESTS // 12))
            await client.ok(Operation.PING)
            event()
            await load

    run(tmp_path, scenario)


# ------------------------------------------------------------------ the receiver


def forward_arguments(tenant: Tenant, body: Any, client_id: bytes | None = None) -> wire.Forward:
    encoded = msgspec.msgpack.encode(body)
    asserted = tenant.identity.client_id if client_id is None else client_id
    return wire.Forward(asserted, "127.0.0.1", encoded, os.urandom(16))


def test_c11_a_member_speaks_for_a_registered_client_until_it_is_revoked(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        public, private = await tenant.ec_key()
        sign = [7, int(Operation.SIGN), tenant.client.ticket, tenant.sign_arguments(private)]
        peer = await other.call_first()
        good = forward_arguments(tenant, sign)
        inner = msgspec.msgpack.decode(await peer.ok(Operation.FORWARD, good), type=Reply)
        assert (inner.request_id, inner.value) == (7, 0)
        verify = tenant.verify_arguments(public, inner.result)
        await tenant.client.ok(Operation.VERIFY, verify)
        stranger = forward_arguments(tenant, sign, os.urandom(16))
        assert (await peer.call(Operation.FORWARD, stranger)).value == Ckr.TOKEN_NOT_PRESENT
        thief = (await tenant.bench.identity()).client_id
        stolen = forward_arguments(tenant, sign, thief)
        inner = msgspec.msgpack.decode(await peer.ok(Operation.FORWARD, stolen), type=Reply)
        assert inner.value == Ckr.USER_NOT_LOGGED_IN
        ahead = tenant.bench.page.log_position() + 1
        assert (await peer.send(Operation.FORWARD, good, min_position=ahead)).value == BEHIND
        revoke_in_the_store(tenant.bench, tenant.identity.client_id)
        assert (await peer.call(Operation.FORWARD, good)).value == Ckr.TOKEN_NOT_PRESENT

    run(tmp_path, scenario)


def test_a_member_reaches_no_keyring_that_its_client_has_lost(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        client, keyring = (
            str(UUID(bytes=tenant.identity.client_id)),
            str(UUID(bytes=tenant.keyring)),
        )
        sign = [7, int(Operation.SIGN), tenant.client.ticket, await tenant.signing()]
        peer, forwarded = await other.call_first(), forward_arguments(tenant, sign)

        async def value() -> int:
            answer = await peer.ok(Operation.FORWARD, forwarded)
            return msgspec.msgpack.decode(answer, type=Reply).value

        assert await value() == 0
        daemon = tenant.bench.daemon
        await daemon.call("set_assignment_mode", AssignmentMode(assigned=True))
        assert await value() == faults.KEYRING_NOT_FOUND.ckr
        given = AssignKeyrings(client_id=client, keyrings=[keyring])
        await daemon.call("assign_keyrings", given)
        assert await value() == 0
        await daemon.call("take_keyring", TakeKeyring(client_id=client, keyring=keyring))
        assert await value() == faults.KEYRING_NOT_FOUND.ckr

    run(tmp_path, scenario)


def test_c11_a_client_speaks_for_nobody(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        _, private = await tenant.ec_key()
        sign = [7, int(Operation.SIGN), tenant.client.ticket, tenant.sign_arguments(private)]
        for direct in (True, False):
            client = await tenant.bench.connect(tenant.identity, direct=direct)
            forged = client.send(Operation.FORWARD, forward_arguments(tenant, sign))
            assert await client.closed()
            assert isinstance(forged.exception(), ConnectionResetError)
        # Nor does a member ask for itself, or for what changes something.
        random = [7, int(Operation.RANDOM), None, wire.Random(16)]
        for operation, args in (
            (Operation.SIGN, tenant.sign_arguments(private)),
            (Operation.FORWARD, forward_arguments(tenant, random)),
        ):
            peer = await other.call_first()
            refused = peer.send(operation, args)
            assert await peer.closed()
            assert isinstance(refused.exception(), ConnectionResetError)

    run(tmp_path, scenario)


def test_rule_c3_a_member_that_was_removed_is_refused(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        _, private = await tenant.ec_key()
        sign = [7, int(Operation.SIGN), tenant.client.ticket, tenant.sign_arguments(private)]
        peer = await other.call_first()
        good = forward_arguments(tenant, sign)
        await peer.ok(Operation.FORWARD, good)
        other.forget()
        refused = peer.send(Operation.FORWARD, good)
        assert await peer.closed()
        assert isinstance(refused.exception(), ConnectionResetError)

    run(tmp_path, scenario)
