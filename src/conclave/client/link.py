"""Requests that survive: reconnect, retry with the same bytes, wait while the worker is busy.

Members are learnt from the first that answers, and tried in turn when it is away.

Invariant: a request is encoded once, so its idempotency key or attempt id is the same in every
retry, and a refusal is an answer: it is never retried (a wrong password is tried once).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.connection import (
    Answer,
    Connection,
    Interrupted,
    MonotonicSeconds,
    client_tls_context,
)
from conclave.client.members import KnownMembers, hinted_members
from conclave.client.refusals import refusal
from conclave.errors import InternalFault, Unavailable
from conclave.ids import ClusterTimeMs, ProcessId
from conclave.service import wire

WRITE_DEADLINE_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
"""How long a cluster may be out of reach before a caller is told, within the deadline."""
MEMBER_SECONDS: Final = 3.0
"""How long one member may take to be connected while there are others to try."""
FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 1.0
_NO_ARGUMENTS: Final = msgspec.Raw(msgspec.msgpack.encode([]))
_MEMBERS: Final = msgspec.msgpack.Decoder(wire.MemberList)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where time and chance come from, so that tests can pass their own."""

    monotonic: MonotonicSeconds = time.monotonic
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = lambda: secrets.randbelow(1000) / 1000


class Link:
    """One cluster as a client sees it: at most one connection, any number of threads."""

    def __init__(
        self,
        entry: ClusterEntry,
        *,
        timeout_seconds: float = WRITE_DEADLINE_SECONDS,
        waiting: Waiting | None = None,
    ) -> None:
        self.entry = entry
        self.process_id = ProcessId(secrets.token_bytes(16))
        self._timeout_seconds = timeout_seconds
        self._waiting = waiting or Waiting()
        self._context = client_tls_context(entry)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._members = KnownMembers(entry, hinted_members(entry))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        with self._lock:
            self._drop()

    def cluster_time_ms(self) -> ClusterTimeMs:
        """Return cluster time as the newest greeting gave it."""
        with self._lock:
            connection = self._connected_until(self._deadline())
            passed = self._waiting.monotonic() - connection.greeted_at
            return ClusterTimeMs(connection.greeting.cluster_time_ms + int(passed * 1000))

    def new_write(self) -> wire.Write:
        """Return the idempotency key and deadline of a new change."""
        deadline_ms = self.cluster_time_ms() + int(self._timeout_seconds * 1000)
        return wire.Write(secrets.token_bytes(16), deadline_ms)

    def request(
        self, operation: wire.Operation, args: wire.Message, ticket: bytes | None = None
    ) -> Answer:
        """Return the answer with CKR_OK; raise the tree's error for any other.

        Raises Unavailable when no answer came before the deadline: OUTCOME_UNKNOWN when a worker
        may have acted, UNABLE_TO_CONNECT when none can have.
        """
        encoded = msgspec.Raw(msgspec.msgpack.encode(args))
        with self._lock:
            answer = self._attempts(operation, encoded, ticket)
        if answer.value != 0:
            raise refusal(answer.value, operation.name)
        return answer

    def _attempts(
        self, operation: wire.Operation, args: msgspec.Raw, ticket: bytes | None
    ) -> Answer:
        deadline = self._deadline()
        may_have_acted = False
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = self._connected_until(deadline)
            except Interrupted as interruption:
                raise _unanswered(interruption.message, may_have_acted) from interruption
            try:
                answer = connection.call(
                    operation, args, ticket, deadline, min_position=self._members.position
                )
                if answer.state is not None:
                    self._members.saw(answer.state)
                if answer.value not in (wire.BUSY, wire.BEHIND):
                    return answer
                complaint = f"{operation.name}: the cluster is busy."
                if answer.value == wire.BEHIND:
                    self._leave()
            except Interrupted as interruption:
                may_have_acted = True
                complaint = interruption.message
                self._leave()
            except BaseException:
                self._drop()
                raise
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if not self._paused(pause, deadline):
                raise _unanswered(complaint, may_have_acted)

    def _connected_until(self, deadline: float) -> Connection:
        """Return the connection, made anew if need be, within CONNECT_SECONDS and the deadline."""
        patience = min(deadline, self._waiting.monotonic() + CONNECT_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._connected(patience)
            except Interrupted:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                if not self._paused(pause, patience):
                    raise

    def _paused(self, pause: float, deadline: float) -> bool:
        """Pause, with jitter; return False at once when the pause would pass the deadline."""
        wait = pause * (0.5 + self._waiting.jitter() / 2)
        if self._waiting.monotonic() + wait >= deadline:
            return False
        self._waiting.pause(wait)
        return True

    def _connected(self, deadline: float) -> Connection:
        try:
            if self._connection is None:
                self._connection = self._open(deadline)
            self._learn_members(self._connection, deadline)
        except Interrupted:
            self._leave()
            raise
        return self._connection

    def _open(self, deadline: float) -> Connection:
        members, monotonic = self._members, self._waiting.monotonic
        if members.several:
            deadline = min(deadline, monotonic() + MEMBER_SECONDS)
        connection = Connection.open(
            members.current, self._context, self.process_id, deadline, monotonic=monotonic
        )
        if connection.state is not None and not members.saw(connection.state):
            connection.close()
            message = f"Member {members.current.host} has not joined the present epoch yet."
            raise Interrupted(message)
        return connection

    def _learn_members(self, connection: Connection, deadline: float) -> None:
        """Ask for the list of members if it is another one than that which is known."""
        state = connection.state
        if state is None or state.members_version == self._members.asked:
            return
        self._members.asked = state.members_version
        answer = connection.call(wire.Operation.MEMBERS, _NO_ARGUMENTS, None, deadline)
        if answer.value == 0:
            try:
                self._members.learn(_MEMBERS.decode(answer.result))
            except msgspec.DecodeError as cause:
                message = f"The list of members has another shape: {cause}."
                raise InternalFault(faults.PROTOCOL_BROKEN, message) from cause

    def _leave(self) -> None:
        """Give up this connection and go on with another member, if one is known."""
        self._drop()
        self._members.next()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deadline(self) -> float:
        return self._waiting.monotonic() + self._timeout_seconds


def _unanswered(complaint: str, may_have_acted: bool) -> Unavailable:
    fault = faults.OUTCOME_UNKNOWN if may_have_acted else faults.UNABLE_TO_CONNECT
    return Unavailable(fault, complaint)
