"""Logins on members that have lost the primary (rules C22 and B6): real processes, real links."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from conclave import faults
from conclave.demo.processes import stop_family, wake_family
from conclave.errors import ConclaveError, Fault, Unavailable
from conclave.ids import ClientId
from tests.support.cluster_bench import LONG_PASSWORD, PASSWORD, WRONG, ClusterBench
from tests.support.several import Several, several, until

pytestmark = [pytest.mark.system, pytest.mark.spread]

OTHER = b"another-password"
STOP_SECONDS = 30
ANSWER_SECONDS = 15
"""Less than a forwarded call may take."""


@dataclass
class Lost:
    """Three members; the first is primary and has a keyring `ring`."""

    house: Several
    keyring: bytes

    @property
    def first(self) -> ClusterBench:
        return self.house.members[0]

    @property
    def cut_off(self) -> list[ClusterBench]:
        return self.house.members[1:]

    async def lose(self) -> None:
        """Kill the primary; return when the others are Read-Only."""
        self.first.kill("cluster")

        async def read_only() -> bool:
            views = [await self.house.seen_by(bench) for bench in self.cut_off]
            return not any(member.read_write for view in views for member in view.values())

        await until(read_only)

    async def find(self) -> None:
        """Bring the primary back; return when all is Read-Write."""
        self.first.start_cluster(with_smk=True)
        await self.house.all_read_write()

    async def counted(self, failures: int) -> None:
        """Wait until every member's copy has that many failures."""

        async def same() -> bool:
            shown = [await bench.show("ring") for bench in self.house.members]
            return [one.failed_attempts for one in shown] == [failures] * len(shown)

        await until(same)


async def answer(
    bench: ClusterBench, keyring: bytes, password: bytes, attempt: bytes
) -> Fault | None:
    """Try a password until the member has an answer; return the fault, None for a ticket."""
    answers: list[Fault | None] = []

    async def answered() -> bool:
        try:
            await bench.login(keyring, password, attempt=attempt)
        except Unavailable:
            return False
        except ConclaveError as error:
            answers.append(error.fault)
        else:
            answers.append(None)
        return True

    await until(answered)
    return answers[0]


def written(bench: ClusterBench) -> bool:
    """Tell whether a member has counted a failure in its file."""
    file = bench.directory / "failures.db"
    if not file.exists():
        return False
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        return bool(tables and connection.execute("SELECT 1 FROM failures").fetchall())


async def tried(bench: ClusterBench, keyring: bytes, password: bytes = WRONG) -> Fault | None:
    return await answer(bench, keyring, password, os.urandom(16))


async def fail(bench: ClusterBench, keyring: bytes, times: int) -> None:
    for _ in range(times):
        assert await tried(bench, keyring) is faults.PIN_INCORRECT


def with_ring(
    password: bytes = PASSWORD,
) -> Callable[[Callable[[Lost], Awaitable[None]]], Callable[[Path], None]]:
    """Run a test with three members and a keyring under that password."""

    def decorate(scenario: Callable[[Lost], Awaitable[None]]) -> Callable[[Path], None]:
        async def run(directory: Path) -> None:
            async with several(directory) as house:
                first = await house.first()
                registered = await first.register()
                for _ in range(2):
                    await house.join(first)
                await house.all_read_write()
                client = bytes.fromhex(registered.client.client_id.replace("-", ""))
                for bench in house.members:
                    bench.client_id = ClientId(client)
                keyring, _ = await first.ready_keyring(password=password)
                await scenario(Lost(house, keyring))

        def test(tmp_path: Path) -> None:
            asyncio.run(run(tmp_path))

        test.__name__ = scenario.__name__
        return test

    return decorate


@with_ring()
async def test_c22_each_cut_off_member_has_its_share_and_all_failures_are_merged(
    lost: Lost,
) -> None:
    await lost.lose()
    for bench in lost.cut_off:
        assert await tried(bench, lost.keyring, PASSWORD) is None
        await fail(bench, lost.keyring, 3)
        assert await tried(bench, lost.keyring) is faults.PIN_LOCKED
        assert await tried(bench, lost.keyring, PASSWORD) is faults.PIN_LOCKED
    await lost.find()
    await lost.counted(6)
    await fail(lost.cut_off[0], lost.keyring, 4)
    for bench in lost.house.members:
        assert await tried(bench, lost.keyring, PASSWORD) is faults.PIN_LOCKED


@with_ring()
async def test_b6_ten_failures_spread_over_members_lock_everywhere_after_the_merge(
    lost: Lost,
) -> None:
    await fail(lost.first, lost.keyring, 8)
    await lost.lose()
    for bench in lost.cut_off:
        await fail(bench, lost.keyring, 1)
        assert await tried(bench, lost.keyring, PASSWORD) is faults.PIN_LOCKED
    await lost.find()
    await lost.counted(10)
    for bench in lost.house.members:
        assert await tried(bench, lost.keyring, PASSWORD) is faults.PIN_LOCKED


@with_ring()
async def test_c16_a_primary_that_stops_in_order_ends_the_leases_itself(lost: Lost) -> None:
    stopping = lost.first.processes["cluster"]
    stopping.terminate()
    await asyncio.to_thread(stopping.wait, STOP_SECONDS)
    assert not any(bench.page.lease_valid() for bench in lost.cut_off)
    assert await lost.cut_off[0].login(lost.keyring, PASSWORD)


@with_ring()
async def test_c22_a_login_under_way_when_the_primary_hangs_is_checked_here(lost: Lost) -> None:
    second, third = lost.cut_off
    family = lost.first.processes["cluster"].pid
    stop_family(family)
    try:
        logins = (second.login(lost.keyring, PASSWORD), third.login(lost.keyring, PASSWORD))
        async with asyncio.timeout(ANSWER_SECONDS):
            assert all(await asyncio.gather(*logins))
    finally:
        wake_family(family)


@with_ring()
async def test_c22_logins_go_on_while_the_primary_waits_for_its_authorization(lost: Lost) -> None:
    for bench in lost.cut_off:
        bench.kill("cluster")
        bench.automatic_authorization = False
        bench.start_cluster(with_smk=True)
    await lost.house.all_read_write()
    lost.first.kill("cluster")
    lost.first.start_cluster()

    async def leads_unauthorized() -> bool:
        views = [(bench, await lost.house.seen_by(bench)) for bench in lost.house.members]
        return all(view[bench.member_id].read_write for bench, view in views) and not any(
            view[lost.first.member_id].authorized for _, view in views
        )

    await until(leads_unauthorized)
    for bench in lost.cut_off:
        assert await bench.login(lost.keyring, PASSWORD)
        await fail(bench, lost.keyring, 1)
    with pytest.raises(Unavailable, match="The primary is not authorized") as refused:
        await lost.cut_off[0].change(lost.keyring, PASSWORD, OTHER)
    assert refused.value.fault is faults.BUSY
    await lost.first.authorize()
    await lost.house.all_read_write()
    await fail(lost.cut_off[0], lost.keyring, 1)
    await fail(lost.cut_off[1], lost.keyring, 1)
    await lost.counted(4)


@with_ring()
async def test_c22_a_good_login_resets_what_this_member_counted_and_nothing_else(
    lost: Lost,
) -> None:
    second, third = lost.cut_off
    await fail(lost.first, lost.keyring, 1)
    await lost.lose()
    for bench in lost.cut_off:
        await fail(bench, lost.keyring, 2)
    assert await tried(second, lost.keyring, PASSWORD) is None
    await fail(second, lost.keyring, 1)
    await lost.find()
    await lost.counted(1 + 1 + 2)
    assert await tried(third, lost.keyring, PASSWORD) is None
    await lost.counted(0)


@with_ring()
async def test_c22_a_failure_outlives_a_kill_and_counts_once_however_often_it_is_tried(
    lost: Lost,
) -> None:
    second, third = lost.cut_off
    await lost.lose()
    attempt = os.urandom(16)
    for _ in range(2):
        trying = asyncio.create_task(answer(second, lost.keyring, WRONG, attempt))
        await until(lambda: asyncio.to_thread(written, second))
        second.kill("cluster")
        second.start_cluster(with_smk=True)
        await second.ready()
        assert await trying is faults.PIN_INCORRECT
    assert await answer(second, lost.keyring, PASSWORD, attempt) is faults.PIN_INCORRECT
    await fail(second, lost.keyring, 2)
    assert await tried(second, lost.keyring) is faults.PIN_LOCKED
    # The same attempt at another member is another failure there, but not on the primary.
    assert await answer(third, lost.keyring, WRONG, attempt) is faults.PIN_INCORRECT
    await lost.find()
    await lost.counted(3)
    assert await answer(third, lost.keyring, PASSWORD, attempt) is faults.PIN_INCORRECT


async def voids(lost: Lost, change: Callable[[], Awaitable[object]]) -> None:
    """Let two members count until their shares are used up, and change the ring meanwhile."""
    await lost.lose()
    for bench in lost.cut_off:
        await fail(bench, lost.keyring, 3)
        bench.kill("cluster")
    lost.first.start_cluster(with_smk=True)
    await lost.first.ready()

    async def changed() -> bool:
        await change()
        return True

    await until(changed)
    for bench in lost.cut_off:
        bench.start_cluster(with_smk=True)
    await lost.house.all_read_write()
    # A login from a member comes after its merge.
    for bench in lost.cut_off:
        await fail(bench, lost.keyring, 1)
    await lost.counted(2)


@with_ring()
async def test_c22_a_new_password_meanwhile_voids_what_was_counted(lost: Lost) -> None:
    await voids(lost, lambda: lost.first.change(lost.keyring, PASSWORD, OTHER))
    assert await tried(lost.cut_off[0], lost.keyring, OTHER) is None


@with_ring()
async def test_c22_an_unlock_meanwhile_voids_what_was_counted(lost: Lost) -> None:
    await voids(lost, lambda: lost.first.unlock("ring"))
    assert await tried(lost.cut_off[0], lost.keyring, PASSWORD) is None


@with_ring(LONG_PASSWORD)
async def test_c22_a_long_password_never_locks_without_the_primary_either(lost: Lost) -> None:
    second = lost.cut_off[0]
    await lost.lose()
    await fail(second, lost.keyring, 4)
    with pytest.raises(Unavailable) as refused:
        await second.login(lost.keyring, LONG_PASSWORD)
    assert refused.value.fault is faults.BUSY
    assert await tried(second, lost.keyring, LONG_PASSWORD) is None
    await lost.find()
    await lost.counted(0)
