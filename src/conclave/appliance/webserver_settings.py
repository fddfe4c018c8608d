"""Settings of the webserver that may be changed while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from conclave.appliance.documents import Documents
from conclave.appliance.user_files import UserFiles

DOCUMENT: Final = "webserver"
LEAST_FILE_BYTES: Final = 1 << 20
MOST_FILE_BYTES: Final = 4 << 30
ALL_DEVICES: Final = "all"


class StoredWebserver(msgspec.Struct, frozen=True):
    """What was changed."""

    max_file_bytes: int = 0
    """0 is what the configuration says."""
    enabled: bool = True
    net_device: str = ALL_DEVICES


class WebserverSettings:
    """How large an uploaded file may be, by whatever door; whether and where REST listens."""

    def __init__(self, documents: Documents, files: UserFiles, stored: StoredWebserver) -> None:
        self._documents = documents
        self._files = files
        self._configured_bytes = files.max_file_bytes
        self._stored = stored
        self._changing = asyncio.Lock()
        self.on_change: Callable[[], None] = _nobody
        """Told when REST is to listen elsewhere."""
        self._let_hold()

    @classmethod
    async def open(cls, documents: Documents, files: UserFiles) -> WebserverSettings:
        """Read what was changed, and let it hold."""
        return cls(documents, files, await documents.load(DOCUMENT, StoredWebserver))

    @property
    def max_file_bytes(self) -> int:
        """Return how many bytes an uploaded file may have."""
        return self._files.max_file_bytes

    @property
    def enabled(self) -> bool:
        """Tell whether REST listens at all."""
        return self._stored.enabled

    @property
    def net_device(self) -> str:
        """Return the network device that REST listens on, or `all`."""
        return self._stored.net_device

    async def change(
        self,
        *,
        max_file_bytes: int | None = None,
        enabled: bool | None = None,
        net_device: str | None = None,
    ) -> None:
        """Change what is given, durably and at once; connections elsewhere are ended soon."""
        given = {"max_file_bytes": max_file_bytes, "enabled": enabled, "net_device": net_device}
        changes = {name: value for name, value in given.items() if value is not None}
        async with self._changing:
            await self._store(msgspec.structs.replace(self._stored, **changes))

    async def restart(self) -> None:
        """Listen anew, enabled or not before."""
        async with self._changing:
            if self._stored.enabled:
                self.on_change()
            else:
                await self._store(msgspec.structs.replace(self._stored, enabled=True))

    async def reset(self) -> None:
        """Go back to what the configuration says."""
        async with self._changing:
            await self._store(StoredWebserver())

    async def _store(self, changed: StoredWebserver) -> None:
        await self._documents.save(DOCUMENT, changed)
        before, self._stored = self._stored, changed
        self._let_hold()
        if (before.enabled, before.net_device) != (changed.enabled, changed.net_device):
            self.on_change()

    def _let_hold(self) -> None:
        self._files.max_file_bytes = self._stored.max_file_bytes or self._configured_bytes


def _nobody() -> None:
    """There is no listener yet."""
