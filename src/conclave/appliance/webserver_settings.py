"""Settings of the webserver that may be changed while it runs."""

from __future__ import annotations

from typing import Final

import msgspec

from conclave.appliance.documents import Documents
from conclave.appliance.user_files import UserFiles

DOCUMENT: Final = "webserver"
LEAST_FILE_BYTES: Final = 1 << 20
MOST_FILE_BYTES: Final = 4 << 30


class StoredWebserver(msgspec.Struct, frozen=True):
    """What was changed; 0 is what the configuration says."""

    max_file_bytes: int = 0


class WebserverSettings:
    """How large an uploaded file may be, by whatever door."""

    def __init__(self, documents: Documents, files: UserFiles, configured: int) -> None:
        self._documents = documents
        self._files = files
        self._configured = configured

    @classmethod
    async def open(cls, documents: Documents, files: UserFiles) -> WebserverSettings:
        """Read what was changed, and let it hold."""
        configured = files.max_file_bytes
        stored = await documents.load(DOCUMENT, StoredWebserver)
        if stored.max_file_bytes:
            files.max_file_bytes = stored.max_file_bytes
        return cls(documents, files, configured)

    @property
    def max_file_bytes(self) -> int:
        """Return how many bytes an uploaded file may have."""
        return self._files.max_file_bytes

    async def reset(self) -> None:
        """Go back to what the configuration says."""
        await self._documents.remove(DOCUMENT)
        self._files.max_file_bytes = self._configured

    async def set_max_file_bytes(self, size: int) -> None:
        """Change how many bytes an uploaded file may have, durably and at once."""
        await self._documents.save(DOCUMENT, StoredWebserver(max_file_bytes=size))
        self._files.max_file_bytes = size
