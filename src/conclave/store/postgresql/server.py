"""The program postgres as our child: started, watched, ended, and never two on the same data.

Invariant: before a server starts, no process of an earlier one works on its data any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from conclave import faults
from conclave.errors import InternalFault
from conclave.store.postgresql import programs
from conclave.store.postgresql.account import Account

FAST_SECONDS: Final = 30.0
KILL_SECONDS: Final = 10.0
LAST_WORDS_SECONDS: Final = 0.5
KEPT_LINES: Final = 8
_POLL_SECONDS: Final = 0.02
_LINE_BYTES: Final = 1000

StopMode = Literal["fast", "immediate"]
_ENDED: Final = frozenset("ZX")
_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

logger = logging.getLogger("conclave.postgresql")


class Server:
    """One postgres process and those that it starts."""

    def __init__(self, account: Account, data: Path) -> None:
        self._account = account
        self._data = data
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.on_exit: Callable[[int], None] | None = None
        """Told the exit status when postgres ends without having been asked to."""

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.returncode is None

    def complaint(self) -> str:
        """Return the last lines that it said, in one line."""
        return "; ".join(self._last_lines)

    async def start(self, program: Path, arguments: Sequence[str]) -> None:
        """Start postgres after whatever an earlier parent left behind was ended."""
        if self.running:
            raise InternalFault(faults.POSTGRESQL_FAILED, "PostgreSQL runs already.")
        await self.end_leftovers()
        self._stopping = False
        self._last_lines = deque(maxlen=KEPT_LINES)
        process, output = await programs.spawn(self._account, program, arguments)
        self._process = process
        self._watch = asyncio.create_task(self._follow(process, output))

    def signal(self, number: signal.Signals) -> None:
        """Send the postmaster a signal, if it runs."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, mode: StopMode, seconds: float = FAST_SECONDS) -> None:
        """Shut down; what has not ended in time is killed."""
        self._stopping = True
        self.signal(_SIGNALS[mode])
        await self._ended(seconds if mode == "fast" else KILL_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End postgres and all that it started, at once and whatever state they are in."""
        self._stopping = True
        self.signal(signal.SIGKILL)
        await self.end_leftovers()
        await self._ended(KILL_SECONDS)

    async def end_leftovers(self) -> None:
        """Kill every process of PostgreSQL that works in our data directory, and wait for it.

        Raises InternalFault when one does not go.
        """
        try:
            async with asyncio.timeout(KILL_SECONDS):
                while pids := await asyncio.to_thread(processes_in, self._data):
                    for pid in pids:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as cause:
            message = f"Processes {pids} of an earlier PostgreSQL in {self._data} cannot be ended."
            raise InternalFault(faults.POSTGRESQL_FAILED, message) from cause

    async def _ended(self, seconds: float) -> None:
        if self._watch is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._watch)

    async def _follow(self, process: Process, output: asyncio.StreamReader) -> None:
        """Log what postgres says until it has ended."""
        lines = self._last_lines
        reading = asyncio.create_task(_log_lines(output, lines))
        status = await process.wait()
        unasked = not self._stopping
        # At once: what was told of it before must not outlive it, nor meet its successor.
        if unasked and self.on_exit is not None:
            self.on_exit(status)
        # Its children may hold the pipe longer.
        await asyncio.wait([reading], timeout=LAST_WORDS_SECONDS)
        reading.cancel()
        if unasked:
            logger.error("PostgreSQL ended with status %d: %s", status, "; ".join(lines))


async def _log_lines(output: asyncio.StreamReader, last_lines: deque[str]) -> None:
    """Log every line, and keep the last ones."""
    rest = b""
    while chunk := await output.read(4096):
        *lines, rest = (rest[-_LINE_BYTES:] + chunk).split(b"\n")
        for line in lines:
            text = line[:_LINE_BYTES].decode(errors="replace")
            last_lines.append(text)
            logger.info("%s", text)


def processes_in(data: Path) -> list[int]:
    """Return the processes named postgres whose working directory is this data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() != "postgres":
                continue
            if _state(int(entry.name)) not in _ENDED and (entry / "cwd").samefile(data):
                found.append(int(entry.name))
    return found


def states_of(postmaster: int) -> list[str]:
    """Return the state (proc(5): R, S, D, T, ...) of each living process of a server.

    Read at once, not in a thread: the kernel answers from memory, and threads may all wait for
    the very server that is looked at.
    """
    pids = [postmaster]
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
        pids += [int(pid) for pid in children.split()]
    states = []
    for pid in pids:
        with contextlib.suppress(OSError):
            states.append(_state(pid))
    return [state for state in states if state not in _ENDED]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
