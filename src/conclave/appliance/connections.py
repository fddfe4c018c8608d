"""Bound the connections of a door from the moment they are accepted.

Invariant: a door holds at most `most` connections, TLS handshakes included, and one source at most
half of them, so that no peer keeps the others out or uses up the daemon's descriptors.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any, Self

from conclave.source_networks import network_of


class ConnectionBudget:
    """Count the open connections of one door, in all and by source address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._open: Counter[str] = Counter()

    def take(self, source: str) -> bool:
        """Count one more of a source; False when it, or the door, has as many as it may."""
        if self._open.total() >= self._most or self._open[source] >= self._most_of_one:
            return False
        self._open[source] += 1
        return True

    def give_back(self, source: str) -> None:
        """Count one less of a source."""
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]


class _Counted(socket.socket):
    """A connection that gives its place back when it is closed."""

    _budget: ConnectionBudget | None = None
    _source = ""

    def hold(self, budget: ConnectionBudget, source: str) -> Self:
        """Remember what to give back."""
        self._budget, self._source = budget, source
        return self

    def close(self) -> None:
        """Close the connection; its place is free then."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self._source)
        super().close()


class BoundedListener(socket.socket):
    """A listening socket that closes, right after the accept, what is beyond the budget."""

    _budget: ConnectionBudget

    @classmethod
    def take_over(cls, listener: socket.socket, budget: ConnectionBudget) -> Self:
        """Return a bounded listener in place of a plain one, which is empty then."""
        family, kind, protocol = listener.family, listener.type, listener.proto
        bounded = cls(family, kind, protocol, fileno=listener.detach())
        bounded.setblocking(False)
        bounded._budget = budget
        return bounded

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; raise ConnectionAbortedError, which event loops pass over."""
        connection, address = super().accept()
        source = network_of(str(address[0]))
        if not self._budget.take(source):
            connection.close()
            raise ConnectionAbortedError(f"{source} has too many connections, or the door has.")
        family, kind, protocol = connection.family, connection.type, connection.proto
        counted = _Counted(family, kind, protocol, fileno=connection.detach())
        return counted.hold(self._budget, source), address
