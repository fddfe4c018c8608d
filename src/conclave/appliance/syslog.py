"""The system log service: keeps `messages` and `lunalogs`, turns files over, sends lines away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.documents import Documents
from conclave.appliance.log_files import LogFiles
from conclave.appliance.remote_log_trust import RemoteLogTrust
from conclave.appliance.remote_logs import RemoteHost, RemoteLog
from conclave.appliance.system_log import (
    PRODUCT_LOGGER,
    Entry,
    SystemLogHandler,
    file_line,
)
from conclave.appliance.time import ApplianceTime
from conclave.errors import Conflict, LimitReached, NotFound

DOCUMENT: Final = "syslog"
MAX_REMOTE_HOSTS: Final = 8
LOOK_SECONDS: Final = 10.0


class StoredSyslog(msgspec.Struct, frozen=True):
    """Remote hosts in the order in which they were added."""

    remote_hosts: tuple[RemoteHost, ...] = ()


class Syslog:
    """The system log of one appliance."""

    def __init__(
        self,
        documents: Documents,
        stored: StoredSyslog,
        files: LogFiles,
        time: ApplianceTime,
        *,
        host_name: str,
        ca_file: str,
    ) -> None:
        self._documents = documents
        self._stored = stored
        self.files: Final = files
        self._trust = RemoteLogTrust(ca_file, time.clock)
        self._lock = threading.Lock()
        self._changing = asyncio.Lock()
        self._remotes: dict[str, RemoteLog] = {}
        self._handler = SystemLogHandler(time.local_now, host_name, self._keep)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        documents: Documents,
        files: LogFiles,
        time: ApplianceTime,
        *,
        host_name: str,
        ca_file: str,
    ) -> Syslog:
        """Read the remote hosts from the store; `ca_file` vouches for those over TLS."""
        stored = await documents.load(DOCUMENT, StoredSyslog)
        return cls(documents, stored, files, time, host_name=host_name, ca_file=ca_file)

    @property
    def remote_hosts(self) -> tuple[RemoteHost, ...]:
        """Return where lines are sent."""
        return self._stored.remote_hosts

    def last_error(self, host_id: str) -> str:
        """Return why lines do not get to a host; "" when they do, as far as is known."""
        remote = self._remotes.get(host_id)
        return "" if remote is None else remote.last_error

    def start(self) -> None:
        """Begin to keep what Conclave's loggers say."""
        for host in self.remote_hosts:
            self._remotes[host.host_id] = RemoteLog(host, self._trust)
        logger = logging.getLogger(PRODUCT_LOGGER)
        logger.addHandler(self._handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        self._task = asyncio.get_running_loop().create_task(self._look(), name="syslog")

    async def stop(self) -> None:
        """End; what is not sent yet is lost."""
        logging.getLogger(PRODUCT_LOGGER).removeHandler(self._handler)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        remotes, self._remotes = self._remotes, {}
        for remote in remotes.values():
            await remote.stop()

    async def add_remote(self, host: RemoteHost) -> None:
        """Send lines to another host from now on; raise Conflict or LimitReached."""
        async with self._changing:
            if host.host_id in self._remotes:
                message = f"Lines are sent to {host.host_id} already."
                raise Conflict(faults.SYSLOG_HOST_EXISTS, message)
            if len(self.remote_hosts) >= MAX_REMOTE_HOSTS:
                message = f"There are {MAX_REMOTE_HOSTS} remote hosts, and no more are allowed."
                raise LimitReached(faults.SYSLOG_HOST_EXISTS, message)
            await self._store((*self.remote_hosts, host))
            self._remotes[host.host_id] = RemoteLog(host, self._trust)

    async def remove_remote(self, host_id: str) -> None:
        """Send no more lines to a host, which is named with or without its port; raise NotFound."""
        async with self._changing:
            hosts = self.remote_hosts
            found = [each for each in hosts if host_id in (each.host_id, each.address)]
            if not found:
                known = ", ".join(each.host_id for each in hosts) or "none"
                message = f"There is no remote host {host_id[:64]!r}; there are: {known}."
                raise NotFound(faults.SYSLOG_HOST_NOT_FOUND, message)
            await self._remove(found)

    async def reset(self) -> None:
        """Send no more lines to any host; the logs themselves stay."""
        async with self._changing:
            await self._remove(self.remote_hosts)

    async def _remove(self, gone: Sequence[RemoteHost]) -> None:
        await self._store(tuple(each for each in self.remote_hosts if each not in gone))
        for each in gone:
            await self._remotes.pop(each.host_id).stop()

    async def rotate(self) -> int:
        """Turn all files over and return how many there were."""
        return await asyncio.to_thread(self._locked_rotate)

    def _locked_rotate(self) -> int:
        with self._lock:
            return self.files.rotate()

    async def clean_up(self) -> int:
        """Remove the older files of all logs and return how many there were."""
        return await asyncio.to_thread(self.files.clean_up)

    async def _store(self, hosts: tuple[RemoteHost, ...]) -> None:
        changed = StoredSyslog(remote_hosts=hosts)
        await self._documents.save(DOCUMENT, changed)
        self._stored = changed

    def _keep(self, entry: Entry) -> None:
        for remote in tuple(self._remotes.values()):
            remote.put(entry)
        with self._lock:
            self.files.append(entry.log, file_line(entry))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._rotate_full)

    def _rotate_full(self) -> None:
        with self._lock:
            self.files.rotate_full()
