"""Keyrings that are assigned to clients: what a worker keeps from whom, and from when on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from conclave import faults
from conclave.errors import NotAllowed, NotFound
from conclave.service import wire
from conclave.service.assigned import NO_KEYRING
from conclave.service.client_messages import (
    AssignedKeyringList,
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.quiet import Nothing, Quiet
from conclave.service.wire import Operation
from tests.service.conftest import Member, Tenant, make_tenant
from tests.support.worker_bench import WireClient

NOT_THERE = faults.KEYRING_NOT_FOUND.ckr
OF_A_KEYRING = sorted(set(Operation) - NO_KEYRING - {Operation.FORWARD})


async def ask(tenant: Tenant, method: str, params: Quiet) -> None:
    await tenant.bench.daemon.call(method, params, timeout_seconds=60)


def client_of(tenant: Tenant) -> str:
    return str(UUID(bytes=bytes(tenant.identity.client_id)))


def keyring_of(tenant: Tenant) -> str:
    return str(UUID(bytes=tenant.keyring))


async def assign(tenant: Tenant, *keyrings: str) -> None:
    params = AssignKeyrings(client_id=client_of(tenant), keyrings=list(keyrings))
    await ask(tenant, "assign_keyrings", params)


@asynccontextmanager
async def assigned_mode(tenant: Tenant) -> AsyncIterator[None]:
    await ask(tenant, "set_assignment_mode", AssignmentMode(assigned=True))
    try:
        yield
    finally:
        await ask(tenant, "set_assignment_mode", AssignmentMode(assigned=False))


async def slots(client: WireClient) -> set[bytes]:
    return {token[1] for token in await client.ok(Operation.LIST_TOKENS, wire.ListTokens(0, 0))}


def with_tenant(scenario: Callable[[Tenant], Awaitable[None]]) -> Callable[[Member], None]:
    def test(member: Member) -> None:
        member.run(scenario)

    test.__name__ = scenario.__name__
    return test


@with_tenant
async def test_a_client_sees_and_uses_what_is_assigned_to_it_alone(tenant: Tenant) -> None:
    sign = await tenant.signing()
    stranger = await make_tenant(tenant.bench)
    assert {tenant.keyring, stranger.keyring} <= await slots(tenant.client)
    await assign(tenant, keyring_of(tenant))
    async with assigned_mode(tenant):
        assert await slots(tenant.client) == {tenant.keyring}
        assert await slots(stranger.client) == set()
        await tenant.client.ok(Operation.SIGN, sign)
        refused = await stranger.client.call(Operation.TOKEN_INFO, wire.TokenInfo(stranger.keyring))
        assert refused.value == NOT_THERE
    await stranger.client.ok(Operation.TOKEN_INFO, wire.TokenInfo(stranger.keyring))


@with_tenant
async def test_a_change_holds_for_open_connections_once_it_is_acknowledged(tenant: Tenant) -> None:
    sign = await tenant.signing()
    others = [await tenant.another() for _ in range(2)]
    # One that leaves the choice of members to this one: its requests take another way.
    spreading = await tenant.bench.connect(tenant.identity, direct=False)
    await tenant.login(spreading)
    others.append(spreading)
    async with assigned_mode(tenant):
        for client in (tenant.client, *others):
            assert (await client.call(Operation.SIGN, sign)).value == NOT_THERE
        await assign(tenant, keyring_of(tenant))
        for client in (tenant.client, *others):
            await client.ok(Operation.SIGN, sign)
        take = TakeKeyring(client_id=client_of(tenant), keyring=keyring_of(tenant))
        await ask(tenant, "take_keyring", take)
        for client in (tenant.client, *others):
            assert (await client.call(Operation.SIGN, sign)).value == NOT_THERE
        with pytest.raises(NotFound):
            await ask(tenant, "take_keyring", take)


@with_tenant
async def test_no_operation_reaches_a_keyring_of_others(tenant: Tenant) -> None:
    """Whatever follows the keyring's id, and whatever operation is added, none gets that far."""
    async with assigned_mode(tenant):
        for operation in OF_A_KEYRING:
            for arguments in ([tenant.keyring], [tenant.keyring, *[b""] * 7], [b""]):
                reply = await tenant.client.call(operation, arguments)
                assert reply.value == NOT_THERE, operation.name


@with_tenant
async def test_what_cannot_be_assigned_is_refused_whole(tenant: Tenant) -> None:
    with pytest.raises(NotFound):
        await assign(tenant, keyring_of(tenant), "no such keyring")
    named = NamedClient(client_id=client_of(tenant))
    found: AssignedKeyringList = await tenant.bench.daemon.call("assigned_keyrings", named)
    assert found.keyrings == []
    for name, error in (("nobody", NotFound), (str(UUID(int=1)), NotAllowed)):
        params = AssignKeyrings(client_id=name, keyrings=[keyring_of(tenant)])
        with pytest.raises(error):
            await ask(tenant, "assign_keyrings", params)
    mode: AssignmentMode = await tenant.bench.daemon.call("assignment_mode", Nothing())
    assert mode.assigned is False
