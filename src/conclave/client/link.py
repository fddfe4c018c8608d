"""Requests that survive: reconnect, retry with the same bytes, wait while the worker is busy.

Members are learnt from the first that answers, and tried in turn when it is away.

Invariant: a request is encoded once, so its idempotency key or attempt id is the same in every
retry, and a refusal is an answer: it is never retried (a wrong password is tried once).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.dialogue import Answer, Interrupted, client_tls_context
from conclave.client.members import KnownMembers, hinted_members
from conclave.client.pool import Connection, Pool
from conclave.client.refusals import refusal
from conclave.client.trials import Trial, Verdict
from conclave.client.ways import BlockingWays, Call, Waiting, Ways
from conclave.errors import InternalFault, Unavailable
from conclave.ids import ClusterTimeMs, ProcessId
from conclave.service import wire

Result = TypeVar("Result")
WRITE_DEADLINE_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
"""How long a cluster may be out of reach before a caller is told, within the deadline."""
MEMBER_SECONDS: Final = 3.0
"""How long one member may take to be connected while there are others to try."""
SEAT_SECONDS: Final = 600.0
"""How long a request may wait here for those before it; its deadline begins after that."""
FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 1.0
_NO_ARGUMENTS: Final = msgspec.Raw(msgspec.msgpack.encode([]))
_NOT_NOW: Final = frozenset({wire.BUSY, wire.BEHIND})
_MEMBERS: Final = msgspec.msgpack.Decoder(wire.MemberList)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent, the same in every attempt, and until when an answer is waited for."""

    operation: wire.Operation
    args: msgspec.Raw
    ticket: bytes | None
    deadline: float

    def __repr__(self) -> str:
        return f"_Request({self.operation.name})"


class AsyncLink:
    """One cluster as a client sees it: a few connections, any number of tasks (or threads)."""

    def __init__(
        self,
        entry: ClusterEntry,
        ways: Ways,
        *,
        timeout_seconds: float = WRITE_DEADLINE_SECONDS,
    ) -> None:
        self.entry = entry
        self.process_id = ProcessId(secrets.token_bytes(16))
        self._ways = ways
        self._waiting = ways.waiting
        self._timeout_seconds = timeout_seconds
        self._context = client_tls_context(entry)
        self._pool = Pool()
        self._members = KnownMembers(entry, hinted_members(entry))
        self._cluster_clock: tuple[int, float] | None = None

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        self._pool.close()

    async def cluster_time_ms(self) -> ClusterTimeMs:
        """Return cluster time as the newest greeting gave it."""
        if self._cluster_clock is None:
            connection = await self._connected_until(self._deadline())
            self._pool.give_back(connection)
            greeting = connection.dialogue.greeting
            self._cluster_clock = (greeting.cluster_time_ms, connection.dialogue.greeted_at)
        then_ms, greeted_at = self._cluster_clock
        return ClusterTimeMs(then_ms + int((self._waiting.monotonic() - greeted_at) * 1000))

    async def new_write(self) -> wire.Write:
        """Return the idempotency key and deadline of a new change."""
        deadline_ms = await self.cluster_time_ms() + int(self._timeout_seconds * 1000)
        return wire.Write(secrets.token_bytes(16), deadline_ms)

    async def together(self, calls: Sequence[Call[Result]]) -> list[Result]:
        """Return what these calls return, made at the same time where that can be."""
        return await self._ways.together(calls)

    async def request(
        self, operation: wire.Operation, args: wire.Message, ticket: bytes | None = None
    ) -> Answer:
        """Return the answer with CKR_OK; raise the tree's error for any other."""
        answer = await self.exchange(operation, args, ticket)
        if answer.value != 0:
            raise refusal(answer.value, operation.name)
        return answer

    async def exchange(
        self, operation: wire.Operation, args: wire.Message, ticket: bytes | None
    ) -> Answer:
        """Return the answer, whatever its value.

        Raises Unavailable when no answer came before the deadline: OUTCOME_UNKNOWN when a worker
        may have acted, UNABLE_TO_CONNECT when none can have.
        """
        if not await self._ways.seats.enter(SEAT_SECONDS):
            raise _unanswered(f"{operation.name}: too many requests are under way.", False)
        try:
            encoded = msgspec.Raw(msgspec.msgpack.encode(await self._in_time(args)))
            return await self._attempts(_Request(operation, encoded, ticket, self._deadline()))
        finally:
            self._ways.seats.leave()

    async def _in_time(self, args: wire.Message) -> wire.Message:
        """Return a change with a deadline of its own if it has waited here for long."""
        write = getattr(args, "write", None)
        if not isinstance(write, wire.Write):
            return args
        now_ms = await self.cluster_time_ms()
        whole_ms = int(self._timeout_seconds * 1000)
        if write.deadline_ms - now_ms > whole_ms // 2:
            return args
        later = msgspec.structs.replace(write, deadline_ms=now_ms + whole_ms)
        return msgspec.structs.replace(args, write=later)

    async def _attempts(self, request: _Request) -> Answer:
        trial = Trial(request.operation)
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = await self._connected_until(request.deadline)
            except Interrupted as interruption:
                raise _unanswered(interruption.message, trial.may_have_acted) from interruption
            complaint = f"{request.operation.name}: the cluster is busy."
            try:
                answer = await self._call(connection, trial, request)
                if answer is not None:
                    return answer
            except Interrupted as interruption:
                trial.interrupted()
                complaint = interruption.message
                self._leave(connection.dialogue.entry)
            finally:
                self._pool.give_back(connection)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if not await self._paused(pause, request.deadline):
                raise _unanswered(complaint, trial.may_have_acted)

    async def _call(self, connection: Connection, trial: Trial, request: _Request) -> Answer | None:
        """Ask one member once; return None when the request is to be sent again."""
        member = connection.dialogue.entry
        deadline = request.deadline
        if self._members.several:
            deadline = min(deadline, self._waiting.monotonic() + trial.patience())
        answer = await connection.call(
            request.operation,
            request.args,
            request.ticket,
            deadline,
            min_position=self._members.position,
        )
        if answer.state is not None and not self._members.saw(answer.state):
            raise Interrupted(f"Member {member.host} lives in an earlier epoch.")
        now = self._waiting.monotonic()
        verdict = trial.judge(answer.value, member, self._members.entries, now)
        if verdict is Verdict.ANSWERED:
            return answer
        if verdict is Verdict.ELSEWHERE:
            self._leave(member)
        return None

    async def _connected_until(self, deadline: float) -> Connection:
        """Return a connection, made anew if need be, within CONNECT_SECONDS and the deadline."""
        patience = min(deadline, self._waiting.monotonic() + CONNECT_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._connected(patience)
            except Interrupted:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                if not await self._paused(pause, patience):
                    raise

    async def _paused(self, pause: float, deadline: float) -> bool:
        """Pause, with jitter; return False at once when the pause would pass the deadline."""
        wait = pause * (0.5 + self._waiting.jitter() / 2)
        if self._waiting.monotonic() + wait >= deadline:
            return False
        await self._ways.pause(wait)
        return True

    async def _connected(self, deadline: float) -> Connection:
        """Return a connection with a place for one call taken; raise Interrupted."""
        connection = self._pool.take()
        if connection is None:
            connection = await self._opened(deadline)
        try:
            await self._learn_members(connection, deadline)
        except BaseException as error:
            if isinstance(error, Interrupted):
                self._leave(connection.dialogue.entry)
            self._pool.give_back(connection)
            raise
        return connection

    async def _opened(self, deadline: float) -> Connection:
        if not await self._ways.door.enter(deadline - self._waiting.monotonic()):
            message = f"No connection to the cluster's entry member {self.entry.host} in time."
            raise Interrupted(message)
        try:
            connection = self._pool.take()
            if connection is None:
                connection = await self._open(self._members.current, deadline)
                self._pool.add(connection)
            return connection
        finally:
            self._ways.door.leave()

    async def _open(self, member: ClusterEntry, deadline: float) -> Connection:
        if self._members.several:
            deadline = min(deadline, self._waiting.monotonic() + MEMBER_SECONDS)
        try:
            connection = await self._ways.open(member, self._context, self.process_id, deadline)
        except Interrupted:
            self._members.leave(member)
            raise
        dialogue = connection.dialogue
        if dialogue.state is not None and not self._members.saw(dialogue.state):
            connection.close()
            self._members.leave(member)
            message = f"Member {member.host} has not joined the present epoch yet."
            raise Interrupted(message)
        self._cluster_clock = (dialogue.greeting.cluster_time_ms, dialogue.greeted_at)
        return connection

    async def _learn_members(self, connection: Connection, deadline: float) -> None:
        """Ask for the list of members if it is another one than that which is known."""
        state = connection.dialogue.state
        if state is None or state.members_version == self._members.asked:
            return
        # Asked for before the answer, so that only one of several calls at once asks.
        self._members.asked = state.members_version
        try:
            answer = await connection.call(wire.Operation.MEMBERS, _NO_ARGUMENTS, None, deadline)
        except BaseException:
            self._members.asked = None
            raise
        if answer.value in _NOT_NOW:
            self._members.asked = None
        if answer.value == 0:
            self._learn(answer)

    def _learn(self, answer: Answer) -> None:
        try:
            self._members.learn(_MEMBERS.decode(answer.result))
        except msgspec.DecodeError as cause:
            message = f"The list of members has another shape: {cause}."
            raise InternalFault(faults.PROTOCOL_BROKEN, message) from cause
        listed = self._members.entries
        self._pool.give_up(lambda entry: entry not in listed)

    def _leave(self, member: ClusterEntry) -> None:
        """Give up the connections to this member, and go on with another, if one is known."""
        self._pool.give_up(lambda entry: entry == member)
        self._members.leave(member)

    def _deadline(self) -> float:
        return self._waiting.monotonic() + self._timeout_seconds


class Link:
    """One cluster as a client sees it whose calls block: any number of threads."""

    def __init__(
        self,
        entry: ClusterEntry,
        *,
        timeout_seconds: float = WRITE_DEADLINE_SECONDS,
        waiting: Waiting | None = None,
    ) -> None:
        self.core = AsyncLink(entry, BlockingWays(waiting), timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        self.core.close()


def _unanswered(complaint: str, may_have_acted: bool) -> Unavailable:
    fault = faults.OUTCOME_UNKNOWN if may_have_acted else faults.UNABLE_TO_CONNECT
    return Unavailable(fault, complaint)
