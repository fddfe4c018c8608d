"""The file in which a member keeps what it knows and has promised.

Invariant: what `save` has returned for survives the death of the process and of the machine, and a
reader finds the old state or the new one, never a mixture.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from conclave import faults
from conclave.cluster.configuration import MemberState
from conclave.errors import InternalFault

FILE_NAME: Final = "member.json"
MAX_BYTES: Final = 1 << 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(MemberState).decode


@dataclass(frozen=True, slots=True)
class MemberStateFile:
    """One member's state on disk."""

    path: Path

    def load(self) -> MemberState | None:
        """Return the state, None when this appliance is in no cluster; InternalFault if damaged."""
        try:
            with self.path.open("rb") as stream:
                return _decode(stream.read(MAX_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            message = f"The member's state {self.path} cannot be read: {error}."
            raise InternalFault(faults.STORAGE_FAILED, message) from error

    async def save(self, state: MemberState) -> None:
        """Replace the state durably; InternalFault (STORAGE_FAILED) when the disk refuses."""
        await asyncio.get_running_loop().run_in_executor(None, self._save, state)

    def _save(self, state: MemberState) -> None:
        temporary = self.path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_encode(state))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            message = f"The member's state {self.path} cannot be written: {error.strerror}."
            raise InternalFault(faults.STORAGE_FAILED, message) from error

    def remove(self) -> None:
        """Forget the cluster."""
        self.path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
