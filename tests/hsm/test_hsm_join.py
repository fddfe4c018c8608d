"""What a join asks of the HSM: the cloning domain, and another cluster's SMK."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import BadInput, ConclaveError, CredentialRefused, NotFound
from conclave.hsm.hsm import Hsm
from tests.support.hsm_bench import CO, DOMAIN, make_cluster_partition, with_hsm

FOREIGN_SMK = bytes(range(32))
NEW_CO = b"another-co-password"


async def refusal(call: Awaitable[object]) -> ConclaveError:
    with pytest.raises(ConclaveError) as caught:
        await call
    return caught.value


def test_cluster_domain_is_that_of_the_cluster_partition(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        with pytest.raises(ConclaveError) as early:
            hsm.cluster_domain()
        assert early.value.fault is faults.HSM_NOT_INITIALIZED
        await make_cluster_partition(hsm)
        assert hsm.cluster_domain() == DOMAIN

    with_hsm(tmp_path, scene)


def test_imported_smk_stays_and_tells_nobody(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        told: list[str] = []
        await make_cluster_partition(hsm)
        hsm.on_smk_lost(lambda: told.append("lost"))
        own = await hsm.unlock_smk("par", CO)
        for _ in range(2):
            await hsm.import_smk("par", CO, FOREIGN_SMK)
            assert await hsm.unlock_smk("par", CO) == FOREIGN_SMK != own
        assert told == []
        await hsm.change_role_password(hsm.cluster_partition().partition_id, "co", CO, NEW_CO)
        assert told == []

    async def after_restart(hsm: Hsm) -> None:
        told: list[str] = []
        hsm.on_smk_lost(lambda: told.append("lost"))
        assert await hsm.unlock_smk("par", NEW_CO) == FOREIGN_SMK
        await hsm.delete_partition(hsm.cluster_partition().partition_id)
        assert told == ["lost"]

    with_hsm(tmp_path, scene)
    with_hsm(tmp_path, after_restart)


def test_import_is_refused_without_changing_the_smk(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        await make_cluster_partition(hsm)
        own = await hsm.unlock_smk("par", CO)
        wrong = await refusal(hsm.import_smk("par", b"wrong-password", FOREIGN_SMK))
        assert isinstance(wrong, CredentialRefused)
        assert "9 attempts" in wrong.message
        assert isinstance(await refusal(hsm.import_smk("other", CO, FOREIGN_SMK)), NotFound)
        short = await refusal(hsm.import_smk("par", CO, FOREIGN_SMK[:31]))
        assert isinstance(short, BadInput)
        assert short.message.startswith("smk")
        assert await hsm.unlock_smk("par", CO) == own

    with_hsm(tmp_path, scene)


def test_import_never_seals_under_a_key_that_a_reset_replaced(tmp_path: Path) -> None:
    """Whoever loses the race between import and reset is refused; the SMK opens afterwards."""

    async def scene(hsm: Hsm) -> None:
        partition_id = await make_cluster_partition(hsm)
        results = await asyncio.gather(
            hsm.import_smk("par", CO, FOREIGN_SMK),
            hsm.reset_role(partition_id, "co", NEW_CO, confirmed=True),
            return_exceptions=True,
        )
        assert results[1] is None
        await hsm.change_role_password(partition_id, "co", NEW_CO, CO)
        smk = await hsm.unlock_smk("par", CO)
        assert len(smk) == 32
        assert smk != FOREIGN_SMK

    with_hsm(tmp_path, scene)
