"""Keyrings outlive a change of the configured cost of password hashing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conclave import faults
from conclave.crypto.password_hash import (
    DEFAULT_COST,
    LOW_COST_FOR_TESTS,
    Argon2Cost,
    new_salt,
    salt_cost,
)
from conclave.errors import InternalFault
from conclave.service.wire import Role
from tests.support.cluster_bench import FIRST, PASSWORD, ClusterBench, cluster_bench, id_of

pytestmark = pytest.mark.system
OTHER_COST = Argon2Cost(memory_kib=128, iterations=2, lanes=1)
NEW = b"a-newer-password"


async def reconfigure(bench: ClusterBench, cost: Argon2Cost, *, tests: bool = True) -> None:
    """Restart the processes with another configured cost."""
    for name in ("cluster", "login"):
        bench.kill(name)
    bench.cost, bench.low_cost_for_tests = cost, tests
    bench.start_login()
    bench.start_cluster(with_smk=True)
    await bench.ready()


def costs(bench: ClusterBench, keyring: bytes) -> list[Argon2Cost]:
    row = bench.row(keyring)
    credentials = [row.krso, row.krco] if row.krco else [row.krso]
    return [salt_cost(each.salt, allow_low_cost=True) for each in credentials]


def test_another_configured_cost_voids_no_password_and_is_of_what_is_written_next(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            kept, _ = await bench.ready_keyring("kept")
            changed, _ = await bench.ready_keyring("changed")
            started_anew, _ = await bench.ready_keyring("old")
            (untouched,) = await bench.make_keyrings("untouched")
            await reconfigure(bench, OTHER_COST)
            await bench.login(kept, PASSWORD)
            assert costs(bench, kept) == [LOW_COST_FOR_TESTS]
            await bench.change(changed, PASSWORD, NEW)
            await bench.initialize_token(started_anew, PASSWORD, "new")
            await bench.change(id_of(untouched), FIRST, NEW)
            made = [id_of(each) for each in await bench.make_keyrings("one", "two")]
            for keyring in (changed, started_anew, id_of(untouched), *made):
                assert costs(bench, keyring) == [OTHER_COST]
            await reconfigure(bench, LOW_COST_FOR_TESTS)
            await bench.login(changed, NEW)
            await bench.login(started_anew, PASSWORD, Role.KRSO)
            await bench.login(made[0], FIRST, Role.KRSO)

    asyncio.run(scenario())


def test_each_role_of_a_dual_keyring_keeps_a_cost_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, dual=True) as bench:
            keyring, _ = await bench.ready_keyring()
            await reconfigure(bench, OTHER_COST)
            await bench.change(keyring, PASSWORD, NEW, Role.KRCO)
            assert costs(bench, keyring) == [LOW_COST_FOR_TESTS, OTHER_COST]
            await bench.login(keyring, PASSWORD, Role.KRSO)
            await bench.login(keyring, NEW, Role.KRCO)

    asyncio.run(scenario())


def test_g2_a_stored_cost_that_is_refused_is_named_and_counts_for_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            await reconfigure(bench, DEFAULT_COST, tests=False)
            for _ in range(2 * bench.limits.lock_after):
                with pytest.raises(InternalFault, match="need low_cost_for_tests") as refusal:
                    await bench.login(keyring, PASSWORD)
                assert refusal.value.fault is faults.STORED_COST
            assert (await bench.show("ring")).failed_attempts == 0
            await reconfigure(bench, LOW_COST_FOR_TESTS)
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_bulk_create_gives_one_salt_to_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            made = await bench.make_keyrings("one", "two")
            salts = {bench.row(id_of(each)).krso.salt for each in made}
            assert len(salts) == 1
            assert len(salts.pop()) == len(new_salt(LOW_COST_FOR_TESTS))

    asyncio.run(scenario())
