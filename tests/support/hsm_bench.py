"""A real HSM in a directory, with passwords hashed at the low cost for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from conclave.clock import boot_time_ms
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, Argon2Cost, hash_password
from conclave.hsm.core import SoLockout
from conclave.hsm.hsm import Hsm
from conclave.hsm.views import PartitionId

SO = b"so-password"
PO = b"po-password"
CO_FIRST = b"co-first-password"
CO = b"co-password"
DOMAIN = b"cloning-domain-of-tests"

Result = TypeVar("Result")


async def low_cost_hasher(password: bytes, salt: bytes, _source: str) -> bytes:
    return hash_password(password, salt, allow_low_cost=True)


@dataclass
class Moment:
    """A boot-time clock that a test sets."""

    ms: int = 1_000_000

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def opened(
    directory: Path,
    *,
    cost: Argon2Cost = LOW_COST_FOR_TESTS,
    so_lockout: SoLockout = "zeroize",
    boot_ms: Callable[[], int] = boot_time_ms,
) -> AsyncIterator[Hsm]:
    hsm = await Hsm.open(
        directory, low_cost_hasher, cost=cost, so_lockout=so_lockout, boot_ms=boot_ms
    )
    try:
        yield hsm
    finally:
        await hsm.close()


def with_hsm(
    directory: Path,
    scene: Callable[[Hsm], Awaitable[Result]],
    *,
    cost: Argon2Cost = LOW_COST_FOR_TESTS,
    so_lockout: SoLockout = "zeroize",
    boot_ms: Callable[[], int] = boot_time_ms,
) -> Result:
    async def play() -> Result:
        async with opened(directory, cost=cost, so_lockout=so_lockout, boot_ms=boot_ms) as hsm:
            return await scene(hsm)

    return asyncio.run(play())


async def make_partition(hsm: Hsm, *, name: str = "par", version: int = 1) -> PartitionId:
    """Initialise the HSM if need be, and make a partition with its PO."""
    if not hsm.info().initialized:
        await hsm.initialize("hsm_label", SO, DOMAIN)
    partition_id = await hsm.create_partition(name, version=version)
    await hsm.initialize_partition(partition_id, None, PO, DOMAIN)
    return partition_id


async def make_cluster_partition(hsm: Hsm, *, name: str = "par") -> PartitionId:
    """Make a partition that a cluster may use; the CO's password is CO."""
    partition_id = await make_partition(hsm, name=name)
    await hsm.change_partition_policy(partition_id, 40, 0, confirmed=True)
    await hsm.initialize_role(partition_id, "co", CO_FIRST)
    await hsm.change_role_password(partition_id, "co", CO_FIRST, CO)
    return partition_id
