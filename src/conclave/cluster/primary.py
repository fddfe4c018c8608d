"""What the primary does besides writing: it watches the others and answers for them.

Invariants: nobody is told that a write is done before every member of the list has taken note of
it and that list is recorded in the store; and a member gets a grant only while it stands in the
list that is both waited for and recorded (rules C15 and C16, the rules themselves in `keeper`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.cluster import keeper
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.keeper import Watched
from conclave.cluster.link.messages import Bump, Heartbeat
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.replication import Replication
from conclave.cluster.store_handle import StoreHandle
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId
from conclave.settings import ClusterTimes
from conclave.store.repository import ClusterWriter, Touched

POLL_SECONDS: Final = 0.1
BUMP_SECONDS: Final = 0.3
ANSWER_SECONDS: Final = 30.0
"""Longest wait of a committed write for its acknowledgement: then its outcome is unknown."""

logger = logging.getLogger(__name__)


class Primary:
    """The list of visible members, while this member is primary."""

    def __init__(
        self,
        coordinator: Coordinator,
        neighbours: Neighbours,
        replication: Replication,
        store: StoreHandle,
        *,
        times: ClusterTimes,
        set_own_lease: Callable[[bool], None],
    ) -> None:
        self._coordinator = coordinator
        self._neighbours = neighbours
        self._replication = replication
        self._store = store
        self._times = times
        self._set_own_lease = set_own_lease
        self._watched: dict[MemberId, Watched] = {}
        self._list = keeper.VisibleList()
        self._recording: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.begun = False
        """True from `begin` to `end`: the list is this time's, not an earlier one's."""
        self.timeline = 0
        """Of this member's log while it leads; 0 until that was looked at."""
        self._written = keeper.Look()

    @property
    def waited_for(self) -> tuple[MemberId, ...]:
        """Return whose replay a commit waits for."""
        return self._list.waited_for

    @property
    def written_lsn(self) -> int:
        """Return how far this member's log reached lately, since the list was last changed.

        Zero while it leads not, or has not looked: nobody can have caught up with that.
        """
        return self._written.position(boot_time_ms()) if self.active else 0

    @property
    def active(self) -> bool:
        """Tell whether this member leads."""
        return self.begun and self._replication.leads and self._coordinator.state.may_write

    # ------------------------------------------------------------------ heartbeats

    def hear(self, member_id: MemberId, heartbeat: Heartbeat) -> bool:
        """Take note of a heartbeat and tell whether it is granted."""
        if not self.active:
            return False
        now = boot_time_ms()
        watched = self._watched.get(member_id, Watched(member_id))
        listed = member_id in self.waited_for and member_id in self._list.recorded
        # Who has no lease gets one only by what it must have replayed.
        renewable = heartbeat.read_write or self.written_lsn > 0
        granted = listed and renewable and not keeper.suspicious(watched, now, self._times)
        self._watched[member_id] = keeper.heard(
            watched,
            now,
            sent_ms=heartbeat.sent_boot_ms,
            says_read_write=heartbeat.read_write,
            granted=granted,
        )
        return granted

    def note_gone(self, member_id: MemberId) -> None:
        """Take note of a goodbye."""
        watched = self._watched.get(member_id)
        if watched is not None:
            self._watched[member_id] = replace(watched, gone=True)

    # ------------------------------------------------------------------ leading

    def end(self) -> None:
        """Grant and look after nothing until `begin`: the list is an earlier time's."""
        self.begun = False
        self.timeline = 0
        self._written = keeper.Look()
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.cancel()

    def begin(self, waited_for: tuple[MemberId, ...]) -> None:
        """Begin to lead; whoever was visible before may still hold a lease."""
        self.end()
        self.begun = True
        now = boot_time_ms()
        self._list = self._list.begun(waited_for)
        self._watched = {
            member_id: Watched(member_id, heard_ms=now, granted_ms=now) for member_id in waited_for
        }

    async def watch_for_ever(self) -> None:
        """Look after the list as long as this member leads."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self.active:
                continue
            try:
                await self._look()
            except ConclaveError as error:
                logger.warning("The visible list could not be looked after: %s", error.message)

    async def _look(self) -> None:
        peers = {peer.member_id for peer in self._coordinator.state.others()}
        for member_id in self._watched.keys() - peers:
            del self._watched[member_id]
        for member_id in peers - self._watched.keys():
            self._watched[member_id] = Watched(member_id)
        if self._replication.replicated and (peers or self.waited_for):
            await self._look_at_copies()
            await self._follow_plan()
        self._record_beside()
        alone = bool(peers) and not any(self._neighbours.sees(member) for member in peers)
        if peers and self.active:  # it may have ended while this was looked at
            self._set_own_lease(not (alone and self._times.strict_primary))

    def _record_beside(self) -> None:
        """Let the list be recorded, if it is not.

        Never waited for here: that commit waits for everybody of the list itself, and who hangs
        meanwhile is dropped by this very look-out and nobody else.
        """
        if self._is_recorded() or (self._recording is not None and not self._recording.done()):
            return
        self._recording = asyncio.get_running_loop().create_task(self._record())

    async def _record(self) -> None:
        try:
            await self.record_list()
        except ConclaveError as error:
            logger.warning("The visible list was not recorded: %s", error.message)
        except Exception:
            # The boundary of a task: the next look tries again.
            logger.exception("The visible list was not recorded by an error of ours.")

    def _is_recorded(self) -> bool:
        state = self._coordinator.state
        listed = {state.member_id, *self.waited_for}
        return self._list.is_recorded and set(state.visible) == listed

    def behind_bytes(self, member_id: MemberId) -> int:
        """Return how much a member has not replayed; -1 when it is not watched from here."""
        watched = self._watched.get(member_id)
        return -1 if watched is None else watched.behind_bytes

    async def _look_at_copies(self) -> None:
        now = boot_time_ms()
        instance = self._replication.instance
        own = await instance.positions()
        if self.active:  # it may have ended while this was looked at
            self.timeline = own.timeline
            self._written = keeper.Look(now, own.written)
        copies = {status.member_id: status for status in await instance.replication()}
        for member_id, watched in self._watched.items():
            copy = copies.get(member_id)
            streaming = copy is not None and copy.state == "streaming"
            behind = max(0, own.written - copy.replayed) if copy is not None else own.written
            self._watched[member_id] = keeper.replayed(
                watched,
                now,
                streaming=streaming,
                replayed_lsn=copy.replayed if copy is not None else 0,
                behind_bytes=behind,
            )

    async def _follow_plan(self) -> None:
        unannounced = self._coordinator.state.configuration.unannounced
        watched = {id_: each for id_, each in self._watched.items() if id_ not in unannounced}
        plan = keeper.plan(self.waited_for, watched, boot_time_ms(), self._times)
        instance = self._replication.instance
        if plan.waited_for == self.waited_for == instance.synchronous:
            return
        if plan.dropped:
            logger.warning("Not visible any more: %s.", ", ".join(plan.dropped))
        if plan.added:
            logger.info("Caught up, becomes visible: %s.", ", ".join(plan.added))
        # Who is dropped is told of no commit from now on, since the next ones end without it; who
        # is added is told of those that have waited for it, so not before they do.
        await self._set_waited_for(tuple(m for m in plan.waited_for if m in self.waited_for))
        await instance.set_synchronous(plan.waited_for)
        await self._set_waited_for(plan.waited_for)

    async def _set_waited_for(self, members: tuple[MemberId, ...]) -> None:
        async with self._changed:
            if members != self.waited_for:
                self._written = keeper.Look()  # whoever is new has to have what was written by now
            self._list = self._list.changed(members)
            self._changed.notify_all()

    async def record_list(self) -> None:
        """Record the list in the store, if it is not; the commit proves that all of it have it."""
        committed = self._list
        state = self._coordinator.state
        visible = (state.member_id, *committed.waited_for)
        if self._is_recorded():
            return

        def work(writer: ClusterWriter) -> None:
            row = writer.cluster_state()
            if row is not None:
                writer.put_visible(visible)

        await self._store.write(work, internal=True)
        if self._list.changes != committed.changes or not self.active:
            return  # it changed while it was recorded: the next round records the new one
        await self._coordinator.save(
            lambda state: replace(state, visible=visible, list_version=state.list_version + 1)
        )
        async with self._changed:
            self._list = self._list.kept(committed)
            self._changed.notify_all()

    # ------------------------------------------------------------------ acknowledging

    async def acknowledge(self, touched: Touched) -> None:
        """Return when every visible member has taken note of a commit and the list is recorded.

        Raises Unavailable (OUTCOME_UNKNOWN) when this member stops leading meanwhile.
        """
        if not self._coordinator.state.others() or not self._replication.replicated:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._tell(touched)
                await self._until_recorded()
                self._require_leading()
        except TimeoutError:
            message = "The other members did not take note of the change in time."
            raise Unavailable(faults.OUTCOME_UNKNOWN, message) from None

    async def _tell(self, touched: Touched) -> None:
        told = (self._tell_one(member, touched) for member in self.waited_for)
        await asyncio.gather(*told)

    def _bump(self, touched: Touched) -> Bump:
        epoch = self._coordinator.state.epoch
        return Bump(
            epoch_number=epoch.number,
            epoch_promoter=epoch.promoter,
            keyrings=[bytes(name) for name in touched.keyrings],
            clients=touched.clients,
            everything=touched.everything,
            revision=touched.revision,
        )

    async def _tell_one(self, member_id: MemberId, touched: Touched) -> None:
        while member_id in self.waited_for:
            self._require_leading()
            # Made anew each time: a member that was listed meanwhile began another epoch.
            bump = self._bump(touched)
            try:
                await self._neighbours.call(member_id, "bump", bump, timeout_seconds=BUMP_SECONDS)
                return
            except ConclaveError as error:
                logger.debug("Member %s was not told of a change: %s", member_id, error.message)
            await self._wait_for_change(POLL_SECONDS)

    async def _until_recorded(self) -> None:
        while not self._list.is_recorded:
            self._require_leading()
            await self._wait_for_change(1.0)

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return

    def _require_leading(self) -> None:
        if not self.active:
            message = "This member stopped being primary while the change was told to the others."
            raise Unavailable(faults.OUTCOME_UNKNOWN, message)
