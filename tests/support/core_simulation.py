"""A cluster of which everything but the decisions is a model: stores, network, crashes."""

from __future__ import annotations

from conclave.cluster import sequences as seq
from conclave.cluster.configuration import MemberState, Standing
from conclave.cluster.histories import parting
from conclave.cluster.lineage import Refusal, gives_way
from conclave.errors import ConclaveError
from conclave.ids import MemberId
from tests.support.core_actions import Actions
from tests.support.core_model import (
    Acknowledged,
    CommitList,
    Node,
    SaveList,
    Steps,
    Task,
    WaitFor,
    unreachable,
)


class Simulation(Actions):
    """Members, links and the tasks under way; whoever drives it says what happens next."""

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
        history = node.stored.history
        self.acknowledged.append(Acknowledged(number, node.state.epoch, holders, former, history))

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
            if node.state.is_primary:
                self.close(name, state)
            self.begin(name, lambda s: seq.end_membership(s, Standing.DELETED, epoch))

    def close(self, name: MemberId, teller: MemberState) -> None:
        """Export what only a deleted primary has."""
        mine, theirs = self.nodes[name].state.configuration, teller.configuration
        leader = self.nodes[theirs.primary]
        if leader.stored.epoch in theirs.history.epochs:
            self.give_up(name, parting(mine.history, theirs.history), leader)

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
            excused = excused or self.forked_by_force(write, node)
            if not excused and write.number not in node.log:
                raise AssertionError(f"{name} in {epoch} lost {write}")

    def forked_by_force(self, write: Acknowledged, node: Node) -> bool:
        """Tell whether a write was done before or beside what was forced, not after it.

        The members' configurations tell which forced deletions they come after, never their stores:
        a store that was chosen wrongly is of another history.
        """
        forks = {number for number, _ in node.state.configuration.forks}
        beside = [f for f in self.forced & write.history if f.number not in forks]
        later = [f for f in self.forced - write.history if f <= node.state.epoch]
        return bool(beside or later)
