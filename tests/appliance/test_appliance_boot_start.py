"""What the start at boot is refused for, and whether it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from conclave import faults
from conclave.appliance.boot_start import BootStart
from conclave.appliance.cluster_config import StoredClusterConfig
from conclave.errors import Unavailable


def test_a_package_that_is_being_changed_at_boot_only_delays_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = [Unavailable(faults.BUSY, "Too many wait for their turn.")]
    started: list[bool] = []

    async def start() -> None:
        if refusals:
            raise refusals.pop()
        started.append(True)

    asyncio.run(BootStart(lambda: StoredClusterConfig(on_boot=True)).run(start))
    assert started == [True]
    assert "Too many wait for their turn.; next attempt" in caplog.text
