"""The users in the cluster store: always the newest, and never in the way of a change."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.user_mirroring import UserMirroring
from conclave.appliance.user_rules import UserRole
from conclave.errors import InternalFault, NotAllowed, Unavailable
from conclave.service.messages import Nothing, Quiet, UserRecord, UserRecords
from tests.support.appliance_bench import (
    DEADLINE_SECONDS,
    authorize,
    make_authorized_cluster,
    make_config,
    until,
    with_appliance,
)

GOOD = "Correct-Horse-9"


class Refusing:
    """A cluster service that refuses what it is told to, then takes everything."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.calls = 0
        self.taken: list[list[str]] = []

    async def call(self, method: str, params: Quiet) -> Nothing:
        assert method == "put_users"
        assert isinstance(params, UserRecords)
        self.calls += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken.append([user.user_id for user in params.users])
        return Nothing()


def record(user_id: str) -> UserRecord:
    return UserRecord(user_id, "admin", "", "", b"", True, 0)


def test_what_was_refused_is_logged_and_repeated_with_the_newest_users(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        users = [record("admin")]
        busy = Unavailable(faults.BUSY, "Busy.")
        cluster = Refusing(busy, InternalFault(faults.INTERNAL, "Broken."), RuntimeError("bug"))
        mirroring = UserMirroring(lambda: users, cluster, first_delay_seconds=0.001)
        mirroring.start()
        mirroring.wake()
        users.append(record("joe"))
        await until(lambda: cluster.taken, "the users are taken")
        assert cluster.taken == [["admin", "joe"]]
        await mirroring.stop()

    asyncio.run(scene())
    assert "Busy." in caplog.text
    assert "Broken." in caplog.text
    assert "bug" in caplog.text


def test_a_stopped_service_is_not_asked_again_before_it_wakes_us() -> None:
    async def scene() -> None:
        cluster = Refusing(NotAllowed(faults.SERVICE_STOPPED, "Stopped."))
        mirroring = UserMirroring(lambda: [record("admin")], cluster, first_delay_seconds=0.0)
        mirroring.start()
        mirroring.wake()
        await until(lambda: cluster.calls, "it asks")
        for _ in range(10):
            await asyncio.sleep(0)
        assert (cluster.calls, cluster.taken) == (1, [])
        mirroring.wake()
        await until(lambda: cluster.taken, "the users are taken")
        await mirroring.stop()

    asyncio.run(scene())


async def mirrored(appliance: Appliance, wanted: list[UserRecord]) -> None:
    """Wait until the cluster store has these users."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer: UserRecords = await appliance.cluster.call("list_users", Nothing())
            if answer.users == wanted:
                return
            await asyncio.sleep(0.02)


@pytest.mark.system
def test_users_reach_the_cluster_store_and_follow_every_change(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        users = appliance.users
        await users.create("before", GOOD, role=UserRole.MONITOR, source="test")
        await make_authorized_cluster(appliance)
        await mirrored(appliance, users.records())
        await users.create("joe", GOOD, role=UserRole.ADMIN, source="test")
        await users.set_enabled("joe", enabled=False)
        await mirrored(appliance, users.records())
        await users.delete("before")
        await mirrored(appliance, users.records())
        await appliance.cluster.stop()
        await users.create("while-stopped", GOOD, role=UserRole.MONITOR, source="test")
        await appliance.cluster.start()
        await mirrored(appliance, users.records())
        await authorize(appliance)
        await mirrored(appliance, users.records())

    with_appliance(make_config(tmp_path), scene)


@pytest.mark.system
def test_a_change_during_a_crash_is_made_at_once_and_mirrored_afterwards(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        process = appliance.pids()["cluster"]
        os.kill(process, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                await appliance.users.create("joe", GOOD, role=UserRole.ADMIN, source="test")
        finally:
            os.kill(process, signal.SIGKILL)
        await mirrored(appliance, appliance.users.records())

    with_appliance(make_config(tmp_path), scene)


@pytest.mark.system
def test_users_are_mirrored_into_the_store_that_follows_a_factory_reset(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.factory_reset()
        (address,) = appliance.config.interfaces.values()
        await appliance.cluster.set_core_address(address)
        await appliance.cluster.start()
        await mirrored(appliance, appliance.users.records())

    with_appliance(make_config(tmp_path), scene)
