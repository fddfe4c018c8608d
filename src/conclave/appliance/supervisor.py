"""Keep child processes alive: start, watch, start again, end.

Invariants: every child is a direct child of the daemon, started from its main thread, so that it
dies with the daemon (PR_SET_PDEATHSIG follows the thread that started it); its secrets go through
one frame on its standard input, which stays open as long as the daemon lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.appliance.respawn import RespawnState, after_death
from conclave.errors import InternalFault, Unavailable
from conclave.service.bootstrap import SERVES

STOP_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class ChildSpec:
    """What a child is; `bootstrap` is asked at every start, for what has changed meanwhile."""

    name: str
    module: str
    bootstrap: Callable[[], bytes]
    inherited: tuple[int, ...] = ()
    """Descriptors the child keeps, under the same numbers."""
    source_directory: str = ""
    """Where the child finds Conclave's source; "" means where the daemon found it."""
    announces: bool = False
    """It says `conclave.service.bootstrap.SERVES` on its standard output when it serves."""


class Child:
    """One supervised process."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._outdated = False
        """Replaced while its process starts: the frame that this one gets is an earlier one."""
        self._serving = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None
        self.last_status: int | None = None
        """Exit status of the last process that died, negative for a signal."""

    @property
    def name(self) -> str:
        """Return the child's name."""
        return self._spec.name

    @property
    def pid(self) -> int | None:
        """Return the living process's id."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process and watch it from now on."""
        await self._spawn()
        self._task = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self, *, deadline_seconds: float = STOP_SECONDS) -> None:
        """End the process: ask first, kill at the deadline."""
        # The watch first: cancelled while it starts a process, it ends that process itself.
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._hear_no_more()
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            await self._end(process, deadline_seconds)
        self._close_input(process)

    def replace(self) -> None:
        """End the process so that it comes back with a new bootstrap frame."""
        self._outdated = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def hand_over(self, deadline_seconds: float) -> bool:
        """Replace the process and tell whether its successor serves before the deadline."""
        self._serving.clear()
        self.replace()
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._serving.wait()
        except TimeoutError:
            return False
        return True

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        # An earlier frame's process may say so while it is about to end.
        if await process.stdout.readline() == SERVES and not self._outdated:
            self._serving.set()

    def _hear_no_more(self) -> None:
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            hearing.cancel()

    async def _watch(self) -> None:
        state = RespawnState()
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self._wait_for_death()
            by_signal = self.last_status is not None and self.last_status < 0
            state, pause = after_death(state, loop.time() - started, by_signal=by_signal)
            await asyncio.sleep(pause)
            await self._respawn()

    async def _wait_for_death(self) -> None:
        process = self._process
        if process is None:
            return
        self.last_status = await process.wait()
        self._close_input(process)
        _log.warning("child %s (pid %d) ended: %s", self.name, process.pid, self.last_status)

    async def _respawn(self) -> None:
        try:
            await self._spawn()
        except (OSError, Unavailable) as cause:
            # No memory or no processes left: the watch goes on and tries again after a pause.
            _log.error("child %s cannot be started: %s", self.name, cause)
            self._process = None

    async def _spawn(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            message = "Children are started from the main thread only, or they outlive the daemon."
            raise InternalFault(faults.INTERNAL, message)
        self._hear_no_more()
        self._outdated = False
        frame = self._spec.bootstrap()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            # No module is taken from the directory that the daemon happened to be started in.
            "-P",
            "-m",
            self._spec.module,
            env=_environment(self._spec.source_directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if self._spec.announces else None,
            pass_fds=self._spec.inherited,
            # A terminal's Ctrl-C is the daemon's to act upon; it ends its children in order.
            start_new_session=True,
        )
        self._process = process
        if self._spec.announces:
            self._hearing = asyncio.create_task(self._hear(process), name=f"hear {self.name}")
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(frame)
            await process.stdin.drain()
        if self._outdated:
            self.replace()
        _log.info("child %s started (pid %d)", self.name, process.pid)

    @staticmethod
    def _close_input(process: asyncio.subprocess.Process | None) -> None:
        if process is not None and process.stdin is not None:
            process.stdin.close()

    async def _end(self, process: asyncio.subprocess.Process, deadline_seconds: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(deadline_seconds):
                await process.wait()
        except TimeoutError:
            _log.warning("child %s did not end in time and is killed", self.name)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _environment(source_directory: str) -> dict[str, str] | None:
    return os.environ | {"PYTHONPATH": source_directory} if source_directory else None


async def stop_all(children: Sequence[Child], *, deadline_seconds: float = STOP_SECONDS) -> None:
    """End children side by side."""
    await asyncio.gather(*(child.stop(deadline_seconds=deadline_seconds) for child in children))
