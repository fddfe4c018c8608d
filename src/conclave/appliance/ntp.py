"""The time service: asks time servers and moves the appliance's offset, never the host's clock.

Invariants (rule T1): an answer changes the stored offset only; one that makes no sense, or that
would move the clock by more than `PANIC_SECONDS` without an administrator's word, changes nothing;
no answer takes the clock to where an administrator could not set it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import re
import socket
import time as host
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.documents import Documents
from conclave.appliance.host_names import HOST_PATTERN
from conclave.appliance.name_lookups import look_up
from conclave.appliance.time import ApplianceTime, is_a_time_to_set
from conclave.errors import BadInput, ConclaveError, Conflict, LimitReached, NotFound, Unavailable

DOCUMENT: Final = "ntp"
MAX_SERVERS: Final = 16
POLL_SECONDS: Final = 256.0
RETRY_SECONDS: Final = 16.0
ANSWER_SECONDS: Final = 3.0
PANIC_SECONDS: Final = 1000.0
"""As ntpd: a service that runs unattended does not believe more; `synchronize` does."""
STEP_MS: Final = 5
"""Smaller differences are left: they are the network's."""
LONGEST_DELAY_MS: Final = int(2 * ANSWER_SECONDS * 1000)
"""An answer that took longer was not waited for: its server's times contradict each other."""
SERVER_PATTERN: Final = rf"^{HOST_PATTERN}(:[0-9]{{1,5}})?$"
_SERVER: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]+))?")
_SERVER_MODE: Final = 4
_UNSYNCHRONIZED: Final = 3
_HIGHEST_STRATUM: Final = 15

_log = logging.getLogger(__name__)


class StoredNtp(msgspec.Struct, frozen=True):
    """Time servers in the order in which they are asked, and whether the service runs."""

    servers: tuple[str, ...] = ()
    enabled: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What a time server said: its clock minus the host's, and when, by the appliance's clock."""

    server: str
    offset_ms: int
    stratum: int
    delay_ms: int
    at: datetime.datetime


class NtpService:
    """Time servers, and the task that asks them while the service is enabled."""

    def __init__(self, documents: Documents, stored: StoredNtp, time: ApplianceTime) -> None:
        self._documents = documents
        self._stored = stored
        self._time = time
        self._changing = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last: Measured | None = None
        """The last answer that was taken."""
        self.last_error: str = ""
        """Why the last round took none."""

    @classmethod
    async def open(cls, documents: Documents, time: ApplianceTime) -> NtpService:
        """Read the servers from the store."""
        return cls(documents, await documents.load(DOCUMENT, StoredNtp), time)

    @property
    def servers(self) -> tuple[str, ...]:
        """Return the servers in the order in which they are asked."""
        return self._stored.servers

    @property
    def enabled(self) -> bool:
        """Tell whether the service runs."""
        return self._stored.enabled

    @property
    def follows(self) -> Measured | None:
        """Return the answer that the clock stands by; None when something else set it since."""
        last = self.last
        near = last is not None and abs(last.offset_ms - self._time.offset_ms) <= STEP_MS
        return last if near else None

    def start(self) -> None:
        """Begin to ask, as long as the service is enabled."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ntp")

    async def stop(self) -> None:
        """End, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def add(self, server: str) -> None:
        """Add a server at the end; raise BadInput, Conflict or LimitReached."""
        split_server(server)
        async with self._changing:
            if server in self.servers:
                message = f"The time server {server} is listed already."
                raise Conflict(faults.NTP_SERVER_EXISTS, message)
            if len(self.servers) >= MAX_SERVERS:
                message = f"There are {MAX_SERVERS} time servers, and no more are allowed."
                raise LimitReached(faults.NTP_SERVER_EXISTS, message)
            await self._store(servers=(*self.servers, server))

    async def remove(self, server: str) -> None:
        """Remove a server; raise NotFound."""
        async with self._changing:
            if server not in self.servers:
                known = ", ".join(self.servers) or "none"
                message = f"There is no time server {server[:64]!r}; there are: {known}."
                raise NotFound(faults.NTP_SERVER_NOT_FOUND, message)
            await self._store(servers=tuple(each for each in self.servers if each != server))

    async def set_enabled(self, enabled: bool) -> None:
        """Start or stop the service, now and at each start of the appliance."""
        async with self._changing:
            await self._store(enabled=enabled)

    async def reset(self) -> None:
        """Go back to no servers and a service that is off; the clock keeps its offset."""
        async with self._changing:
            await self._store(servers=(), enabled=False)

    async def synchronize(self, server: str | None = None, *, version: int = 4) -> Measured | None:
        """Set the clock once by a server, or by the listed ones; by the host's when none is.

        Returns the answer, None when the clock follows its host. Raises Conflict while the service
        runs, Unavailable when no server answered.
        """
        if self.enabled:
            message = "The time service keeps the clock: stop it first (sysconf ntp disable)."
            raise Conflict(faults.NTP_RUNNING, message)
        servers = self.servers if server is None else (server,)
        if not servers:
            self.last = None
            await self._time.synchronize()
            return None
        measured = await self._ask(servers, version)
        await self._take(measured)
        return measured

    async def _store(
        self, *, servers: tuple[str, ...] | None = None, enabled: bool | None = None
    ) -> None:
        changed = StoredNtp(
            servers=self.servers if servers is None else servers,
            enabled=self.enabled if enabled is None else enabled,
        )
        await self._documents.save(DOCUMENT, changed)
        self._stored = changed
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            pause = await self._round() if self.enabled else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()

    async def _round(self) -> float:
        """Ask once; return the seconds until the next time."""
        if not self.servers:
            self.last_error = "There are no time servers."
            return POLL_SECONDS
        try:
            measured = await self._ask(self.servers, 4)
            if not self.enabled or measured.server not in self.servers:
                # Switched off or removed meanwhile: what was set by hand since then stays.
                return 0.0
            moved_ms = measured.offset_ms - self._time.offset_ms
            if abs(moved_ms) > PANIC_SECONDS * 1000:
                message = (
                    f"{measured.server} is {moved_ms / 1000:.0f} s away from the appliance's clock;"
                    " set the clock by hand first (sysconf ntp ntpdate)."
                )
                raise Unavailable(faults.NTP_FAILED, message)
            await self._take(measured)
        except ConclaveError as error:
            self.last_error = error.message
            _log.warning("the time service took no answer: %s", error.message)
            return RETRY_SECONDS
        return POLL_SECONDS

    async def _take(self, measured: Measured) -> None:
        if abs(measured.offset_ms - self._time.offset_ms) > STEP_MS:
            await self._time.synchronize(measured.offset_ms)
            _log.info("the clock was set by %s: %d ms", measured.server, measured.offset_ms)
        # By the clock as it is now: by the one before, it might be years ago.
        self.last = replace(measured, at=self._time.clock.now())
        self.last_error = ""

    async def _ask(self, servers: tuple[str, ...], version: int) -> Measured:
        """Return the answer of the first server that gives a usable one."""
        causes = []
        for server in servers:
            try:
                address, port = split_server(server)
                async with asyncio.timeout(2 * ANSWER_SECONDS):
                    first, *_ = await look_up(address, port, socket.SOCK_DGRAM)
                    answer = await asyncio.to_thread(query, first, port, version)
            except TimeoutError:
                causes.append(f"{server}: no answer in time")
                continue
            except OSError as cause:
                causes.append(f"{server}: {cause.strerror or 'cannot be looked up'}")
                continue
            except UnicodeError:
                causes.append(f"{server}: no host name")
                continue
            except BadInput:
                # It was listed when the rule was another.
                causes.append(f"{server}: no host name")
                continue
            if isinstance(answer, str):
                causes.append(f"{server}: {answer}")
                continue
            offset_ms, delay_ms, stratum = answer
            return Measured(server, offset_ms, stratum, delay_ms, self._time.clock.now())
        message = f"No time server gave a usable answer ({'; '.join(causes)})."
        raise Unavailable(faults.NTP_FAILED, message)


def split_server(server: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[IPv6 address]:port`; raise BadInput."""
    found = _SERVER.fullmatch(server) if re.match(SERVER_PATTERN, server) else None
    port = int(found["port"] or 123) if found else 0
    if found is None or not 1 <= port <= 65_535:
        message = (
            "A time server must be a host name or an address, with :port when it is not 123;"
            f" it is {server[:64]!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    return found["host"].strip("[]"), port


def query(address: str, port: int, version: int) -> tuple[int, int, int] | str:
    """Ask an address; return offset to the host's clock in ms, delay in ms, stratum; or why not."""
    import ntplib

    before = host.time()
    try:
        told = ntplib.NTPClient().request(
            address, version=version, port=port, timeout=ANSWER_SECONDS
        )
    except ntplib.NTPException:
        return "no answer"
    except OSError as cause:
        return cause.strerror or "cannot be reached"
    # It must be the answer to this question, not one that somebody sends unasked.
    asked_now = before - 0.001 <= told.orig_time <= host.time() + 0.001
    if not asked_now or told.mode != _SERVER_MODE:
        return "not an answer to this question"
    if told.leap == _UNSYNCHRONIZED or not 1 <= told.stratum <= _HIGHEST_STRATUM:
        return "it has no time itself"
    if not 0 <= told.delay * 1000 <= LONGEST_DELAY_MS:
        return "its times contradict each other"
    if not is_a_time_to_set(host.time() + told.offset):
        return "its time lies outside of the years that the clock can be set to"
    return round(told.offset * 1000), round(told.delay * 1000), int(told.stratum)
