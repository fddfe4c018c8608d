"""How a member ceases to be one, and what it keeps of its store before that.

Invariant: a primary that was deleted, and a copy that forked, are exported before they are given up
(rule C18); a joiner that nobody joins any more is undone only when the primary itself, by its
proven key, does not know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from conclave.cluster import extra_rows, sequences
from conclave.cluster.configuration import MemberState, Standing, fork_above, never_listed
from conclave.cluster.epochs import Epoch
from conclave.cluster.judging import REASON_UNKNOWN
from conclave.cluster.link.hello import Verdict
from conclave.cluster.member_base import MemberBase
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId
from conclave.store.rows import ClusterStateRow

EXPORT_SECONDS: Final = 60.0
"""How long a deleted primary waits for its own store, to see what only it has."""
PAUSE_SECONDS: Final = 5.0
READ_SECONDS: Final = 5.0
"""How long a copy that is to be mended is tried to be read."""
POLL_SECONDS: Final = 0.1

logger = logging.getLogger(__name__)


class MemberLeaving(MemberBase):
    """A member that may be one no more."""

    completes_join: bool
    ending: bool
    on_left: Callable[[], None]
    """Lets the process forget the cluster, and the daemon know."""

    # ------------------------------------------------------------------ removed

    async def end_membership(self, how: Standing, epoch: Epoch, fork: int | None) -> None:
        """Be a former member; of a deleted primary what only it has is kept."""
        if self.ending:
            return
        self.ending = True
        try:
            if fork is not None and self.state.is_primary:
                await self._close_with_export(fork)
            logger.warning("This member is no member any more: it %s in epoch %s.", how, epoch)
            await self.coordinator.run(lambda state: sequences.end_membership(state, how, epoch))
        finally:
            self.ending = False

    def _state_changed(self, state: MemberState) -> None:
        if state.standing is Standing.DELETED:
            self.run_beside(self.notices.change(removed=state.standing.value))
        elif state.standing is Standing.LEFT:
            self.on_left()

    # ------------------------------------------------------------------ a join that was broken off

    def go_on_alone(self) -> None:
        """Complete the join whenever that can be done: whoever asked for it waits no longer."""
        self.completes_join = True

    def was_never_listed(self, member_id: MemberId, verdict: Verdict) -> bool:
        """Tell whether the primary does not know a joiner that nobody joins any more."""
        if member_id != verdict.primary or verdict.epoch is None:
            return False
        unknown = self.completes_join and verdict.reason == REASON_UNKNOWN
        return unknown and never_listed(self.state, member_id, verdict.epoch)

    async def give_join_up(self) -> None:
        """Be as if this appliance had never joined."""
        logger.warning("The join was interrupted before this appliance was listed: it is undone.")
        await self.coordinator.save(lambda state: replace(state, standing=Standing.LEFT))

    # ------------------------------------------------------------------ what only this one has

    async def _close_with_export(self, fork: int) -> None:
        """Let nothing more be written, and keep what the one that replaced this primary lacks."""
        store = self.context.store
        try:
            async with asyncio.timeout(EXPORT_SECONDS):
                while not store.readable:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
            await store.pause(PAUSE_SECONDS)
        except TimeoutError:
            logger.error("Rows that only this member has were not exported: the store stays shut.")
            return
        except Unavailable as error:
            logger.warning("Writes under way are not waited for: %s", error.message)
        store.shut()
        await self._export(fork)

    async def keep_extra_rows(self) -> Path | None:
        """Export what would be lost when this copy is made like the primary's (rule C18).

        When that cannot be done, return where the whole copy has to be kept instead.
        """
        if not self.state.configuration.forks and not self.state.parted:
            return None  # no primary was ever deleted: no copy has what the primary lacks
        try:
            row = await self._own_row()
            epoch = Epoch(row.epoch_number, row.epoch_member) if row is not None else None
            fork = fork_above(self.state, epoch) if epoch is not None else None
            if fork is not None:
                await self._export(fork)
        except ConclaveError as error:
            logger.warning("The copy that is mended cannot be exported: %s", error.message)
            return extra_rows.place_for_copy(self.home.state_dir / extra_rows.DIRECTORY)
        return None

    async def _own_row(self) -> ClusterStateRow | None:
        """Return what the copy says of the cluster, which may be opened only in a moment."""
        end = asyncio.get_running_loop().time() + READ_SECONDS
        while True:
            try:
                return await self.context.read(lambda reader: reader.cluster_state())
            except ConclaveError:
                if asyncio.get_running_loop().time() >= end:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    async def _export(self, fork: int) -> None:
        directory = self.home.state_dir / extra_rows.DIRECTORY
        await extra_rows.export(self.context.read, directory, self.state.member_id, fork)
