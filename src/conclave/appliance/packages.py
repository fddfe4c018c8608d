"""The secure packages of an appliance: verify, install, list, remove, one change at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from conclave import faults
from conclave.appliance.package_version import ClusterPackage, below_minimum
from conclave.appliance.paths import StatePaths
from conclave.clock import ApplianceClock
from conclave.errors import Conflict, Unavailable
from conclave.packages.manifest import (
    CLUSTER_PACKAGE,
    Manifest,
    Requirements,
    check_authorization_code,
)
from conclave.packages.shelf import InstalledPackage, Shelf
from conclave.settings import ApplianceConfig

CHANGE_SECONDS: Final = 120.0
LISTED_NAMES: Final = {CLUSTER_PACKAGE: "cluster_service"}
"""Names that an installed package has in lists, as the guide prints them (rule D6)."""

T = TypeVar("T")
OpenFile = Callable[[], BinaryIO]


def listed_name(package: InstalledPackage) -> str:
    """Return the name of a package in lists, such as `cluster_service-1.0.4-1.x86_64`."""
    name = LISTED_NAMES.get(package.name, package.name)
    return f"{name}-{package.version}-{package.build}.{package.architecture}"


class Packages:
    """The packages that the doors show and change."""

    def __init__(self, shelf: Shelf, clock: ApplianceClock, cluster: ClusterPackage) -> None:
        self._shelf = shelf
        self._clock = clock
        self.cluster: Final = cluster
        """The cluster service's release."""

    @classmethod
    async def open(
        cls, config: ApplianceConfig, paths: StatePaths, clock: ApplianceClock
    ) -> Packages:
        """Look what is installed, and remove what nothing can run from any more."""
        present = Requirements(
            appliance=config.emulated.appliance, firmware=config.emulated.firmware
        )
        shelf = Shelf(paths.packages, paths.release_keys, present)
        preinstalled = config.packages.cluster_service == "preinstalled"
        enforced = config.packages.minimum_versions
        too_old = below_minimum(config.emulated) if enforced else ()
        cluster = ClusterPackage(shelf, preinstalled=preinstalled, too_old=too_old)
        packages = cls(shelf, clock, cluster)
        await packages._run(shelf.sweep)
        await packages.cluster.look()
        return packages

    async def installed(self) -> tuple[InstalledPackage, ...]:
        """Return what is installed, by name."""
        return await self._run(self._shelf.installed)

    async def verify(self, file: OpenFile, code: str) -> Manifest:
        """Check a package file, which `file` opens; raise what refuses it."""
        authorization = check_authorization_code(code)

        def verify() -> Manifest:
            with file() as stream:
                return self._shelf.verify(stream, authorization).manifest

        return await self._run(verify)

    async def install(self, file: OpenFile, code: str) -> InstalledPackage:
        """Verify and install a package file."""
        authorization = check_authorization_code(code)
        now = f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}"

        def install() -> InstalledPackage:
            with file() as stream:
                return self._shelf.install(stream, authorization, now)

        return await self._change(install)

    async def remove(self, name: str, *, running: Callable[[], bool]) -> None:
        """Remove a package; Conflict while its service runs, which no start changes meanwhile."""

        def check() -> None:
            if name == CLUSTER_PACKAGE and running():
                message = "The cluster service runs from this package: stop it first."
                raise Conflict(faults.PACKAGE_IN_USE, message)

        await self._change(lambda: self._shelf.remove(name), check)

    async def _change(self, work: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
        """Change the shelf alone, to the end: a thread goes on when its caller is gone."""

        async def alone() -> T:
            async with self.cluster.held():
                check()
                try:
                    return await self._run(work)
                finally:
                    await self.cluster.look()

        change = asyncio.create_task(alone(), name="package change")
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                return await asyncio.shield(change)
        except TimeoutError:
            message = f"The change goes on for more than {CHANGE_SECONDS:g} s: look at it later."
            raise Unavailable(faults.BUSY, message) from None

    @staticmethod
    async def _run(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work)
