"""The clocks: appliance time for people and certificates, boot time for intervals, cluster time.

Invariant: setting the time changes an offset, never the host's clock (rule T1), and nothing that
is measured in seconds since something (a lease, a delay, a ticket's life) uses the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from conclave.ids import ClusterTimeMs

_NANOSECONDS_PER_MS = 1_000_000


def host_time_ms() -> int:
    """Return the host's wall clock in milliseconds since 1970."""
    return time.time_ns() // _NANOSECONDS_PER_MS


def boot_time_ms() -> int:
    """Return milliseconds since boot, suspended time included (CLOCK_BOOTTIME)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NANOSECONDS_PER_MS


@dataclass(frozen=True, slots=True)
class ApplianceClock:
    """Tell appliance time: the host's clock plus a stored offset, asked for at each reading."""

    offset_ms: Callable[[], int]
    host_ms: Callable[[], int] = host_time_ms

    def now_ms(self) -> int:
        """Return appliance time in milliseconds since 1970."""
        return self.host_ms() + self.offset_ms()

    def now(self) -> datetime:
        """Return appliance time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)


@dataclass(frozen=True, slots=True)
class ClusterClock:
    """Tell cluster time: boot time plus an offset that the primary decides."""

    offset_ms: Callable[[], int]
    boot_ms: Callable[[], int] = boot_time_ms

    def now_ms(self) -> ClusterTimeMs:
        """Return cluster time in milliseconds since 1970."""
        return ClusterTimeMs(self.boot_ms() + self.offset_ms())
