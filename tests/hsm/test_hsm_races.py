"""A login proves the credential that stands when it ends, not one that was replaced meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conclave import faults
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS
from conclave.errors import ConclaveError
from conclave.hsm.hsm import Hsm
from conclave.hsm.views import PartitionId
from tests.support.hsm_bench import CO, DOMAIN, SO, low_cost_hasher, make_cluster_partition

NEW_FIRST = b"co-second-first-password"
NEWER = b"co-newer-password"
WRONG = b"wrong-password"


@dataclass
class Referee:
    """Hold the first hash of `late` until one of `early` is done, so that both meet in the HSM."""

    late: bytes = b""
    early: bytes = b""
    passed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, password: bytes, salt: bytes, source: str) -> bytes:
        key = await low_cost_hasher(password, salt, source)
        if password == self.early:
            self.passed.set()
        elif password == self.late:
            self.late = b""
            await self.passed.wait()
        return key


def meet(directory: Path, scene: Callable[[Hsm, PartitionId, Referee], Awaitable[None]]) -> None:
    async def play() -> None:
        referee = Referee()
        hsm = await Hsm.open(directory, referee, cost=LOW_COST_FOR_TESTS)
        try:
            partition_id = await make_cluster_partition(hsm)
            # A failure to forget makes the right password a change of the state as well.
            with pytest.raises(ConclaveError):
                await hsm.verify_role(partition_id, "co", WRONG)
            async with asyncio.timeout(60):
                await scene(hsm, partition_id, referee)
        finally:
            await hsm.close()

    asyncio.run(play())


async def both(late: Awaitable[object], early: Awaitable[object]) -> object:
    """Run two calls at once and return how the late one ended."""
    outcome, other = await asyncio.gather(late, early, return_exceptions=True)
    assert not isinstance(other, BaseException), other
    return outcome


def require_refused(outcome: object) -> None:
    assert isinstance(outcome, ConclaveError), outcome
    assert outcome.fault is faults.BUSY


def test_a_login_with_a_replaced_password_is_none_of_the_new_one(tmp_path: Path) -> None:
    async def scene(hsm: Hsm, partition_id: PartitionId, referee: Referee) -> None:
        referee.late, referee.early = CO, NEW_FIRST
        outcome = await both(
            hsm.verify_role(partition_id, "co", CO),
            hsm.reset_role(partition_id, "co", NEW_FIRST, confirmed=True),
        )
        require_refused(outcome)

    meet(tmp_path, scene)


def test_a_change_that_meets_a_reset_does_not_bring_the_old_key_back(tmp_path: Path) -> None:
    """Else the partition key would be the old one, which does not open the new SMK."""

    async def scene(hsm: Hsm, partition_id: PartitionId, referee: Referee) -> None:
        referee.late, referee.early = CO, NEW_FIRST
        outcome = await both(
            hsm.change_role_password(partition_id, "co", CO, NEWER),
            hsm.reset_role(partition_id, "co", NEW_FIRST, confirmed=True),
        )
        require_refused(outcome)
        await hsm.change_role_password(partition_id, "co", NEW_FIRST, NEWER)
        assert len(await hsm.unlock_smk("par", NEWER)) == 32

    meet(tmp_path, scene)


def test_a_wrong_guess_at_a_replaced_password_is_not_counted_for_the_new_one(
    tmp_path: Path,
) -> None:
    async def scene(hsm: Hsm, partition_id: PartitionId, referee: Referee) -> None:
        referee.late, referee.early = WRONG, NEW_FIRST
        outcome = await both(
            hsm.verify_role(partition_id, "co", WRONG),
            hsm.reset_role(partition_id, "co", NEW_FIRST, confirmed=True),
        )
        require_refused(outcome)
        assert hsm.role(partition_id, "co").login_attempts_left == 10

    meet(tmp_path, scene)


def test_of_two_first_initialisations_one_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        hsm = await Hsm.open(tmp_path, low_cost_hasher, cost=LOW_COST_FOR_TESTS)
        try:
            calls = (hsm.initialize("one", SO, DOMAIN), hsm.initialize("two", SO, DOMAIN))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await hsm.close()
        refused = [each for each in outcomes if isinstance(each, ConclaveError)]
        assert [each.fault for each in refused] == [faults.HSM_OPERATION]

    asyncio.run(play())
