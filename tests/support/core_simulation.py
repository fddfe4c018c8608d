"""A cluster of which everything but the decisions is a model: stores, network, crashes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import (
    Configuration,
    MemberState,
    Peer,
    Standing,
)
from conclave.cluster.epochs import Epoch
from conclave.cluster.lineage import Refusal, gives_way
from conclave.cluster.survivors import Survey
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import ClusterId, MemberId


@dataclass(frozen=True)
class Stored:
    """What the replicated store says of the cluster."""

    epoch: Epoch
    primary: MemberId
    visible: tuple[MemberId, ...]
    rows: frozenset[MemberId]
    rotated: frozenset[MemberId] = frozenset()
    """For whose deletion the ticket key was changed."""


@dataclass
class Node:
    """A member: its durable state, its log, and whether it runs."""

    state: MemberState
    stored: Stored
    log: list[int] = field(default_factory=list)
    up: bool = True
    leads: bool = False
    follows: bool = True
    paused: bool = False
    """Writes wait."""
    deleted_by: dict[MemberId, Refusal] = field(default_factory=dict)
    role_taken: bool = True
    unfinished: bool = False
    """Its configuration is not recorded in the store yet."""
    waited_for: tuple[MemberId, ...] = ()
    recorded: tuple[MemberId, ...] = ()
    """Of those waited for, who stands in the store, as this primary knows."""
    completes_join: bool = True
    crashed_open: bool = False
    """It died while its store was open: where its log ends is not known."""


@dataclass(frozen=True)
class WaitFor:
    """Wait for these members' copies in every commit from now on."""

    members: tuple[MemberId, ...]


@dataclass(frozen=True)
class CommitList:
    """Commit the visible list in the store."""


@dataclass(frozen=True)
class SaveList:
    """Keep the visible list that was committed."""

    members: tuple[MemberId, ...]


@dataclass(frozen=True)
class AskAdd:
    """Ask the primary to list a joiner."""

    primary: MemberId
    peer: Peer


@dataclass(frozen=True)
class AskRemove:
    """Ask the primary to take the asker off the list."""

    primary: MemberId


@dataclass(frozen=True)
class CopyAnew:
    """Copy the primary's store."""


@dataclass(frozen=True)
class Forget:
    """Forget the cluster."""


@dataclass(frozen=True)
class Learn:
    """Hear of a newer configuration from a member."""

    member_id: MemberId


@dataclass(frozen=True)
class Complete:
    """Be a member, whose copy is complete."""


ShellAction = (
    Learn | Complete | WaitFor | CommitList | SaveList | AskAdd | AskRemove | CopyAnew | Forget
)
Action = seq.Action | ShellAction
NEVER_FAIL = (seq.ResumeWrites, seq.StopFollowing, seq.Cut, seq.DropRow)
"""What the shell does at once, without anything that could refuse it."""
Steps = Generator[Action, Any, Any]


@dataclass
class Task:
    """A sequence under way, and whoever waits for its result."""

    node: MemberId
    steps: Steps
    seen: MemberState
    asker: Task | None = None
    changes: bool = False
    forced: bool = False
    result: Any = None
    error: ConclaveError | None = None
    waiting: bool = False
    late: bool = False
    """A message that is still under way."""
    failure: ConclaveError | None = None
    """How it ended, when it failed."""
    done: bool = False


@dataclass(frozen=True)
class Acknowledged:
    """A write that somebody was told of, and who had it then."""

    number: int
    epoch: Epoch
    holders: frozenset[MemberId]
    former: frozenset[MemberId]
    """Who was deleted by then: it may go on alone, without anybody to follow it."""


class Simulation:
    """Members, links and the tasks under way; whoever drives it says what happens next."""

    def __init__(self, size: int, random: Random) -> None:
        ids = [MemberId(name) for name in "abcd"[:size]]
        peers = tuple(Peer(name, name, 1, b"") for name in ids)
        configuration = Configuration(Epoch(1, ids[0]), ids[0], peers)
        stored = Stored(configuration.epoch, ids[0], tuple(ids), frozenset(ids))
        self.random = random
        self.nodes = {
            name: Node(
                MemberState(
                    ClusterId("c"),
                    name,
                    Standing.MEMBER,
                    configuration,
                    Epoch(1, ids[0]),
                    tuple(ids),
                    1,
                ),
                stored,
            )
            for name in ids
        }
        first = self.nodes[ids[0]]
        first.leads, first.follows = True, False
        first.waited_for = first.recorded = tuple(ids[1:])
        self.tasks: list[Task] = []
        self.cut: set[frozenset[MemberId]] = set()
        self.acknowledged: list[Acknowledged] = []
        self.openers: dict[Epoch, MemberId] = {configuration.epoch: ids[0]}
        self.forced: set[Epoch] = set()
        self.writes = 0
        self.steps = 0
        self.mishap_at = -1
        self.mishap: Callable[[], None] = lambda: None
        """What happens after so many steps, whatever is under way then."""
        self.refuses_next = False
        """Whether the next action is not done, but fails."""

    def linked(self, one: MemberId, other: MemberId) -> bool:
        """Tell whether two members that run reach each other and take each other for members."""
        return self.wired(one, other) and not self.refused(one, other)

    def wired(self, one: MemberId, other: MemberId) -> bool:
        """Tell whether two members run and nothing is cut between them."""
        return self.runs(one) and self.runs(other) and frozenset((one, other)) not in self.cut

    def runs(self, name: MemberId) -> bool:
        """Tell whether a member is up; one that left has forgotten the cluster."""
        node = self.nodes.get(name)
        return node is not None and node.up and node.state.standing is not Standing.LEFT

    def refused(self, one: MemberId, other: MemberId) -> bool:
        """Tell whether one of two is no member as the other knows: the link refuses it."""
        pairs = ((one, other), (other, one))
        return any(self.nodes[a].state.configuration.peer(b) is None for a, b in pairs)

    # ------------------------------------------------------------------ the store

    def copies(self, name: MemberId, primary: MemberId) -> bool:
        """Tell whether a member's store follows that of a primary."""
        node, leader = self.nodes.get(name), self.nodes[primary]
        return (
            node is not None
            and self.linked(name, primary)
            and leader.leads
            and leader.state.may_write
            and node.follows
            and not node.leads
            and not node.state.gave_up
            and node.state.standing is Standing.MEMBER
            and node.state.epoch == leader.state.epoch
            and node.state.configuration.primary == primary
        )

    def replicate(self, name: MemberId) -> None:
        """Let a member's copy catch up; it learns the recorded list by it."""
        primary = self.nodes[name].state.configuration.primary
        if primary in self.nodes and primary != name and self.copies(name, primary):
            self.copy(name, primary)

    def copy(self, name: MemberId, primary: MemberId) -> None:
        """Make a member's store like the primary's."""
        node, leader = self.nodes[name], self.nodes[primary]
        node.log, node.stored = list(leader.log), leader.stored

    def writable(self, name: MemberId) -> bool:
        """Tell whether writes pass on a member."""
        node = self.nodes[name]
        return node.up and node.leads and node.state.may_write and not node.paused

    def commit(self, name: MemberId) -> bool:
        """Commit something; tell whether all that are waited for have it."""
        node = self.nodes[name]
        self.writes += 1
        node.log.append(self.writes)
        for other in node.waited_for:
            self.replicate(other)
        return all(self.copies(other, name) for other in node.waited_for)

    def write(self, name: MemberId, *, drop: bool) -> None:
        """Write on a primary; it is acknowledged when all of the recorded list have it."""
        if not self.writable(name):
            return
        node = self.nodes[name]
        complete = self.commit(name)
        number = self.writes
        if not (complete and self.is_recorded(name)):
            if not drop:
                return
            self.relist(name)
        former = frozenset(member for member, _ in node.state.configuration.former)
        holders = frozenset((name, *node.waited_for))
        self.acknowledged.append(Acknowledged(number, node.state.epoch, holders, former))

    def is_recorded(self, name: MemberId) -> bool:
        """Tell whether a primary's list is the recorded one."""
        node = self.nodes[name]
        listed = {name, *node.waited_for}
        return node.recorded == node.waited_for and set(node.state.visible) == listed

    def following(self, name: MemberId) -> tuple[MemberId, ...]:
        """Return whose copies follow a primary, of those that all others know of."""
        state = self.nodes[name].state
        others = (p.member_id for p in state.others())
        known = (m for m in others if m not in state.configuration.unannounced)
        return tuple(member for member in known if self.copies(member, name))

    def listing(self, name: MemberId) -> Steps:
        """Wait for all that follow, and record who they are."""
        before, after = self.nodes[name].waited_for, self.following(name)
        yield WaitFor(tuple(member for member in after if member in before))
        yield WaitFor(after)
        yield CommitList()
        yield SaveList(after)

    def relist(self, name: MemberId) -> None:
        """Record at once a list of all that follow."""
        if self.writable(name):
            task = Task(name, self.listing(name), self.nodes[name].state)
            for action in task.steps:
                self.perform(task, action)

    # ------------------------------------------------------------------ sequences

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

    def ready(self) -> list[Task]:
        """Return the sequences that can go on now."""
        return [task for task in self.tasks if not task.waiting and not task.late]

    def step(self, task: Task) -> None:
        """Carry out the next action of a sequence."""
        result, error = task.result, task.error
        task.result = task.error = None
        try:
            action = task.steps.throw(error) if error else task.steps.send(result)
        except StopIteration as stop:
            self.end(task, stop.value, None)
        except ConclaveError as failure:
            self.end(task, None, failure)
        else:
            self.perform(task, action)
        self.steps += 1
        if self.steps == self.mishap_at:
            self.mishap()

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
            1,
            len(node.log),
            sees,
            0,
            gave_up=state.gave_up,
        )

    # ------------------------------------------------------------------ mishaps, and the watch

    def crash(self, name: MemberId) -> None:
        """Stop a member at once: what it was at is gone."""
        node = self.nodes[name]
        node.up, node.crashed_open, node.leads = False, node.leads, False
        for task in [t for t in self.tasks if t.node == name]:
            if task in self.tasks:
                self.end(task, None, unreachable())

    def restart(self, name: MemberId) -> None:
        """Start a member from its durable state; it has no role yet."""
        node = self.nodes[name]
        node.up, node.paused, node.role_taken = True, True, False
        node.leads = node.unfinished = False
        node.follows = not node.state.is_primary and not node.state.gave_up
        node.waited_for = node.recorded = ()
        node.completes_join = True

    def gossip(self, name: MemberId, other: MemberId) -> None:
        """Let a member learn of another's newer configuration."""
        configuration = self.nodes[other].state.configuration
        newer = configuration.epoch > self.nodes[name].state.epoch
        if newer and self.linked(name, other) and configuration.peer(other) is not None:
            self.begin(name, lambda state: seq.follow(state, configuration))

    def meet(self, name: MemberId, other: MemberId) -> None:
        """Let a member call one that it lists, and hear that it was deleted there."""
        node, state = self.nodes[name], self.nodes[other].state
        reached = node.up and self.nodes[other].up and frozenset((name, other)) not in self.cut
        if not reached or node.state.configuration.peer(other) is None:
            return
        if state.configuration.former_standing(name) is not Standing.DELETED:
            node.deleted_by.pop(other, None)
            return
        listed = frozenset(state.configuration.ids())
        node.deleted_by[other] = Refusal(state.epoch, listed)
        epoch = gives_way(node.state, node.deleted_by)
        if epoch is not None:
            self.begin(name, lambda s: seq.end_membership(s, Standing.DELETED, epoch))

    def check(self) -> None:
        """Look at every invariant."""
        for name, node in self.nodes.items():
            if not node.state.may_write:
                continue
            epoch = node.state.epoch
            if self.openers.setdefault(epoch, name) != name:
                raise AssertionError(f"{epoch} was opened by {self.openers[epoch]} and {name}")
            if node.leads:
                self.check_writes(name, node)

    def check_writes(self, name: MemberId, node: Node) -> None:
        """Look for acknowledged writes that a later primary has not."""
        epoch = node.state.epoch
        gone = {member for member, _ in node.state.configuration.former}
        for write in self.acknowledged:
            excused = write.epoch >= epoch or write.holders <= gone or name in write.former
            excused = excused or any(forced <= epoch for forced in self.forced)
            if not excused and write.number not in node.log:
                raise AssertionError(f"{name} in {epoch} lost {write}")


def relaying(state: MemberState, peer: Peer) -> Steps:
    """Ask the primary to list a joiner that came to another member."""
    yield AskAdd(state.configuration.primary, peer)


def promises(state: MemberState) -> tuple[object, ...]:
    """Return what a sequence must find unchanged."""
    return (
        state.accepted,
        state.configuration,
        state.standing,
        state.handing_over,
        state.gave_up,
    )


def unreachable() -> Unavailable:
    """Return what is raised for a member that does not answer."""
    return Unavailable(faults.PRIMARY_UNREACHABLE, "The member is not reached.")
