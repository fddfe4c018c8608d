"""What a worker tells of its member and of the others: state, position, list, Read-Only."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from conclave.clock import boot_time_ms
from conclave.crypto.standard import Ckm
from conclave.errors import Ckr
from conclave.service import wire
from conclave.service.page import NO_LEASE_END
from conclave.service.token_handlers import CKF_WRITE_PROTECTED
from conclave.service.wire import BEHIND, Operation, Standing
from tests.service.conftest import Member, Tenant, make_tenant
from tests.support.worker_bench import WireClient, WorkerBench, worker_bench


def run(tmp_path: Path, scenario: Callable[[WorkerBench], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path, **options) as bench:
            await scenario(bench)

    asyncio.run(bounded())


async def members(client: WireClient) -> wire.MemberList:
    return msgspec.convert(await client.ok(Operation.MEMBERS), wire.MemberList)


def test_c17_an_answer_tells_the_state_when_it_differs_from_what_was_told(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        page = tenant.bench.page
        client = await tenant.bench.connect(tenant.identity)
        assert client.state == wire.MemberState(
            *page.epoch(), page.log_position(), page.members_version(), True
        )
        assert (await client.call(Operation.PING)).state is None
        page.bump_members()
        first, second = client.send(Operation.PING), client.send(Operation.PING)
        assert (await first).state is not None
        assert (await second).state is None
        assert client.state.members_version == page.members_version()
        tenant.client.state = None
        await tenant.aes_key()
        assert tenant.client.state.log_position == page.log_position()

    member.run(scenario)


def test_c17_the_answer_to_a_write_tells_a_position_that_covers_it(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        before = tenant.client.state.log_position
        await tenant.aes_key()
        position = tenant.client.state.log_position
        assert position > before
        reply = await tenant.client.send(Operation.PING, min_position=position)
        assert reply.value == 0

    member.run(scenario)


def test_c17_a_member_that_is_behind_does_nothing(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        _, private = await tenant.ec_key()
        ahead = tenant.bench.page.log_position() + 1
        sign = tenant.sign_arguments(private)
        reply = await client.send(Operation.SIGN, sign, ticket=client.ticket, min_position=ahead)
        assert (reply.value, reply.result) == (BEHIND, None)
        template = [(0, b"\0" * 8), (3, b"late")]
        write = tenant.bench.write_arguments()
        create = wire.CreateObject(tenant.keyring, template, write)
        reply = await client.send(
            Operation.CREATE_OBJECT, create, ticket=client.ticket, min_position=ahead
        )
        assert reply.value == BEHIND
        assert await tenant.find(b"late") == []
        position = ahead - 1
        reply = await client.send(Operation.SIGN, sign, ticket=client.ticket, min_position=position)
        assert reply.value == 0

    member.run(scenario)


def test_members_are_listed_with_their_keys_and_states(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        listed = await members(tenant.client)
        assert listed.version == bench.page.members_version() == tenant.client.state.members_version
        assert listed.local_group == "local"
        (only,) = listed.members
        assert (only.member_id, only.address, only.crypto_port) == (
            bench.member_id, bench.address, 50052,
        )  # fmt: skip
        assert only.key_sha256 == hashlib.sha256(bench.spki).digest()
        assert only.state == Standing.READ_WRITE
        bench.page.set_lease_end(boot_time_ms())
        assert (await members(tenant.client)).members[0].state == Standing.READ_ONLY
        bench.page.set_lease_end(NO_LEASE_END)
        bench.kill("cluster")
        bench.page.bump_members()
        # What the store says is enough, though it must be asked each time.
        assert (await members(tenant.client)).members[0].member_id == bench.member_id
        bench.start_cluster()
        await bench.ready()
        listed = await members(tenant.client)
        assert listed.members[0].state == Standing.NOT_AUTHORIZED

    run(tmp_path, scenario)


def test_c16_a_token_is_write_protected_while_the_member_is_read_only(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        async def flags() -> set[int]:
            details = await tenant.client.ok(Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring))
            tokens = await tenant.client.ok(Operation.LIST_TOKENS, wire.ListTokens(0, 0))
            mine = [token for token in tokens if token[1] == tenant.keyring]
            return {token[4] & CKF_WRITE_PROTECTED for token in (details[0], *mine)}

        assert await flags() == {0}
        page = tenant.bench.page
        page.set_lease_end(boot_time_ms())
        try:
            assert await flags() == {CKF_WRITE_PROTECTED}
            assert not tenant.client.state.read_write
        finally:
            page.set_lease_end(NO_LEASE_END)
        assert await flags() == {0}
        assert tenant.client.state.read_write

    member.run(scenario)


def test_c17_a_member_cut_off_for_too_long_uses_no_private_key(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        # The end of the lease is told in boot time, of which the machine may have little yet.
        limit_seconds = min(3600, boot_time_ms() // 1000)
        bench.read_only_limit_seconds = limit_seconds
        bench.start_worker()
        tenant = await make_tenant(bench)
        public, private = await tenant.ec_key()
        secret = await tenant.aes_key()
        sign = tenant.sign_arguments(private)
        signature = await tenant.client.ok(Operation.SIGN, sign)
        verify = tenant.verify_arguments(public, signature)
        parameter = msgspec.Raw(msgspec.msgpack.encode(wire.GcmParameter(bytes(12), b"", 128)))
        gcm = wire.UseKey(tenant.keyring, secret, int(Ckm.AES_GCM), parameter, b"data")
        await tenant.client.ok(Operation.ENCRYPT, gcm)
        bench.page.set_lease_end(boot_time_ms())
        await tenant.client.ok(Operation.SIGN, sign)
        bench.page.set_lease_end(boot_time_ms() - limit_seconds * 1000)
        for _ in range(2):
            reply = await tenant.client.call(Operation.SIGN, sign)
            assert reply.value == Ckr.DEVICE_ERROR
            assert (await tenant.client.call(Operation.ENCRYPT, gcm)).value == Ckr.DEVICE_ERROR
            await tenant.client.ok(Operation.VERIFY, verify)
        bench.page.set_lease_end(NO_LEASE_END)
        await tenant.client.ok(Operation.SIGN, sign)

    run(tmp_path, scenario, workers=0)
