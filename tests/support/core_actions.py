"""What the actions of a sequence do in a simulated cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import (
    Configuration,
    MemberState,
    Standing,
    surely_held,
)
from conclave.cluster.survivors import NO_EPOCH, Survey
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import MemberId
from tests.support.core_model import (
    NEVER_FAIL,
    Action,
    AskAdd,
    AskRemove,
    CommitList,
    Complete,
    CopyAnew,
    Forget,
    Learn,
    Node,
    SaveList,
    ShellAction,
    Steps,
    Stored,
    Task,
    WaitFor,
    promises,
    relaying,
    unreachable,
)
from tests.support.core_stores import Stores


class Actions(Stores):
    """Sequences begin and end here, and each of their actions is carried out."""

    def begin(
        self,
        name: MemberId,
        start: Callable[[MemberState], Steps],
        *,
        asker: Task | None = None,
        changes: bool = False,
        forced: bool = False,
    ) -> Task | None:
        """Start a sequence; those that change the cluster take turns on a member."""
        if changes and any(t.changes and t.node == name for t in self.tasks):
            if asker is not None:
                asker.waiting, asker.error = False, Unavailable(faults.BUSY, "It changes already.")
            return None
        state = self.nodes[name].state
        task = Task(name, start(state), state, asker, changes, forced)
        self.tasks.append(task)
        return task

    def end(self, task: Task, result: Any, error: ConclaveError | None) -> None:
        """Forget a task and answer whoever asked for it."""
        self.tasks.remove(task)
        task.done, task.failure = True, error
        asker = task.asker
        if asker is None or asker not in self.tasks:
            return
        if not self.wired(task.node, asker.node):
            result, error = None, unreachable()
        asker.waiting, asker.result, asker.error = False, result, error

    def perform(self, task: Task, action: Action) -> None:
        """Do what a sequence says."""
        node = self.nodes[task.node]
        if self.refuses_next and not isinstance(action, NEVER_FAIL):
            node.unfinished |= isinstance(action, seq.Record)
            task.error = unreachable()
            return
        match action:
            case seq.Save(state=state):
                self.save(task, node, state)
            case seq.Ask(member_id=member_id, question=question):
                self.ask(task, member_id, question)
            case seq.PauseWrites():
                node.paused = True
                visible = node.state.visible
                task.result = tuple(m for m in node.waited_for if m in visible)
            case seq.ResumeWrites():
                node.paused = node.paused and not node.state.may_write
            case seq.CatchUp(position=position):
                if len(node.log) < position:
                    task.error = NotAllowed(faults.MEMBERS_UNREACHABLE, "The copy ends earlier.")
            case seq.CloseStore():
                for name in self.nodes:
                    # The last of the log reaches whoever follows, although this one has closed.
                    self.copy_the_end(name, task.node)
                task.result = len(node.log)
                node.leads = node.follows = False
                node.crashed_open = False
            case seq.StopFollowing():
                node.follows = False
            case seq.Follow():
                if not node.state.may_write:
                    node.leads, node.follows = False, True
            case seq.Lead():
                self.lead(task, node)
            case seq.Record(configuration=configuration):
                self.record(task, node, configuration)
            case seq.PutRow(member_id=member_id):
                self.put_rows(task, node, node.stored.rows | {member_id})
            case seq.DropRow(member_id=member_id):
                if node.state.configuration.peer(member_id) is None:
                    self.put_rows(task, node, node.stored.rows - {member_id})
                    task.error = None
            case seq.Cut():
                pass
            case _:
                self.perform_shell(task, node, action)

    def perform_shell(self, task: Task, node: Node, action: ShellAction) -> None:
        """Do what is the shell's, beside the sequences of the core."""
        match action:
            case WaitFor(members=members):
                node.waited_for = members
            case CommitList():
                listed = (task.node, *node.waited_for)
                node.stored = replace(node.stored, visible=listed)
                self.commit(task.node)
            case SaveList(members=members):
                if node.waited_for == members and node.leads and node.state.may_write:
                    visible = (task.node, *members)
                    version = node.state.list_version + 1
                    node.state = replace(node.state, visible=visible, list_version=version)
                    node.recorded = members
            case AskAdd(primary=primary, peer=peer):
                leads = self.nodes[primary].state.is_primary
                start = seq.add_member if leads else relaying
                self.ask_primary(task, primary, lambda s: start(s, peer), changes=leads)
            case AskRemove(primary=primary):
                leaver, left = task.node, Standing.LEFT
                self.ask_primary(task, primary, lambda s: seq.remove_member(s, leaver, left))
            case CopyAnew():
                self.copy_anew(task, node)
            case Learn(member_id=member_id):
                if self.wired(task.node, member_id):
                    self.gossip(task.node, member_id)
            case Complete():
                node.state = replace(node.state, standing=Standing.MEMBER)
                node.follows = node.role_taken = True
            case Forget():
                node.state = replace(node.state, standing=Standing.LEFT)

    def put_rows(self, task: Task, node: Node, rows: frozenset[MemberId]) -> None:
        """Commit the members' rows."""
        if not self.writable(task.node):
            task.error = unreachable()
            return
        node.stored = replace(node.stored, rows=rows)
        self.commit(task.node)

    def copy_anew(self, task: Task, node: Node) -> None:
        """Copy the primary's store, from which the joiner is a member."""
        primary = node.state.configuration.primary
        if not self.may_copy(task.node, primary):
            task.error = unreachable()
            return
        self.copy(task.node, primary)

    def may_copy(self, name: MemberId, primary: MemberId) -> bool:
        """Tell whether a primary gives its store to a member, which lives in its epoch."""
        node, leader = self.nodes[name], self.nodes[primary]
        same = node.state.epoch == leader.state.epoch
        return self.linked(name, primary) and leader.leads and leader.state.may_write and same

    def copy_the_end(self, name: MemberId, closing: MemberId) -> None:
        """Copy what a closing primary wrote last."""
        node, leader = self.nodes[name], self.nodes[closing]
        fits = node.state.epoch == leader.state.epoch and not node.state.gave_up
        follows = node.follows and not node.leads and node.state.configuration.primary == closing
        if name != closing and leader.leads and fits and follows and self.linked(name, closing):
            self.copy(name, closing)

    def lead(self, task: Task, node: Node) -> None:
        """Run the store as the primary's; writes wait until they are let in."""
        if not node.state.may_write:
            task.error = Conflict(faults.EPOCH_STALE, "It gave its epoch up meanwhile.")
            return
        others = {peer.member_id for peer in node.state.others()}
        before = node.stored
        if not node.leads:
            node.waited_for = tuple(
                m for m in before.visible if m in others and m != before.primary
            )
            node.recorded = ()
            node.paused = True
        node.leads, node.follows = True, False
        node.crashed_open = False

    def record(self, task: Task, node: Node, configuration: Configuration) -> None:
        """Commit a configuration; rows of former members go, and what the deleted ones knew."""
        node.unfinished = True
        if not (node.leads and node.state.may_write):
            task.error = unreachable()
            return
        before, listed = node.stored, frozenset(configuration.ids())
        deleted = {m for m, how in configuration.former if how is Standing.DELETED}
        node.stored = Stored(
            configuration.epoch,
            configuration.primary,
            tuple(m for m in (task.node, *node.waited_for) if m in listed),
            before.rows & listed,
            before.rotated | (deleted & before.rows),
            before.history | {configuration.epoch},
        )
        self.commit(task.node)
        # The keeper drops whoever does not follow: the commit ends without it.
        node.waited_for = tuple(m for m in node.waited_for if self.copies(m, task.node))
        node.unfinished = False

    def save(self, task: Task, node: Node, state: MemberState) -> None:
        """Save unless another promise came in between; the list may have moved on."""
        now = node.state
        if promises(now) == promises(state):
            task.seen = state
            return
        if promises(now) != promises(task.seen):
            task.error = Conflict(faults.EPOCH_STALE, "Another promise came in between.")
            return
        if state.epoch == now.epoch and state.list_version < now.list_version:
            state = replace(state, visible=now.visible, list_version=now.list_version)
        removed = state.standing in (Standing.LEFT, Standing.DELETED)
        assert state.accepted >= now.accepted or removed
        assert state.epoch >= now.epoch
        if task.forced:
            self.forced.add(state.accepted)
        node.state = task.seen = state
        if not state.may_write and now.may_write:
            node.paused = True

    def ask(self, task: Task, target: MemberId, question: seq.Question) -> None:
        """Ask a member, which answers by a sequence of its own."""
        if target == task.node and isinstance(question, seq.AskSurvey):
            task.result = self.survey(target, question.target)
            return
        if target not in self.nodes or not self.linked(task.node, target):
            task.error = unreachable()
            return
        if isinstance(question, seq.AskSurvey):
            task.result = self.survey(target, question.target)
            return
        task.waiting = True
        match question:
            case seq.AskPrepare():
                self.begin(target, lambda state: seq.prepare(state, question), asker=task)
            case seq.AskOpen(configuration=configuration, position=position):
                self.begin(target, lambda s: seq.open_epoch(s, configuration, position), asker=task)
            case seq.AskAdopt(configuration=configuration):
                self.begin(target, lambda state: seq.follow(state, configuration), asker=task)

    def ask_primary(
        self,
        task: Task,
        primary: MemberId,
        start: Callable[[MemberState], Steps],
        *,
        changes: bool = True,
    ) -> None:
        """Ask for a change of the cluster; a joiner is heard by its proof, not by the list."""
        if not self.wired(task.node, primary):
            task.error = unreachable()
            return
        task.waiting = True
        self.begin(primary, start, asker=task, changes=changes)

    def survey(self, name: MemberId, target: MemberId) -> Survey:
        """Say what a member knows."""
        node = self.nodes[name]
        state = node.state
        sees = target in self.nodes and self.linked(name, target)
        return Survey(
            name,
            state.accepted,
            state.epoch,
            node.stored.visible,
            len(node.log),
            len(node.log),
            sees,
            0,
            revision=surely_held(state, node.stored.epoch, len(node.log)),
            gave_up=state.gave_up,
            store_epoch=node.stored.epoch if state.standing is Standing.MEMBER else NO_EPOCH,
        )

    def gossip(self, name: MemberId, other: MemberId) -> None:
        """Let a member learn of another's newer configuration."""
        configuration = self.nodes[other].state.configuration
        newer = configuration.epoch > self.nodes[name].state.epoch
        if newer and self.linked(name, other) and configuration.peer(other) is not None:
            self.begin(name, lambda state: seq.follow(state, configuration))
