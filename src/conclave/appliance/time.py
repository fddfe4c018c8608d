"""The appliance's time: a stored offset to the host's clock, which is never set (rule T1)."""

from __future__ import annotations

import asyncio
import datetime
import zoneinfo
from collections.abc import Callable
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.documents import Documents
from conclave.clock import ApplianceClock, host_time_ms
from conclave.errors import BadInput

DOCUMENT: Final = "time"
_EARLIEST_YEAR: Final = 2000
_LATEST_YEAR: Final = 2199
_EARLIEST_SECONDS: Final = datetime.datetime(_EARLIEST_YEAR, 1, 1, tzinfo=datetime.UTC).timestamp()
_END_SECONDS: Final = datetime.datetime(_LATEST_YEAR + 1, 1, 1, tzinfo=datetime.UTC).timestamp()


class StoredTime(msgspec.Struct, frozen=True):
    """Appliance clock minus host clock, and the zone in which people read and write times."""

    offset_ms: int = 0
    zone: str = "UTC"


class ApplianceTime:
    """Tell and set appliance time and zone."""

    def __init__(
        self, documents: Documents, stored: StoredTime, host_ms: Callable[[], int] = host_time_ms
    ) -> None:
        self._documents = documents
        self._stored = stored
        self._changing = asyncio.Lock()
        self._listeners: list[Callable[[int], None]] = []
        self.clock = ApplianceClock(offset_ms=lambda: self._stored.offset_ms, host_ms=host_ms)

    @classmethod
    async def open(cls, documents: Documents) -> ApplianceTime:
        """Read offset and zone from the store."""
        return cls(documents, await documents.load(DOCUMENT, StoredTime))

    @property
    def offset_ms(self) -> int:
        """Return appliance clock minus host clock."""
        return self._stored.offset_ms

    @property
    def zone(self) -> str:
        """Return the name of the time zone, for people only."""
        return self._stored.zone

    def local_now(self) -> datetime.datetime:
        """Return appliance time in the appliance's zone."""
        return self.clock.now().astimezone(zoneinfo.ZoneInfo(self.zone))

    def on_change(self, listener: Callable[[int], None]) -> None:
        """Call `listener` with the new offset after every change."""
        self._listeners.append(listener)

    async def set(
        self, *, date: str | None = None, time: str | None = None, zone: str | None = None
    ) -> None:
        """Set date (YYYY-MM-DD), time (hh:mm:ss) in the zone, or the zone; None leaves it."""
        async with self._changing:
            chosen = self._stored.zone if zone is None else zone
            offset_ms = self._stored.offset_ms
            if date is not None or time is not None:
                offset_ms += _wanted_ms(self.clock.now_ms(), _find_zone(chosen), date, time)
            else:
                _find_zone(chosen)
            await self._store(StoredTime(offset_ms=offset_ms, zone=chosen))

    async def synchronize(self, offset_ms: int = 0) -> None:
        """Set the offset to the host's clock: 0 follows the host, whose clock NTP keeps."""
        async with self._changing:
            await self._store(msgspec.structs.replace(self._stored, offset_ms=offset_ms))

    async def _store(self, changed: StoredTime) -> None:
        await self._documents.save(DOCUMENT, changed)
        self._stored = changed
        for listener in self._listeners:
            listener(changed.offset_ms)


def is_a_time_to_set(seconds: float) -> bool:
    """Tell whether the clock may be set to a time, in seconds of Unix: years 2000 to 2199."""
    return _EARLIEST_SECONDS <= seconds < _END_SECONDS


def _find_zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        message = f"timeZone must be a name such as UTC, EST or Europe/Paris; it is {name!r}."
        raise BadInput(faults.BAD_REQUEST, message) from None


def _wanted_ms(now_ms: int, zone: zoneinfo.ZoneInfo, date: str | None, time: str | None) -> int:
    """Return how many milliseconds the wanted local date and time lie after now."""
    now = datetime.datetime.fromtimestamp(now_ms / 1000, zone)
    wanted = datetime.datetime.combine(
        now.date() if date is None else _parse_date(date),
        now.time() if time is None else _parse_time(time),
        zone,
    )
    return round(wanted.timestamp() * 1000) - now_ms


def _parse_date(value: str) -> datetime.date:
    try:
        parsed = datetime.date.fromisoformat(value)
    except ValueError:
        message = f"date must be YYYY-MM-DD; it is {value!r}."
        raise BadInput(faults.BAD_REQUEST, message) from None
    if not _EARLIEST_YEAR <= parsed.year <= _LATEST_YEAR:
        message = f"date must lie between {_EARLIEST_YEAR} and {_LATEST_YEAR}; it is {value!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    return parsed


def _parse_time(value: str) -> datetime.time:
    try:
        return datetime.datetime.strptime(value, "%H:%M:%S").time()
    except ValueError:
        message = f"time must be hh:mm:ss; it is {value!r}."
        raise BadInput(faults.BAD_REQUEST, message) from None
