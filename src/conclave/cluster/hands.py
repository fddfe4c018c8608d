"""Do on this member what a sequence asks for.

Invariant: writes pass only between `lead` and the next `pause_writes` or `close_store`, and not
before the epoch is recorded in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from conclave import faults
from conclave.cluster.configuration import Configuration, MemberState, Standing, surely_held
from conclave.cluster.context import Context
from conclave.cluster.coordinator import Coordinator
from conclave.cluster.epochs import Epoch
from conclave.cluster.link.messages import (
    ConfigurationMessage,
    OpenRequest,
    PrepareAnswer,
    PrepareRequest,
    SurveyAnswer,
    SurveyRequest,
)
from conclave.cluster.neighbours import Neighbours
from conclave.cluster.primary import Primary
from conclave.cluster.replication import Replication
from conclave.cluster.sequences import (
    AskAdopt,
    AskOpen,
    AskPrepare,
    AskSurvey,
    Promise,
    Question,
)
from conclave.cluster.survivors import NO_EPOCH, Survey
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId
from conclave.service.page import NO_LEASE_END
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import MemberRow

ASK_SECONDS: Final = 2.5
OPEN_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 5.0
TELL_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class MemberHands:
    """The actions of `conclave.cluster.sequences`, on this member's parts."""

    context: Context
    coordinator: Coordinator
    neighbours: Neighbours
    replication: Replication
    primary: Primary
    cut_link: Callable[[MemberId], None]
    on_state: Callable[[MemberState], None]
    rotate_keys: Callable[[Context, ClusterWriter, Configuration], None]
    new_rows: dict[MemberId, MemberRow] = field(default_factory=dict)
    """Rows of members that are listed by the change under way."""
    followed: MemberId | None = None
    """Whose copy this member's store is at present."""
    unfinished: bool = False
    """A configuration was not recorded yet; until it is, an epoch is opened once more."""
    _leading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _telling: set[asyncio.Task[None]] = field(default_factory=set)

    # ------------------------------------------------------------------ asking

    async def ask(self, member_id: MemberId, question: Question) -> Any:
        """Ask a member, perhaps this one."""
        if member_id == self.coordinator.state.member_id:
            assert isinstance(question, AskSurvey)  # noqa: S101 - nothing else is asked of oneself
            return await self.survey(question.target)
        call = self.neighbours.call
        match question:
            case AskSurvey(target=target):
                answer: SurveyAnswer = await call(
                    member_id, "survey", SurveyRequest(target=target), timeout_seconds=ASK_SECONDS
                )
                return answer.survey
            case AskPrepare(epoch=epoch, living=living, deleting=deleting, renewing=renewing):
                request = PrepareRequest(
                    epoch=epoch, living=living, deleting=deleting, renewing=renewing
                )
                promise: PrepareAnswer = await call(
                    member_id, "prepare", request, timeout_seconds=ASK_SECONDS
                )
                return Promise(promise.given, promise.accepted)
            case AskOpen(configuration=configuration, position=position):
                opening = OpenRequest(configuration=configuration, position=position)
                await call(member_id, "open_epoch", opening, timeout_seconds=OPEN_SECONDS)
            case AskAdopt(configuration=configuration):
                message = ConfigurationMessage(configuration=configuration)
                await call(member_id, "adopt", message, timeout_seconds=TELL_SECONDS)
        return None

    async def survey(self, target: str) -> Survey:
        """Say what this member knows of another one, after trying to reach it once more.

        Raises Unavailable while its copy does not show yet how far it reaches.
        """
        state = self.coordinator.state
        target_id = MemberId(target)
        if target_id and target_id != state.member_id:
            await self.neighbours.try_once(target_id, PROBE_SECONDS)
        broken = self.replication.broken
        positions = None if broken else await self.replication.positions()
        if positions is not None and not positions.own_log_replayed:
            message = f"Member {state.member_id} has not replayed its own log yet; try again."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message)
        visible, revision, store_epoch = state.visible, 0, NO_EPOCH
        has_copy = state.standing is Standing.MEMBER and not broken
        try:
            row, revision = await self.context.read(
                lambda reader: (reader.cluster_state(), reader.revision())
            )
            if row is not None:
                visible = row.visible
                store_epoch = Epoch(row.epoch_number, MemberId(row.epoch_member))
                revision = surely_held(state, store_epoch, revision)
        except ConclaveError as error:
            logger.warning("The visible list was not read from the store: %s", error.message)
        return Survey(
            member_id=state.member_id,
            accepted=state.accepted,
            epoch=state.epoch,
            visible=visible,
            # The list is a row of the store: who has more of its log knows a newer one.
            list_version=positions.replayed if positions else 0,
            received_lsn=positions.written if positions else 0,
            sees_target=bool(target_id) and self.neighbours.sees(target_id),
            last_contact_ms=self.neighbours.last_heard_ms(target_id),
            revision=revision,
            gave_up=state.gave_up,
            store_epoch=store_epoch if has_copy else NO_EPOCH,
            unread=has_copy and (store_epoch == NO_EPOCH or positions is None),
        )

    # ------------------------------------------------------------------ the store

    async def pause_writes(self) -> tuple[MemberId, ...]:
        """Let writes wait; return who of the recorded list is waited for."""
        await self.replication.prepare_to_close()
        await self.context.store.pause(PAUSE_SECONDS)
        visible = self.coordinator.state.visible
        return tuple(member for member in self.primary.waited_for if member in visible)

    def resume_writes(self) -> None:
        """Let writes go on."""
        self.context.store.resume()

    async def close_store(self) -> int | None:
        """Stop the store."""
        self.context.store.shut()
        return await self.replication.stop()

    async def follow(self) -> None:
        """Run the store as a copy."""
        state = self.coordinator.state
        primary = state.configuration.primary
        if state.may_write:
            return  # another sequence has made it primary meanwhile
        if self.followed == primary and self.replication.follows:
            return  # only who else is a member has changed
        self.primary.end()
        self.context.page.set_lease_end(0)
        self.context.page.bump_global()
        await self.replication.follow()
        if self.coordinator.state.may_write:
            return
        self.followed = primary
        self.context.store.resume()

    def stop_following(self) -> None:
        """Take nothing more from the primary."""
        self.context.page.set_lease_end(0)
        self.followed = None
        self.replication.tunnel.cut()

    async def catch_up(self, position: int) -> None:
        """Wait until everything up to `position` is replayed."""
        await self.replication.catch_up(position)

    async def lead(self, position: int | None) -> None:
        """Run the store as the primary; those who were visible are waited for at first."""
        async with self._leading:
            if not (self.replication.leads and self.primary.begun):
                await self._lead(position)

    async def _lead(self, position: int | None) -> None:
        self.primary.end()
        self.unfinished = True
        self.context.store.shut()
        self.followed = None
        state = self.coordinator.state
        others = [peer.member_id for peer in state.others()]
        self.neighbours.refresh()
        await self.replication.lead(position, others)
        before = await self.context.read(_visible)
        waited_for = tuple(member for member in before if member in others)
        if self.replication.replicated:
            await self.replication.instance.set_synchronous(waited_for)
        self.primary.begin(waited_for)

    async def record(self, configuration: Configuration) -> None:
        """Commit the configuration in the store."""
        self.unfinished = True
        visible = (configuration.primary, *self.primary.waited_for)

        def work(writer: ClusterWriter) -> None:
            row = writer.cluster_state()
            if row is None:
                return
            listed = set(configuration.ids())
            deleted = [
                member.member_id for member in writer.members() if member.member_id not in listed
            ]
            writer.put_cluster_state(
                replace(
                    row,
                    epoch_number=configuration.epoch.number,
                    epoch_member=configuration.epoch.promoter,
                    primary=configuration.primary,
                    visible=tuple(member for member in visible if member in listed),
                )
            )
            for member_id in deleted:
                writer.delete_member(member_id)
            self.rotate_keys(self.context, writer, configuration)
            for member_id, member in self.new_rows.items():
                if member_id in listed:
                    writer.put_member(member)

        await self.context.store.write(work, internal=True)
        page = self.context.page
        page.set_epoch(configuration.epoch.number, configuration.epoch.promoter)
        page.bump_global()
        if self.coordinator.state.may_write:  # it may have handed over meanwhile
            page.set_lease_end(NO_LEASE_END)
        listed = configuration.ids()
        # A row that came meanwhile waits for the configuration that lists its member.
        self.new_rows = {id_: row for id_, row in self.new_rows.items() if id_ not in listed}
        self.unfinished = False

    async def put_row(self, member_id: MemberId) -> None:
        """Commit the row of a member that is about to be listed."""
        row = self.new_rows[member_id]
        await self.context.write(lambda writer: writer.put_member(row))

    async def drop_row(self, member_id: MemberId) -> None:
        """Take the row back of one that was not listed; never fails."""
        if self.coordinator.state.configuration.peer(member_id) is not None:
            return  # listed, and recorded once more: its row is needed
        self.new_rows = {id_: row for id_, row in self.new_rows.items() if id_ != member_id}
        with contextlib.suppress(ConclaveError):  # the next change takes it away too
            await self.context.write(lambda writer: writer.delete_member(member_id))

    # ------------------------------------------------------------------ others

    def cut(self, member_id: MemberId) -> None:
        """End the connections of a former member."""
        self.cut_link(member_id)
        self.neighbours.refresh()

    def state_changed(self, before: MemberState) -> None:
        """Take note of a state that was saved."""
        state = self.coordinator.state
        if not state.may_write and before.may_write:
            self.context.store.shut()
            self.context.page.set_lease_end(0)
        for peer in before.configuration.peers:
            # Who is no member any more, or has another key, must not go on by an old connection.
            if state.configuration.peer(peer.member_id) != peer:
                self.cut_link(peer.member_id)
        if state.epoch != before.epoch:
            self.neighbours.refresh()
            if state.may_write:
                self._tell_all(state)
        self.context.page.set_epoch(state.epoch.number, state.epoch.promoter)
        self.on_state(state)

    def _tell_all(self, state: MemberState) -> None:
        """Tell the others of a new epoch at once; who does not hear it learns it from a ping."""
        message = ConfigurationMessage(configuration=state.configuration)
        ids = [peer.member_id for peer in state.others()]
        work = self.neighbours.tell_all(ids, "adopt", message, TELL_SECONDS)
        task = asyncio.get_running_loop().create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


def _visible(reader: ClusterReader) -> tuple[MemberId, ...]:
    """Return who may still hold a lease; the former primary has none."""
    row = reader.cluster_state()
    if row is None:
        return ()
    return tuple(member for member in row.visible if member != row.primary)
