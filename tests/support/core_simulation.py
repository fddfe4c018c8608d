"""A cluster of which everything but the decisions is a model: stores, network, crashes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import Configuration, MemberState, Peer, Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.lineage import Refusal, gives_way
from conclave.cluster.survivors import Survey
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import ClusterId, MemberId


@dataclass
class Node:
    """A member: its durable state, its log, and whether it runs."""

    state: MemberState
    log: list[int] = field(default_factory=list)
    up: bool = True
    leads: bool = False
    follows: bool = True
    paused: bool = False
    deleted_by: dict[MemberId, Refusal] = field(default_factory=dict)


@dataclass
class Task:
    """A sequence under way, and whoever waits for its result."""

    node: MemberId
    steps: Generator[seq.Action, Any, Any]
    seen: MemberState
    asker: Task | None = None
    changes: bool = False
    forced: bool = False
    result: Any = None
    error: ConclaveError | None = None
    waiting: bool = False


@dataclass(frozen=True)
class Acknowledged:
    """A write that somebody was told of, and who had it then."""

    number: int
    epoch: Epoch
    holders: frozenset[MemberId]
    former: frozenset[MemberId]
    """Who was deleted by then: it may go on alone, without anybody to follow it."""


class Simulation:
    """Steps in random order; every step is followed by a look at the invariants."""

    def __init__(self, size: int, random: Random) -> None:
        ids = [MemberId(name) for name in "abcd"[:size]]
        peers = tuple(Peer(name, name, 1, b"") for name in ids)
        configuration = Configuration(Epoch(1, ids[0]), ids[0], peers)
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
                )
            )
            for name in ids
        }
        self.nodes[ids[0]].leads = True
        self.tasks: list[Task] = []
        self.cut: set[frozenset[MemberId]] = set()
        self.acknowledged: list[Acknowledged] = []
        self.openers: dict[Epoch, MemberId] = {configuration.epoch: ids[0]}
        self.forced: set[Epoch] = set()
        self.writes = 0

    def linked(self, one: MemberId, other: MemberId) -> bool:
        """Tell whether two members that run reach each other."""
        up = self.nodes[one].up and self.nodes[other].up
        return up and frozenset((one, other)) not in self.cut and not self.refused(one, other)

    def refused(self, one: MemberId, other: MemberId) -> bool:
        """Tell whether one of two was deleted as the other knows: the link refuses it."""
        pairs = ((one, other), (other, one))
        return any(self.nodes[a].state.configuration.former_standing(b) for a, b in pairs)

    # ------------------------------------------------------------------ the store

    def copies(self, name: MemberId, primary: MemberId) -> bool:
        """Tell whether a member's store follows that of a primary."""
        node, leader = self.nodes[name], self.nodes[primary]
        return (
            self.linked(name, primary)
            and leader.leads
            and node.follows
            and not node.leads
            and not node.state.gave_up
            and node.state.epoch == leader.state.epoch
            and node.state.configuration.primary == primary
        )

    def replicate(self, name: MemberId) -> None:
        """Let a member's copy catch up; it learns the recorded list by it."""
        node = self.nodes[name]
        primary = node.state.configuration.primary
        if primary in self.nodes and primary != name and self.copies(name, primary):
            leader = self.nodes[primary]
            node.log = list(leader.log)
            node.state = replace(
                node.state,
                visible=leader.state.visible,
                list_version=leader.state.list_version,
            )

    def write(self, name: MemberId, *, drop: bool) -> None:
        """Write on a primary; it is acknowledged when all of the recorded list have it."""
        node = self.nodes[name]
        if not (node.up and node.leads and node.state.may_write) or node.paused:
            return
        self.writes += 1
        node.log.append(self.writes)
        reached = [n for n in node.state.visible if n == name or self.copies(n, name)]
        if len(reached) < len(node.state.visible):
            if not drop:
                return
            version = node.state.list_version + 1
            node.state = replace(node.state, visible=tuple(reached), list_version=version)
        for follower in reached:
            if follower != name:
                self.replicate(follower)
        former = frozenset(member for member, _ in node.state.configuration.former)
        self.acknowledged.append(
            Acknowledged(self.writes, node.state.epoch, frozenset(reached), former)
        )

    def widen(self, name: MemberId) -> None:
        """Record a list of all that follow."""
        node = self.nodes[name]
        if not (node.up and node.leads and node.state.may_write) or node.paused:
            return
        following = [n for n in node.state.configuration.ids() if n in self.nodes]
        visible = tuple(n for n in following if n == name or self.copies(n, name))
        if set(visible) >= set(node.state.visible) and visible != node.state.visible:
            version = node.state.list_version + 1
            node.state = replace(node.state, visible=visible, list_version=version)
            for follower in visible:
                self.replicate(follower)

    # ------------------------------------------------------------------ sequences

    def begin(
        self,
        name: MemberId,
        start: Callable[[MemberState], Generator[seq.Action, Any, Any]],
        *,
        asker: Task | None = None,
        changes: bool = False,
        forced: bool = False,
    ) -> None:
        """Start a sequence; those that change the cluster take turns on a member."""
        if changes and any(t.changes and t.node == name for t in self.tasks):
            return
        state = self.nodes[name].state
        self.tasks.append(Task(name, start(state), state, asker, changes, forced))

    def end(self, task: Task, result: Any, error: ConclaveError | None) -> None:
        """Forget a task and answer whoever asked for it."""
        self.tasks.remove(task)
        asker = task.asker
        if asker is None or asker not in self.tasks:
            return
        if not self.linked(task.node, asker.node):
            result, error = None, unreachable()
        asker.waiting, asker.result, asker.error = False, result, error

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

    def perform(self, task: Task, action: seq.Action) -> None:
        """Do what a sequence says."""
        node = self.nodes[task.node]
        match action:
            case seq.Save(state=state):
                self.save(task, node, state)
            case seq.Ask(member_id=member_id, question=question):
                self.ask(task, member_id, question)
            case seq.PauseWrites():
                node.paused = True
            case seq.ResumeWrites():
                node.paused = False
            case seq.CatchUp(position=position):
                if len(node.log) < position:
                    task.error = NotAllowed(faults.MEMBERS_UNREACHABLE, "The copy ends earlier.")
            case seq.CloseStore():
                for name in self.nodes:
                    self.replicate(name)
                task.result = len(node.log)
                node.leads = node.follows = False
            case seq.StopFollowing():
                node.follows = False
            case seq.Follow():
                node.leads, node.follows = False, True
            case seq.Lead():
                node.leads, node.follows = True, False
            case _:
                pass

    def save(self, task: Task, node: Node, state: MemberState) -> None:
        """Save unless another promise came in between; the list may have moved on."""
        now = node.state
        same = (now.accepted, now.configuration, now.standing, now.handing_over, now.gave_up)
        seen = task.seen
        if same != (
            seen.accepted,
            seen.configuration,
            seen.standing,
            seen.handing_over,
            seen.gave_up,
        ):
            task.error = Conflict(faults.EPOCH_STALE, "Another promise came in between.")
            return
        if state.epoch == now.epoch and state.list_version < now.list_version:
            state = replace(state, visible=now.visible, list_version=now.list_version)
        assert state.accepted >= now.accepted
        assert state.epoch >= now.epoch
        if task.forced:
            self.forced.add(state.accepted)
        node.state = task.seen = state

    def ask(self, task: Task, target: MemberId, question: seq.Question) -> None:
        """Ask a member, which answers by a sequence of its own."""
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

    def survey(self, name: MemberId, target: MemberId) -> Survey:
        """Say what a member knows."""
        node = self.nodes[name]
        state = node.state
        sees = target in self.nodes and self.linked(name, target)
        return Survey(
            name,
            state.accepted,
            state.epoch,
            state.visible,
            state.list_version,
            1,
            len(node.log),
            sees,
            0,
        )

    # ------------------------------------------------------------------ mishaps, and the watch

    def crash(self, name: MemberId) -> None:
        """Stop a member at once: what it was at is gone."""
        self.nodes[name].up = False
        for task in [t for t in self.tasks if t.node == name]:
            if task in self.tasks:
                self.end(task, None, unreachable())

    def restart(self, name: MemberId) -> None:
        """Start a member from its durable state."""
        node = self.nodes[name]
        node.up, node.paused = True, False
        node.leads = node.state.may_write
        node.follows = not node.state.is_primary and not node.state.gave_up

    def gossip(self, name: MemberId, other: MemberId) -> None:
        """Let a member learn of another's newer configuration."""
        configuration = self.nodes[other].state.configuration
        opened = self.openers.get(configuration.epoch)
        of_member = configuration.peer(other) is not None
        if self.linked(name, other) and opened is not None and of_member:
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


def unreachable() -> Unavailable:
    """Return what is raised for a member that does not answer."""
    return Unavailable(faults.PRIMARY_UNREACHABLE, "The member is not reached.")
