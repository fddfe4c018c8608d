"""Appliances for tests: a state directory, random loopback addresses, and the usual steps."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conclave.appliance.appliance import Appliance, open_appliance
from conclave.appliance.doors import Doors
from conclave.service.messages import ClusterSummary, MemberList
from conclave.service.quiet import Nothing
from conclave.settings import ApplianceConfig, PackageSettings
from tests.support.hsm_bench import CO, DOMAIN, SO, make_cluster_partition

DEADLINE_SECONDS = 90.0
Result = TypeVar("Result")


def random_loopback() -> str:
    """Return an address of 127.0.0.0/8 that no other test is likely to use."""
    numbers = [1 + secrets.randbelow(250) for _ in range(3)]
    return "127." + ".".join(str(number) for number in numbers)


def make_config(directory: Path, **changes: Any) -> ApplianceConfig:
    """Return the configuration of a test appliance with one interface."""
    fields: dict[str, Any] = {
        "state_dir": directory,
        "interfaces": {"eth0": random_loopback()},
        "low_cost_for_tests": True,
        "workers": 2,
        "packages": PackageSettings(cluster_service="preinstalled"),
    }
    return ApplianceConfig(**(fields | changes))


class SilentDoor:
    """A listener that only keeps its sockets: the appliance's tests speak to it directly."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext) -> None:
        self.sockets = list(sockets)

    async def stop(self, *, deadline_seconds: float) -> None:
        for listener in self.sockets:
            listener.close()
        self.sockets = []


def silent_doors(_appliance: Appliance) -> Doors:
    """Return doors that serve nobody."""
    return Doors(rest=SilentDoor(), admin=SilentDoor())


def with_appliance(
    config: ApplianceConfig, scene: Callable[[Appliance], Awaitable[Result]]
) -> Result:
    """Open an appliance, play a scene and close it."""

    async def play() -> Result:
        async with open_appliance(config) as appliance:
            return await scene(appliance)

    return asyncio.run(play())


async def make_cluster_partition_of(appliance: Appliance) -> None:
    """Initialise the HSM and make the cluster's partition."""
    await appliance.hsm.initialize("hsm_label", SO, DOMAIN)
    await make_cluster_partition(appliance.hsm)


async def prepare_partition(appliance: Appliance) -> None:
    """Make HSM, partition and core address, as chapter 2 of the administration guide does."""
    await make_cluster_partition_of(appliance)
    (address,) = appliance.config.interfaces.values()
    await appliance.cluster.set_core_address(address)


async def local_member_id(appliance: Appliance) -> str:
    """Return the id of the only member."""
    members: MemberList = await appliance.cluster.call("list_members", Nothing())
    (member,) = members.members
    return member.member_id


async def authorize(appliance: Appliance) -> None:
    """Authorize the only member."""
    await appliance.cluster.authorize(await local_member_id(appliance), "par", CO)


async def make_authorized_cluster(appliance: Appliance) -> ClusterSummary:
    """Go from a fresh appliance to an authorized cluster of one."""
    await prepare_partition(appliance)
    await appliance.cluster.start()
    cluster = await appliance.cluster.create_cluster("testCluster", SO)
    await authorize(appliance)
    return cluster


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, at most DEADLINE_SECONDS."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - it looks at other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}") from None


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
