"""The appliance's time: a stored offset to the host's clock, which is never set (rule T1)."""

from __future__ import annotations

from conclave.clock import ApplianceClock


class ApplianceTime:
    """Tell and set appliance time and zone."""

    clock: ApplianceClock

    @property
    def zone(self) -> str:
        """Return the name of the time zone, for people only."""
        raise NotImplementedError

    async def set(
        self, *, date: str | None = None, time: str | None = None, zone: str | None = None
    ) -> None:
        """Set date (YYYY-MM-DD), time (hh:mm:ss) in the zone, or the zone; None leaves it."""
        raise NotImplementedError

    async def synchronize(self, offset_ms: int = 0) -> None:
        """Set the offset to the host's clock: 0 follows the host, whose clock NTP keeps."""
        raise NotImplementedError
