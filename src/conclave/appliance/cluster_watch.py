"""What the cluster process tells its daemon while the service runs, and what it is told.

Invariant: a notice holds the newest state, not the way to it, so applying one twice, or missing
all but the last, ends in the same.  No failure ends the watch but the service's stop, and a
cluster process that serves no such method.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from conclave import faults
from conclave.errors import ConclaveError, NotAllowed
from conclave.service.messages import MemberReport, Notice, Watch
from conclave.service.quiet import Quiet

WAIT_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 30.0
"""Until a call that waits is given up and asked again."""
PAUSE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0
"""Between two looks at what is reported, for what nobody wakes us for."""

_log = logging.getLogger(__name__)


class Processes(Protocol):
    """What the watch needs of the processes of the service."""

    on_worker_start: Callable[[], None]
    """Called when a worker starts: what the workers show to clients may be another certificate."""

    @property
    def cluster_pid(self) -> int | None:
        """Return the id of the living cluster process."""

    async def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Quiet:
        """Call the cluster process."""


class ClusterWatch:
    """Two tasks between one start and one stop of the service: one listens, one reports."""

    def __init__(
        self,
        processes: Processes,
        *,
        apply: Callable[[Notice], Awaitable[None]],
        report: Callable[[], Awaitable[MemberReport]],
    ) -> None:
        self._processes = processes
        self._apply = apply
        self._report = report
        self._changed = asyncio.Event()
        self._seen = 0
        self._told: tuple[int | None, MemberReport] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to report."""
        self._processes.on_worker_start = self.report_soon
        loop = asyncio.get_running_loop()
        for name, step in (("watch", self._listen), ("report", self._look)):
            self._tasks.append(loop.create_task(_forever(name, step), name=f"cluster {name}"))

    async def stop(self) -> None:
        """End both, whatever is under way."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def report_soon(self) -> None:
        """Look now whether there is something to report."""
        self._changed.set()

    async def _listen(self) -> None:
        wanted = Watch(seen=self._seen, seconds=WAIT_SECONDS)
        answer = await self._processes.call("watch", wanted, timeout_seconds=ANSWER_SECONDS)
        notice = cast(Notice, answer)
        await self._apply(notice)
        self._seen = notice.number

    async def _look(self) -> None:
        self._changed.clear()
        # A process that was respawned knows nothing of what its predecessor was told.
        report = (self._processes.cluster_pid, await self._report())
        if report != self._told:
            try:
                await self._processes.call("report", report[1], timeout_seconds=ANSWER_SECONDS)
            except NotAllowed as refusal:
                if refusal.fault is not faults.NO_ACL_RULE:
                    raise
                # Looking goes on: the daemon's own answers depend on it.
                _log.debug("the cluster process takes no report")
            self._told = report
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._changed.wait()


async def _forever(name: str, step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except ConclaveError as refusal:
            if refusal.fault is faults.NO_ACL_RULE:
                _log.debug("the cluster process serves no %s", name)
                return
            _log.warning("cluster %s failed, trying again: %s", name, refusal.message)
        except Exception:  # noqa: BLE001 - the boundary of a task
            # Without this one surprise would end it for good.
            _log.exception("cluster %s failed, trying again", name)
        else:
            continue
        await asyncio.sleep(PAUSE_SECONDS)
