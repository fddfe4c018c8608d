"""The open connections of a link, and how many calls each carries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from conclave.client.clusters import ClusterEntry
from conclave.client.dialogue import Answer, Dialogue
from conclave.service import wire


class Connection(Protocol):
    """What both faces of the client bring: a greeted connection to one member."""

    capacity: int
    dialogue: Dialogue

    @property
    def usable(self) -> bool:
        """Tell whether it has not ended yet."""

    async def call(
        self,
        operation: wire.Operation,
        args: msgspec.Raw,
        ticket: bytes | None,
        deadline: float,
        *,
        min_position: int | None = None,
    ) -> Answer:
        """Send one request and return its answer; raise Interrupted when none came in time."""

    def close(self) -> None:
        """Close without waiting for the peer."""


class Pool:
    """Gives out connections that have room, and closes those that were given up.

    Invariant: a connection that was given up is given to nobody, and is closed when its last call
    is over. Any thread may call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Connection, int] = {}
        self._given_up: dict[Connection, int] = {}

    def take(self) -> Connection | None:
        """Return the least loaded connection with room, for one call; None when there is none."""
        with self._lock:
            free = [(n, c) for c, n in self._calls.items() if n < c.capacity and c.usable]
            if not free:
                return None
            _calls, connection = min(free, key=lambda row: row[0])
            self._calls[connection] += 1
            return connection

    def add(self, connection: Connection) -> None:
        """Take in a new connection, with the call that it was made for."""
        with self._lock:
            self._calls[connection] = 1

    def give_back(self, connection: Connection) -> None:
        """End a call."""
        with self._lock:
            if connection in self._calls and connection.usable:
                self._calls[connection] -= 1
                return
            calls = self._calls.pop(connection, None) or self._given_up.pop(connection, 1)
            rest = calls - 1
            if rest > 0:
                self._given_up[connection] = rest
                return
        connection.close()

    def give_up(self, wanted: Callable[[ClusterEntry], bool]) -> None:
        """Give no connection to these members to anybody any more."""
        idle = []
        with self._lock:
            for connection in [c for c in self._calls if wanted(c.dialogue.entry)]:
                calls = self._calls.pop(connection)
                if calls:
                    self._given_up[connection] = calls
                else:
                    idle.append(connection)
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close all; calls under way end as interrupted."""
        with self._lock:
            everyone = [*self._calls, *self._given_up]
            self._calls.clear()
            self._given_up.clear()
        for connection in everyone:
            connection.close()
