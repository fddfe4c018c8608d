"""The HSM's own clock (rule T3): the host's clock plus an offset that only `hsm time sync` sets.

It does not follow the appliance's clock, so it is unsynchronised until it is set once, and again
after the appliance's clock was moved.
"""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from conclave.appliance.documents import Documents
from conclave.appliance.time import ApplianceTime

DOCUMENT: Final = "hsm_time"
MAX_SKEW_MS: Final = 30_000
"""How far the clocks may be apart; the guide allows members of a cluster as much."""


class StoredHsmTime(msgspec.Struct, frozen=True):
    """HSM clock minus host clock, and whether anybody ever set it."""

    offset_ms: int = 0
    was_set: bool = False


class HsmTime:
    """Tell the HSM's time, and set it to the appliance's."""

    def __init__(self, documents: Documents, stored: StoredHsmTime, time: ApplianceTime) -> None:
        self._documents = documents
        self._stored = stored
        self._time = time

    @classmethod
    async def open(cls, documents: Documents, time: ApplianceTime) -> HsmTime:
        """Read the offset from the store."""
        return cls(documents, await documents.load(DOCUMENT, StoredHsmTime), time)

    @property
    def skew_ms(self) -> int:
        """Return HSM clock minus appliance clock, in milliseconds."""
        return self._stored.offset_ms - self._time.offset_ms

    @property
    def synchronized(self) -> bool:
        """Tell whether the clock was set, and is not too far from the appliance's since."""
        return self._stored.was_set and abs(self.skew_ms) <= MAX_SKEW_MS

    def local_now(self) -> datetime.datetime:
        """Return the HSM's time in the appliance's zone."""
        return self._time.local_now() + datetime.timedelta(milliseconds=self.skew_ms)

    def warning(self) -> str:
        """Return what is to be said while the clock is unsynchronised, else ""."""
        if self.synchronized:
            return ""
        apart = f", {abs(self.skew_ms) / 1000:.0f} s from it" if self._stored.was_set else ""
        return (
            f"Warning: the HSM's clock is not synchronized with the appliance's{apart}:"
            " run 'hsm time sync'."
        )

    async def synchronize(self) -> None:
        """Set the clock to the appliance's."""
        changed = StoredHsmTime(offset_ms=self._time.offset_ms, was_set=True)
        await self._documents.save(DOCUMENT, changed)
        self._stored = changed
