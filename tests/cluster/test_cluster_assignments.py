"""Assignments between members: a change holds on all of them once it is acknowledged on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from uuid import UUID

import pytest

from conclave import faults
from conclave.errors import NotFound
from conclave.ids import ClientId
from conclave.service.client_messages import (
    AssignedKeyringList,
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.quiet import Quiet
from tests.support.cluster_bench import PASSWORD, ClusterBench
from tests.support.several import several

pytestmark = pytest.mark.system


async def refused(login: Awaitable[bytes]) -> None:
    with pytest.raises(NotFound) as caught:
        await login
    assert caught.value.fault is faults.KEYRING_NOT_FOUND


def test_what_is_taken_at_one_member_is_lost_at_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with several(tmp_path) as house:
            first = await house.first()
            registered = await first.register()
            client = registered.client.client_id
            first.client_id = ClientId(UUID(client).bytes)
            keyring, _ = await first.ready_keyring()
            ring = str(UUID(bytes=keyring))
            second = await house.join(first)
            second.client_id = first.client_id
            await house.all_read_write()

            async def change(at: ClusterBench, method: str, params: Quiet) -> None:
                """Make a change; no worker of any member goes by what was before it."""
                before = [each.page.client_generation() for each in house.members]
                await at.daemon.call(method, params, timeout_seconds=60)
                after = [each.page.client_generation() for each in house.members]
                assert all(now > then for then, now in zip(before, after, strict=True))

            given = AssignKeyrings(client_id=client, keyrings=[ring])
            taken = TakeKeyring(client_id=client, keyring=ring)
            for at, other in ((first, second), (second, first)):
                await change(at, "set_assignment_mode", AssignmentMode(assigned=True))
                for bench in house.members:
                    await refused(bench.login(keyring, PASSWORD))
                await change(other, "assign_keyrings", given)
                for bench in house.members:
                    await bench.login(keyring, PASSWORD)
                await change(at, "take_keyring", taken)
                for bench in house.members:
                    await refused(bench.login(keyring, PASSWORD))
                    named = NamedClient(client_id=client)
                    found: AssignedKeyringList = await bench.daemon.call("assigned_keyrings", named)
                    assert found.keyrings == []
                await change(other, "set_assignment_mode", AssignmentMode(assigned=False))
                for bench in house.members:
                    await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())
