"""The members of a simulated cluster, the links between them, and their stores."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from conclave.cluster.configuration import (
    Configuration,
    MemberState,
    Peer,
    Standing,
    fork_above,
)
from conclave.cluster.epochs import Epoch
from conclave.ids import ClusterId, MemberId
from tests.support.core_model import (
    Acknowledged,
    Node,
    Stored,
    Task,
)


class Stores:
    """Members and links; each member has a store that follows the primary's."""

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
        self.exported: set[int] = set()
        """What was exported of what others lacked."""
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
        if node.state.standing is Standing.MEMBER:
            self.give_up(name, fork_above(node.state, node.stored.epoch), leader)
        node.log, node.stored = list(leader.log), leader.stored

    def give_up(self, name: MemberId, fork: int | None, leader: Node) -> None:
        """Export what a copy has above the fork; all that the primary lacks is in it (C18)."""
        node, theirs = self.nodes[name], set(leader.log)
        exported = node.log[fork:] if fork is not None else []
        lost = [number for number in node.log if number not in theirs]
        self.exported.update(lost)
        if not {*lost} <= {*exported}:
            raise AssertionError(
                f"{name} keeps {exported} above {fork}, not {lost}: {node.state}, {node.stored}"
            )

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
