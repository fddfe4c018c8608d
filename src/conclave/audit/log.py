"""The audit log of a running appliance: one writer behind a bounded queue.

Invariants: whoever awaits `write` goes on only once the record is on disk, and many who wait share
one flush; what could not be written stays queued, and changes are refused until it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from conclave import faults
from conclave.audit.chain import Checkpoint, Head
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.files import AuditFiles, Bounds, damage_event
from conclave.audit.repeats import Repeats
from conclave.clock import ApplianceClock
from conclave.errors import InternalFault, Unavailable

MAX_QUEUED: Final = 8192
MAX_BATCH: Final = 512
RETRY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """The state of the log."""

    head: Head
    checkpoint: Checkpoint
    files: tuple[str, ...]
    total_bytes: int


class AuditLog:
    """Write events in the order in which they are given."""

    def __init__(
        self, files: AuditFiles, thread: ThreadPoolExecutor, clock: ApplianceClock
    ) -> None:
        self._files = files
        self._thread = thread
        self._clock = clock
        self._queue: deque[tuple[datetime, AuditEvent]] = deque()
        self._lost = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._taken = 0
        self._written = 0
        self._wanted = asyncio.Event()
        self._failure = ""
        self._task: asyncio.Task[None] | None = None
        self.repeats: Final = Repeats()

    @classmethod
    async def open(cls, directory: Path, bounds: Bounds, clock: ApplianceClock) -> AuditLog:
        """Open the log in a directory; damage that is found becomes its next record."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit")
        loop = asyncio.get_running_loop()
        files = await loop.run_in_executor(thread, AuditFiles, directory, bounds)
        log = cls(files, thread, clock)
        log._task = loop.create_task(log._run(), name="audit-log")
        if files.damage:
            _log.error("the audit log is damaged: %s", files.damage)
            log.note(damage_event(files.damage))
        return log

    async def close(self) -> None:
        """Write what is queued, at most for CLOSE_SECONDS, and close the files."""
        if self._task is None:
            return
        self._wanted.set()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._queue and not self._failure:
                    await self._flushed()
        except TimeoutError:
            _log.error("%d records of the audit log could not be written", len(self._queue))
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        await self._on_thread(self._files.close)
        self._thread.shutdown(wait=False)

    def note(self, event: AuditEvent) -> bool:
        """Have an event written soon; beyond MAX_QUEUED it is only counted: tell which."""
        if len(self._queue) >= MAX_QUEUED:
            self._lost += 1
            return False
        self._queue.append((self._clock.now(), event))
        self._taken += 1
        self._wanted.set()
        return True

    async def write(self, event: AuditEvent) -> None:
        """Write an event durably; raise InternalFault (AUDIT_FAILED) when that fails."""
        if not self.note(event):
            message = f"The audit log has {MAX_QUEUED} records to write and takes no more."
            raise InternalFault(faults.AUDIT_FAILED, message)
        await self._flushed()

    def require_writable(self) -> None:
        """Refuse a change that could not be recorded; raise Unavailable (AUDIT_FAILED)."""
        if self._failure:
            message = (
                f"The audit log cannot be written ({self._failure}), so nothing may be changed:"
                " make room in the state directory first."
            )
            raise Unavailable(faults.AUDIT_FAILED, message)

    async def summary(self) -> Summary:
        """Return head, checkpoint and files."""
        return await self._after_queued(self._summarize)

    async def page(self, offset: int, limit: int) -> tuple[list[bytes], int]:
        """Return records, newest first, as JSON, and how many there are."""
        return await self._after_queued(lambda: self._files.page(offset, limit))

    async def export(self) -> Iterator[bytes]:
        """Return the log in chunks, with a checkpoint as its last line."""
        return await self._after_queued(self._files.export)

    async def rotate(self) -> None:
        """Begin a new file."""
        await self._after_queued(self._files.rotate)

    async def lines(self) -> Iterator[bytes]:
        """Return all records as lines."""
        return await self._after_queued(self._files.lines)

    # ---- inside

    def _summarize(self) -> Summary:
        paths = self._files.paths()
        return Summary(
            head=self._files.head,
            checkpoint=self._files.checkpoint(),
            files=tuple(path.name for path in paths),
            total_bytes=sum(path.stat().st_size for path in paths),
        )

    async def _after_queued(self, function: Callable[[], _T]) -> _T:
        if self._queue:
            await self._flushed()
        return await self._on_thread(function)

    async def _on_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _flushed(self) -> None:
        """Wait until everything given so far is on disk."""
        if self._written >= self._taken:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._taken, done))
        await done

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                if not await self._write_batch():
                    await asyncio.sleep(RETRY_SECONDS)

    async def _write_batch(self) -> bool:
        batch = [self._queue[index] for index in range(min(len(self._queue), MAX_BATCH))]
        try:
            await self._on_thread(lambda: self._files.append(batch))
        except OSError as cause:
            if not self._failure:
                _log.error("the audit log cannot be written: %s", cause.strerror)
            self._failure = cause.strerror or "it failed"
            self._fail_waiting()
            return False
        for _ in batch:
            self._queue.popleft()
        self._written += len(batch)
        self._failure = ""
        self._release_waiting()
        self._tell_lost()
        return True

    def _tell_lost(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            note = f"{lost} records were given faster than they could be written"
            self.note(AuditEvent(kind=EventKind.LOG, outcome=Outcome.FAILED, note=note))

    def _release_waiting(self) -> None:
        still = []
        for number, done in self._waiting:
            if number > self._written:
                still.append((number, done))
            elif not done.done():
                done.set_result(None)
        self._waiting = still

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            if not done.done():
                message = (
                    f"The audit log cannot be written ({self._failure}); what was asked for may"
                    " have been done."
                )
                done.set_exception(InternalFault(faults.AUDIT_FAILED, message))
