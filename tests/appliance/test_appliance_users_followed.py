"""Users in a cluster whose processes run: every change is carried, whoever died meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from conclave.appliance.appliance import Appliance
from conclave.appliance.user_rules import UserRole
from conclave.service.messages import UserRecords
from conclave.service.quiet import Nothing
from tests.support.appliance_bench import (
    DEADLINE_SECONDS,
    authorize,
    make_authorized_cluster,
    make_config,
    with_appliance,
)
from tests.support.hsm_bench import SO

GOOD = "Correct-Horse-9"


async def agreed(appliance: Appliance) -> None:
    """Wait until the cluster store has this appliance's users."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer: UserRecords = await appliance.cluster.call("list_users", Nothing())
            if answer.users == appliance.users.records():
                return
            await asyncio.sleep(0.02)


@pytest.mark.system
def test_users_are_in_the_cluster_store_and_follow_every_change(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        users = appliance.users

        async def at_once() -> None:
            answer: UserRecords = await appliance.cluster.call("list_users", Nothing())
            assert answer.users == users.records()

        await users.create("before", GOOD, role=UserRole.MONITOR, source="test")
        await make_authorized_cluster(appliance)
        await agreed(appliance)
        await users.create("joe", GOOD, role=UserRole.ADMIN, source="test")
        await at_once()
        await users.set_enabled("joe", enabled=False)
        await users.delete("before")
        await at_once()
        await appliance.cluster.stop()
        await users.create("while-stopped", GOOD, role=UserRole.MONITOR, source="test")
        await appliance.cluster.start()
        await agreed(appliance)
        assert users.get("while-stopped")
        await authorize(appliance)
        await agreed(appliance)

    with_appliance(make_config(tmp_path), scene)


@pytest.mark.system
def test_a_change_waits_for_a_process_that_crashed_and_is_made_by_the_next_one(
    tmp_path: Path,
) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await agreed(appliance)
        process = appliance.pids()["cluster"]
        os.kill(process, signal.SIGSTOP)
        change = asyncio.create_task(
            appliance.users.create("joe", GOOD, role=UserRole.ADMIN, source="test")
        )
        try:
            for _ in range(20):
                await asyncio.sleep(0)
            assert not change.done()
            assert "joe" not in {user.user_id for user in appliance.users.all()}
        finally:
            os.kill(process, signal.SIGKILL)
        await change
        await agreed(appliance)
        assert appliance.users.get("joe")

    with_appliance(make_config(tmp_path), scene)


@pytest.mark.system
def test_users_are_told_to_the_cluster_that_follows_a_factory_reset(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await agreed(appliance)
        await appliance.cluster.factory_reset()
        (address,) = appliance.config.interfaces.values()
        await appliance.cluster.set_core_address(address)
        await appliance.cluster.start()
        await appliance.users.create("joe", GOOD, role=UserRole.MONITOR, source="test")
        await appliance.cluster.create_cluster("again", SO)
        await agreed(appliance)

    with_appliance(make_config(tmp_path), scene)
