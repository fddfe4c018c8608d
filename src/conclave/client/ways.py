"""What the two faces of the client bring to the one protocol: time, connections, and waiting.

A face's coroutines may suspend (in an event loop) or block and never suspend (`finish` runs those).
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.connection import Connection as BlockingConnection
from conclave.client.dialogue import MonotonicSeconds
from conclave.client.pool import Connection
from conclave.client.stream_connection import StreamConnection
from conclave.errors import InternalFault

Result = TypeVar("Result")
Call = Callable[[], Coroutine[Any, Any, Result]]
MAX_BLOCKING_CONNECTIONS: Final = 32
MAX_STREAM_CONNECTIONS: Final = 4


def _jitter() -> float:
    return secrets.randbelow(1000) / 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where time and chance come from, so that tests can pass their own."""

    monotonic: MonotonicSeconds = time.monotonic
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = _jitter


class Gate(Protocol):
    """Lets a bounded number of calls in."""

    async def enter(self, seconds: float) -> bool:
        """Wait so long for a place; tell whether there was one."""

    def leave(self) -> None:
        """Give the place to another."""


class Ways(Protocol):
    """What a face brings."""

    waiting: Waiting
    seats: Gate
    """One place for each request that may be under way."""
    door: Gate
    """One place: connections are opened one after the other."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def together(self, calls: Sequence[Call[Result]]) -> list[Result]:
        """Return what these calls return, made at the same time where that can be."""

    async def open(
        self, entry: ClusterEntry, context: ssl.SSLContext, process_id: bytes, deadline: float
    ) -> Connection:
        """Return a new connection; raise Interrupted."""


class ThreadGate:
    """A gate for threads."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    async def enter(self, seconds: float) -> bool:
        """Wait so long for a place; tell whether there was one."""
        return self._places.acquire(timeout=max(0.0, seconds))

    def leave(self) -> None:
        """Give the place to another."""
        self._places.release()


class BlockingWays:
    """Threads and sockets that block: no coroutine here ever suspends."""

    def __init__(self, waiting: Waiting | None = None) -> None:
        self.waiting = waiting or Waiting()
        self.seats: Gate = ThreadGate(MAX_BLOCKING_CONNECTIONS * BlockingConnection.capacity)
        self.door: Gate = ThreadGate(1)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        self.waiting.pause(seconds)

    async def together(self, calls: Sequence[Call[Result]]) -> list[Result]:
        """Return what these calls return, made one after the other."""
        return [await call() for call in calls]

    async def open(
        self, entry: ClusterEntry, context: ssl.SSLContext, process_id: bytes, deadline: float
    ) -> Connection:
        """Return a new connection; raise Interrupted."""
        return await BlockingConnection.open(
            entry, context, process_id, deadline, monotonic=self.waiting.monotonic
        )


class TaskGate:
    """A gate for the tasks of one event loop."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    async def enter(self, seconds: float) -> bool:
        """Wait so long for a place; tell whether there was one."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await self._places.acquire()
        except TimeoutError:
            return False

    def leave(self) -> None:
        """Give the place to another."""
        self._places.release()


class LoopWays:
    """An event loop."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.seats: Gate = TaskGate(MAX_STREAM_CONNECTIONS * StreamConnection.capacity)
        self.door: Gate = TaskGate(1)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def together(self, calls: Sequence[Call[Result]]) -> list[Result]:
        """Return what these calls return, made at the same time."""
        return await asyncio.gather(*(call() for call in calls))

    async def open(
        self, entry: ClusterEntry, context: ssl.SSLContext, process_id: bytes, deadline: float
    ) -> Connection:
        """Return a new connection; raise Interrupted."""
        return await StreamConnection.open(entry, context, process_id, deadline)


def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine over `BlockingWays` to its end and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    message = "A coroutine of the blocking client suspended itself."
    raise InternalFault(faults.PROTOCOL_BROKEN, message)
