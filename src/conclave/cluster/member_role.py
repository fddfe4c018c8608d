"""The role of a member: taken, kept, and taken again after whatever happened.

Invariant: the role that PostgreSQL has follows the durable state, never the other way round; a
member that cannot take its role yet is Read-Only and tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from conclave.cluster import sequences
from conclave.cluster.configuration import Standing, promised_past
from conclave.cluster.epochs import Epoch
from conclave.cluster.follower import log_progress
from conclave.cluster.member_hearing import MemberHearing
from conclave.cluster.replication import Progress
from conclave.errors import ConclaveError
from conclave.ids import MemberId, RowRevision
from conclave.service.page import NO_LEASE_END

TEND_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class MemberRole(MemberHearing):
    """A member that has a role."""

    role_taken: bool
    role_tried: asyncio.Event
    members_seen: tuple[object, ...]
    tend_certificates: Callable[[], Awaitable[None]]

    # ------------------------------------------------------------------ role

    async def take_role(self) -> None:
        """Lead, follow, or hand over once more, as the state says."""
        state = self.state
        if state.handing_over:
            await self._hand_over_again()
        elif state.may_write:
            await self.coordinator.change(
                lambda state: sequences.open_epoch(state, state.configuration, None)
            )
        elif state.standing is Standing.JOINING:
            if self.completes_join:
                await self.complete_copy(log_progress)
            return
        elif self.replication.broken:
            if not self.replication.may_mend:
                return  # it was tried in vain a moment ago
            await self.replication.mend(log_progress)
        elif self.replication.replicated:
            await self.replication.follow(wait=False)
        self.role_taken = True

    async def _hand_over_again(self) -> None:
        async with self.coordinator.turn():
            if not self.state.handing_over:
                return  # a deletion that went first has opened the store here (`delete_closed`)
            position = await self.replication.stop()
            await self.coordinator.run(lambda state: sequences.finish_promotion(state, position))

    async def complete_copy(self, progress: Progress) -> None:
        """Copy the store of the primary, and be a member from then on."""
        await self.replication.copy_anew(progress)
        await self.coordinator.save(lambda state: replace(state, standing=Standing.MEMBER))
        self.role_taken = True

    async def tend_for_ever(self) -> None:
        """Do what a role needs that no message brings about."""
        while True:
            try:
                await self._tend()
            except ConclaveError as error:
                logger.info("Tried in vain, trying again: %s", error.message)
            self.role_tried.set()
            await asyncio.sleep(TEND_SECONDS)

    async def renew_for_ever(self) -> None:
        """Keep keys and certificates new, beside the role: a primary that hangs stops this only."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            if self.state.standing is not Standing.MEMBER or not self.context.store.readable:
                continue
            try:
                await self.tend_certificates()
            except ConclaveError as error:
                logger.info("Certificates are looked after again later: %s", error.message)

    async def _tend(self) -> None:
        state = self.state
        if state.standing not in (Standing.MEMBER, Standing.JOINING):
            return
        if not self.role_taken or state.handing_over or self._is_out_of_role():
            await self.take_role()
        opens = state.standing is Standing.MEMBER and self.context.store.readable
        wants_authorization = opens and not self.context.authorized
        if wants_authorization and self.home.times.automatic_authorization:
            await self.duties.ask_for_authorization()
        self._note_members()
        if self.primary.active and self._somebody_promised_more():
            await self.coordinator.change(sequences.renew)
        if self.primary.active and self.state.configuration.unannounced and self._all_live_here():
            await self.coordinator.change(sequences.announce)

    def _note_members(self) -> None:
        """Let clients look again when what they are told of the members has changed."""
        others = []
        for peer in self.state.others():
            report = self.neighbours.report(peer.member_id)
            others.append((peer.member_id, report and (report.authorized, report.read_write)))
        seen = (self.state.epoch, self.context.authorized is not None, *others)
        if seen != self.members_seen:
            self.members_seen = seen
            self.context.page.bump_members()

    def _is_out_of_role(self) -> bool:
        """Tell whether PostgreSQL is down, or a step towards the role was not completed."""
        if self.replication.changing:
            return False
        if self.replication.replicated and not self.replication.running:
            return True
        unopened = self.state.may_write and (self.hands.unfinished or not self.primary.active)
        return unopened or not self.context.store.readable

    def _somebody_promised_more(self) -> bool:
        state = self.state
        reports = (self.neighbours.report(peer.member_id) for peer in state.others())
        return any(
            report is not None
            and promised_past(
                state,
                Epoch(report.accepted_number, MemberId(report.accepted_promoter)),
                gave_up=report.gave_up,
            )
            for report in reports
        )

    def _all_live_here(self) -> bool:
        """Tell whether all others but new members live in this primary's epoch, as they say."""
        state = self.state
        known = [p for p in state.others() if p.member_id not in state.configuration.unannounced]
        reports = [self.neighbours.report(peer.member_id) for peer in known]
        return all(
            report is not None
            and Epoch(report.epoch_number, MemberId(report.epoch_promoter)) == state.epoch
            for report in reports
        )

    def _postgresql_died(self, status: int) -> None:
        logger.error("PostgreSQL ended with status %d; it is started again.", status)
        self.replication.leads = False
        self.context.store.shut()
        self.follower.lose_primary()
        self.role_taken = False

    def _store_opened(self, position: RowRevision) -> None:
        """Void what workers cached of another store, and tell how far this one is."""
        self.context.page.set_log_position(position)
        self.context.page.bump_global()

    def _set_own_lease(self, valid: bool) -> None:
        self.context.page.set_lease_end(NO_LEASE_END if valid else 0)
