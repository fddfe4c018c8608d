"""Carry out what `conclave.cluster.sequences` decides.

Invariant: a sequence that works on an older state than the member's has saved nothing: every Save
names the state that the sequence began from or saved last, and is refused when another one came in
between.  Sequences that change the cluster run one at a time on a member; what other members ask
for comes in between, and wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar, assert_never

from conclave import faults
from conclave.cluster import sequences
from conclave.cluster.configuration import Configuration, MemberState
from conclave.cluster.member_state import MemberStateFile
from conclave.cluster.sequences import (
    Action,
    Ask,
    CatchUp,
    CloseStore,
    Cut,
    DropRow,
    Follow,
    Lead,
    PauseWrites,
    PutRow,
    Record,
    ResumeWrites,
    Save,
    Steps,
    StopFollowing,
)
from conclave.errors import ConclaveError, Conflict, Unavailable
from conclave.ids import MemberId

TURN_SECONDS: Final = 20.0
"""How long a change of the cluster waits for the one before."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Hands(Protocol):
    """What can be done on this member; each action of a sequence is one method."""

    def ask(self, member_id: MemberId, question: sequences.Question) -> Awaitable[Any]:
        """Ask a member, perhaps this one."""

    def pause_writes(self) -> Awaitable[tuple[MemberId, ...]]:
        """Let writes wait; return who of the recorded list is waited for."""

    def resume_writes(self) -> None:
        """Let writes go on."""

    def close_store(self) -> Awaitable[int | None]:
        """Stop the store."""

    def follow(self) -> Awaitable[None]:
        """Run the store as a copy."""

    def stop_following(self) -> None:
        """Take nothing more from the primary."""

    def catch_up(self, position: int) -> Awaitable[None]:
        """Wait until everything up to `position` is replayed."""

    def lead(self, position: int | None) -> Awaitable[None]:
        """Run the store as the primary."""

    def record(self, configuration: Configuration) -> Awaitable[None]:
        """Commit the configuration in the store."""

    def put_row(self, member_id: MemberId) -> Awaitable[None]:
        """Commit the row of a member that is about to be listed."""

    def drop_row(self, member_id: MemberId) -> Awaitable[None]:
        """Take the row back of one that was not listed; never fails."""

    def cut(self, member_id: MemberId) -> None:
        """End the connections of a former member."""

    def state_changed(self, before: MemberState) -> None:
        """Take note of a state that was saved."""


class Coordinator:
    """This member's state, and the sequences that change it."""

    def __init__(self, file: MemberStateFile, state: MemberState) -> None:
        self._file = file
        self.state = state
        self._saving = asyncio.Lock()
        self._turn = asyncio.Lock()
        self.hands: Hands
        """Set once, before anything runs: the hands need the coordinator too."""

    # ------------------------------------------------------------------ running

    async def run(self, begin: Callable[[MemberState], Generator[Action, Any, T]]) -> T:
        """Run a sequence that begins from the present state; raise what it raises."""
        seen = self.state
        steps = begin(seen)
        result: Any = None
        error: ConclaveError | None = None
        while True:
            try:
                action = steps.throw(error) if error is not None else steps.send(result)
            except StopIteration as stop:
                returned: T = stop.value
                return returned
            result, error = None, None
            try:
                result = await self._perform(action, seen)
            except ConclaveError as failure:
                error = failure
            except BaseException:
                # Nobody goes on with this sequence: what it paused must not stay paused.
                self._resume_writes()
                raise
            else:
                if isinstance(action, Save):
                    seen = action.state

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Be the only one who changes the cluster; Unavailable (BUSY) when that takes too long."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            message = "The cluster is being changed already; try again when that has ended."
            raise Unavailable(faults.BUSY, message) from None
        try:
            yield
        finally:
            self._turn.release()

    async def change(self, begin: Callable[[MemberState], Steps]) -> MemberState:
        """Run a sequence that changes the cluster, when its turn has come."""
        async with self.turn():
            return await self.run(begin)

    async def save(self, change: Callable[[MemberState], MemberState]) -> MemberState:
        """Make a change of the state durable that no sequence is needed for."""
        async with self._saving:
            state = change(self.state)
            if state != self.state:
                await self._file.save(state)
                before, self.state = self.state, state
                self.hands.state_changed(before)
            return state

    # ------------------------------------------------------------------ actions

    async def _perform(self, action: Action, seen: MemberState) -> Any:
        hands = self.hands
        match action:
            case Save(state=state):
                await self._save(state, seen)
            case Ask(member_id=member_id, question=question):
                return await hands.ask(member_id, question)
            case PauseWrites():
                return await hands.pause_writes()
            case ResumeWrites():
                self._resume_writes()
            case CloseStore():
                return await hands.close_store()
            case Follow():
                await hands.follow()
            case StopFollowing():
                hands.stop_following()
            case CatchUp(position=position):
                await hands.catch_up(position)
            case Lead(position=position):
                await hands.lead(position)
            case Record(configuration=configuration):
                await hands.record(configuration)
            case PutRow(member_id=member_id):
                await hands.put_row(member_id)
            case DropRow(member_id=member_id):
                await hands.drop_row(member_id)
            case Cut(member_id=member_id):
                hands.cut(member_id)
            case _:
                assert_never(action)
        return None

    def _resume_writes(self) -> None:
        """Let writes go on, unless this member gave its place away meanwhile."""
        if self.state.may_write:
            self.hands.resume_writes()

    async def _save(self, state: MemberState, seen: MemberState) -> None:
        async with self._saving:
            if _is_same_promise(self.state, state):
                return  # another member told the same before
            if not _is_same_promise(self.state, seen):
                message = (
                    f"Epoch {self.state.accepted} was accepted meanwhile: nothing was changed;"
                    " look at the members and try again."
                )
                raise Conflict(faults.EPOCH_STALE, message)
            # The visible list is kept beside the promises and may have moved on.
            if state.epoch == self.state.epoch and state.list_version < self.state.list_version:
                state = _with_list(state, self.state)
            await self._file.save(state)
            before, self.state = self.state, state
        self.hands.state_changed(before)
        logger.info(
            "Epoch %s, accepted %s, primary %s, %s.",
            state.epoch,
            state.accepted,
            state.configuration.primary,
            state.standing,
        )


def _is_same_promise(one: MemberState, other: MemberState) -> bool:
    return (one.accepted, one.configuration, one.standing, one.handing_over, one.gave_up) == (
        other.accepted,
        other.configuration,
        other.standing,
        other.handing_over,
        other.gave_up,
    )


def _with_list(state: MemberState, newer: MemberState) -> MemberState:
    return replace(state, visible=newer.visible, list_version=newer.list_version)
