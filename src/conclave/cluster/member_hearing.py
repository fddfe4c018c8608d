"""What other members tell this one, on the link and beside it.

Invariant: a refusal is believed of a listed member that has proven its key, and only if it comes
from a later epoch; a configuration is taken from whoever has a newer one, and judged by the core.
"""

from __future__ import annotations

import asyncio
import logging

from conclave import faults
from conclave.cluster import lineage, sequences
from conclave.cluster.configuration import Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.histories import parting
from conclave.cluster.judging import REASON_DELETED, REASON_LEFT, judge
from conclave.cluster.link.hello import Hello, LinkRefused, Verdict
from conclave.cluster.link.messages import (
    ConfigurationMessage,
    Pong,
)
from conclave.cluster.link.streams import StreamPair
from conclave.cluster.member_leaving import MemberLeaving
from conclave.errors import Unavailable
from conclave.ids import MemberId
from conclave.service.quiet import Nothing
from conclave.store.postgresql import account as accounts

logger = logging.getLogger(__name__)


class MemberHearing(MemberLeaving):
    """A member that listens."""

    learning: set[MemberId]
    deleted_by: dict[MemberId, lineage.Refusal]
    """What members say that have deleted this one, until they are heard as members again."""

    # ------------------------------------------------------------------ the link

    def _judge(self, hello: Hello, key: bytes | None, _address: str) -> Verdict:
        return judge(self.state, hello, key)

    async def _open_local(self) -> StreamPair:
        path = self.home.places.postgresql.run / accounts.SOCKET_NAME
        return await asyncio.open_unix_connection(str(path))

    async def _open_upstream(self) -> StreamPair:
        state = self.state
        if state.is_primary or state.gave_up:
            message = "This member follows nobody at present."
            raise Unavailable(faults.BUSY, message)
        return await self.neighbours.open_postgresql(state.configuration.primary)

    def _cut(self, member_id: MemberId) -> None:
        self.server.cut(member_id)

    def _refused(self, member_id: MemberId, refusal: LinkRefused) -> None:
        """Learn from a member that sends this one away that it was removed."""
        verdict, state = refusal.verdict, self.state
        peer = state.configuration.peer(member_id)
        genuine = peer is not None and refusal.key_sha256 == peer.key_sha256
        if not genuine or not refusal.by_peer or verdict.epoch is None:
            return
        fork = parting(state.configuration.history, verdict.history)
        if verdict.reason == REASON_LEFT and verdict.epoch > state.epoch:
            self.run_beside(self.end_membership(Standing.LEFT, verdict.epoch, fork))
        elif verdict.reason == REASON_DELETED:
            listed = frozenset(MemberId(each.member_id) for each in verdict.members)
            known = member_id in self.deleted_by
            self.deleted_by[member_id] = lineage.Refusal(verdict.epoch, listed)
            if not self._gives_way(fork) and not known:
                logger.error(
                    "Member %s has deleted this one in epoch %s, by force, but this side goes on in"
                    " %s: there are two clusters unless one of the two sides is reset.",
                    member_id,
                    verdict.epoch,
                    state.epoch,
                )
        elif self.was_never_listed(member_id, verdict):
            self.run_beside(self.give_join_up())

    def _gives_way(self, fork: int | None) -> bool:
        """Close for good if those that deleted this member have made a lineage that prevails."""
        state = self.state
        epoch = lineage.gives_way(state, self.deleted_by)
        if epoch is None:
            return False
        if epoch <= state.epoch:
            logger.error(
                "This member was deleted in epoch %s, and lives in %s: deletions were forced on"
                " both sides of a partition. This side gives way; what only it has is exported.",
                epoch,
                state.epoch,
            )
        self.run_beside(self.end_membership(Standing.DELETED, epoch, fork))
        return True

    def _heard(self, member_id: MemberId, pong: Pong) -> None:
        self.deleted_by.pop(member_id, None)
        epoch = Epoch(pong.epoch_number, MemberId(pong.epoch_promoter))
        if epoch > self.state.epoch and member_id not in self.learning:
            self.run_beside(self.learn_from(member_id))

    async def learn_from(self, member_id: MemberId) -> None:
        """Ask a member for its newer configuration, and live in it."""
        self.learning.add(member_id)
        try:
            answer: ConfigurationMessage = await self.neighbours.call(
                member_id, "configuration", Nothing(), timeout_seconds=2.0
            )
            # Who is no member any more knows that of itself, but nothing that others live in.
            of_member = answer.configuration.peer(member_id) is not None
            if of_member and answer.configuration.epoch > self.state.epoch:
                await self.coordinator.run(
                    lambda state: sequences.follow(state, answer.configuration)
                )
        finally:
            self.learning.discard(member_id)
