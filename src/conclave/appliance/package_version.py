"""The version of the package that is installed now, which may be newer than what runs."""

from __future__ import annotations

import asyncio
from importlib import metadata
from typing import Final

import conclave

DISTRIBUTION: Final = "conclave"


class InstalledPackage:
    """The installed version as it was last looked at."""

    def __init__(self) -> None:
        self.version = conclave.__version__

    async def look(self) -> str:
        """Look again, and return the version."""
        loop = asyncio.get_running_loop()
        self.version = await loop.run_in_executor(None, installed_version)
        return self.version


def installed_version() -> str:
    """Return the installed version; reads files, so it is not for an event loop."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return conclave.__version__
