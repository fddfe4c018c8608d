"""What a member does that is not primary: heartbeats, its lease, and a copy that follows.

Invariant: the lease in the page ends no later than `lease_ms` after the heartbeat was sent that the
primary granted last (rule C16); before a member is Read-Write again, its copy streams and has
replayed all that the primary had written a moment before it granted that, everything its workers
cached is void, and its log position is that of its own copy (rules C8 and C17).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from conclave.clock import boot_time_ms
from conclave.cluster import keeper
from conclave.cluster.configuration import MemberState, Standing
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.copy_watch import CopyWatch
from conclave.cluster.epochs import Epoch
from conclave.cluster.link.messages import Heartbeat, HeartbeatAnswer
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.replication import Replication
from conclave.errors import ConclaveError
from conclave.ids import MemberId, RowRevision
from conclave.service.page import SharedPage
from conclave.settings import ClusterTimes

CALL_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.02
STEP_MS: Final = 20
"""Smaller differences of cluster time are the network's."""

logger = logging.getLogger(__name__)


class Follower:
    """The heartbeat of this member while it is not primary."""

    def __init__(
        self,
        coordinator: Coordinator,
        neighbours: Neighbours,
        replication: Replication,
        page: SharedPage,
        times: ClusterTimes,
        *,
        describe: Callable[[int], Awaitable[Heartbeat]],
        position: Callable[[], Awaitable[RowRevision]],
        on_newer: Callable[[MemberId], Awaitable[None]],
        on_users: Callable[[int], None],
    ) -> None:
        self._coordinator = coordinator
        self._neighbours = neighbours
        self._replication = replication
        self._page = page
        self._times = times
        self._describe = describe
        self._position = position
        self._on_newer = on_newer
        self._on_users = on_users
        self._watch = CopyWatch()
        self._retired = False
        self._lost_ms = 0
        """Boot time of the primary's goodbye, or of the end of this member's own copy of the store;
        what was asked for before is void."""

    def lose_primary(self) -> None:
        """Be Read-Only until the primary grants what is asked for from now on.

        It has said goodbye; or the copy from which the workers read is gone.
        """
        self._lost_ms = boot_time_ms()
        self._page.set_lease_end(0)

    def retire(self) -> None:
        """Be Read-Only until `come_back`: whoever leaves is waited for no more from one moment on.

        A lease that was granted before would let it serve reads as if it still knew everything.
        """
        self._retired = True
        self.lose_primary()

    def come_back(self) -> None:
        """Ask for leases again."""
        self._retired = False

    @property
    def active(self) -> bool:
        """Tell whether this member follows a primary."""
        state = self._coordinator.state
        return (
            state.standing in (Standing.MEMBER, Standing.JOINING)
            and not state.is_primary
            and not state.gave_up
            and not self._retired
        )

    async def beat_for_ever(self) -> None:
        """Send a heartbeat again and again."""
        while True:
            if self.active:
                try:
                    await self._beat(self._coordinator.state)
                except ConclaveError as error:
                    logger.debug("No heartbeat was answered: %s", error.message)
            else:
                self._watch = self._watch.anew()
            await asyncio.sleep(self._times.heartbeat_ms / 1000)

    async def _beat(self, state: MemberState) -> None:
        sent_ms = boot_time_ms()
        heartbeat = await self._describe(sent_ms)
        sent_ms = boot_time_ms()
        primary = state.configuration.primary
        answer: HeartbeatAnswer = await self._neighbours.call(
            primary, "heartbeat", heartbeat, timeout_seconds=CALL_SECONDS
        )
        epoch = Epoch(answer.epoch_number, MemberId(answer.epoch_promoter))
        if epoch > self._coordinator.state.epoch:
            self._watch = self._watch.anew()  # the copy begins to follow anew
            await self._on_newer(primary)
            return
        if epoch != self._coordinator.state.epoch:
            return
        self._set_time(sent_ms, answer)
        if answer.granted and sent_ms > self._lost_ms:
            await self._renew_lease(sent_ms, answer)
        else:
            self._page.set_lease_end(0)
        self._on_users(answer.users_version)
        await self._watch_copy(state, answer.timeline)

    async def _renew_lease(self, sent_ms: int, answer: HeartbeatAnswer) -> None:
        page = self._page
        epoch = self._coordinator.state.epoch
        begins = not page.lease_valid()
        if begins:
            if not await self._catches_up(answer):
                return
            page.set_log_position(await self._position())
            page.bump_global()
        lost = sent_ms <= self._lost_ms  # meanwhile
        if self.active and not lost and epoch == self._coordinator.state.epoch:
            page.set_lease_end(keeper.lease_end_ms(sent_ms, self._times))
            if begins:
                logger.info("This member is Read-Write.")

    async def _catches_up(self, answer: HeartbeatAnswer) -> bool:
        """Wait for a moment until this copy has what the primary named; tell whether it has."""
        until_ms = boot_time_ms() + self._times.heartbeat_ms
        while True:
            looked_ms = boot_time_ms()
            copy = await self._replication.positions()
            now = boot_time_ms()
            if copy is not None and keeper.caught_up(
                copy, looked_ms, now, timeline=answer.timeline, written_lsn=answer.written_lsn
            ):
                return True
            if copy is None or now >= until_ms:
                return False
            await asyncio.sleep(POLL_SECONDS)

    def _set_time(self, sent_ms: int, answer: HeartbeatAnswer) -> None:
        middle_ms = (sent_ms + boot_time_ms()) // 2
        offset_ms = answer.cluster_time_ms - middle_ms
        known_ms = self._page.cluster_time_ms() - boot_time_ms()
        if abs(offset_ms - known_ms) > STEP_MS:
            self._page.set_cluster_time_offset(offset_ms)

    async def _watch_copy(self, state: MemberState, timeline: int) -> None:
        """Mend a copy that does not follow although its primary answers."""
        if self._replication.changing:
            return  # what comes of it is looked at; one that never starts is stuck all the same
        openings = self._replication.openings
        copy = await self._replication.positions()
        now = boot_time_ms()
        self._watch = self._watch.after(copy, timeline=timeline, openings=openings, now_ms=now)
        mending = self._watch.mending(now)
        if state.standing is not Standing.MEMBER or mending == "none":
            return
        if not self._replication.may_mend:
            return  # it was tried in vain a moment ago
        self._watch = self._watch.mended(now)
        self.lose_primary()  # another copy takes the place of the one that was granted a lease
        logger.warning("The copy of this member does not follow the primary: it is %s.", mending)
        await self._replication.mend(log_progress, anew=mending == "made anew")


def log_progress(step: str, fraction: float) -> None:
    """Write a step's progress to the log."""
    logger.info("%s: %d %%", step, fraction * 100)
