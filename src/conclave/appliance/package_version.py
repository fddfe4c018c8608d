"""Which release of the cluster service is installed, which may be newer than what runs.

A real appliance gets the service by a secure package and runs it from the package's directory.  An
installation for development has it "preinstalled" (setting `packages.cluster_service`): it runs
from Conclave's own source, and its version is that of the distribution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import metadata
from typing import Final

import conclave
from conclave import faults
from conclave.errors import Conflict, NotFound
from conclave.keyed_locks import KeyedLocks
from conclave.packages.manifest import CLUSTER_PACKAGE, version_order
from conclave.packages.shelf import Shelf
from conclave.versions import MINIMUM, Versions

DISTRIBUTION: Final = "conclave"
_LONGEST_QUEUE: Final = 8


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the cluster service; `directory` is "" for the source that runs the daemon."""

    version: str
    directory: str = ""


class ClusterPackage:
    """The installed release as it was last looked at; None when there is none."""

    def __init__(self, shelf: Shelf, *, preinstalled: bool, too_old: Sequence[str] = ()) -> None:
        self._shelf = shelf
        self._too_old = too_old
        self._preinstalled = preinstalled
        self.release: Release | None = Release(conclave.__version__) if preinstalled else None
        self._changes = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)

    def held(self) -> AbstractAsyncContextManager[None]:
        """Keep changes of packages and starts of the service apart; Unavailable (BUSY) in time."""
        return self._changes.hold(CLUSTER_PACKAGE)

    @property
    def preinstalled(self) -> bool:
        """Tell whether the cluster service needs no package."""
        return self._preinstalled

    @property
    def version(self) -> str:
        """Return the installed version, "" when there is none."""
        return "" if self.release is None else self.release.version

    def require(self) -> Release:
        """Return the release; raise NotFound that names the cure."""
        if self.release is None:
            message = (
                f"The secure package {CLUSTER_PACKAGE} is not installed: upload it to your files"
                " and install it with its authorization code."
            )
            raise NotFound(faults.PACKAGE_NOT_FOUND, message)
        return self.release

    def require_startable(self) -> Release:
        """Return the release; raise Conflict below the guide's least versions (rule D6)."""
        release = self.require()
        if self._too_old:
            message = (
                f"The guide's least versions are not met: {'; '.join(self._too_old)}. Update, or"
                " set packages.minimum_versions to false."
            )
            raise Conflict(faults.PACKAGE_REQUIREMENT, message)
        return release

    async def current(self) -> Release:
        """Look again, and return the release; raise NotFound when there is none."""
        await self.look()
        return self.require()

    async def look(self) -> str:
        """Look again, and return the version."""
        loop = asyncio.get_running_loop()
        self.release = await loop.run_in_executor(None, self._read)
        return self.version

    def _read(self) -> Release | None:
        if self._preinstalled:
            return Release(installed_version())
        package = self._shelf.find(CLUSTER_PACKAGE)
        if package is None:
            return None
        return Release(f"{package.version}-{package.build}", str(self._shelf.path(package)))


def below_minimum(present: Versions, least: Versions = MINIMUM) -> tuple[str, ...]:
    """Return what an appliance has below the least versions for clusters, in words."""
    found = []
    for part in ("appliance", "firmware"):
        has, needs = getattr(present, part), getattr(least, part)
        if version_order(has) < version_order(needs):
            found.append(f"{part} is {has}, at least {needs} is needed")
    return tuple(found)


def installed_version() -> str:
    """Return the installed version; reads files, so it is not for an event loop."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return conclave.__version__
