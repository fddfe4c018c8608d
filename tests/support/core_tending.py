"""What members do by themselves until nothing is left to do, on the model of a cluster.

It follows `conclave.cluster.member_role`, `member_hearing` and `primary` of the shell: a member
hears of the others, takes its role, renews the epoch, and records who follows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from conclave.cluster import sequences as seq
from conclave.cluster.configuration import Standing, never_listed, promised_past
from conclave.ids import MemberId
from tests.support.core_model import Node
from tests.support.core_simulation import Simulation

MOST_TICKS = 12
MOST_STEPS = 2000
"""Of all tasks of one tick; more is a cluster that never comes to rest."""


def drain(simulation: Simulation) -> None:
    """Let every task go on until it ends or waits for ever."""
    for _ in range(MOST_STEPS):
        ready = simulation.ready()
        if not ready:
            return
        simulation.step(ready[-1])
        simulation.check()
    raise AssertionError("the tasks never end")


def tick(simulation: Simulation) -> None:
    """Let every member do once what it does by itself again and again."""
    for name in list(simulation.nodes):
        for work in (hear, tend, look):
            if simulation.nodes[name].up:
                work(simulation, name)
                drain(simulation)
    for name in simulation.nodes:
        simulation.replicate(name)


def hear(simulation: Simulation, name: MemberId) -> None:
    """Learn of newer configurations, or that one is no member any more."""
    for other in simulation.nodes[name].state.configuration.ids():
        if other == name or not simulation.wired(name, other):
            continue
        if simulation.linked(name, other):
            simulation.nodes[name].deleted_by.pop(other, None)
            simulation.gossip(name, other)
        else:
            hear_refusal(simulation, name, other)
        drain(simulation)


def hear_refusal(simulation: Simulation, name: MemberId, other: MemberId) -> None:
    """Be told by a member that one is none."""
    node, teller = simulation.nodes[name], simulation.nodes[other].state
    state, told = node.state, teller.configuration
    if told.peer(name) is not None or state.standing not in (Standing.MEMBER, Standing.JOINING):
        return
    how = told.former_standing(name)
    if how is Standing.DELETED:
        simulation.meet(name, other)
        return
    if how is not None and told.epoch > state.epoch:
        simulation.begin(name, lambda state: seq.end_membership(state, how, told.epoch))
        return
    by_primary = how is None and told.primary == other
    if node.completes_join and by_primary and never_listed(state, other, told.epoch):
        node.state = replace(state, standing=Standing.LEFT)


def tend(simulation: Simulation, name: MemberId) -> None:
    """Take the role, and renew an epoch that somebody promised past."""
    node = simulation.nodes[name]
    state = node.state
    if state.standing not in (Standing.MEMBER, Standing.JOINING):
        return
    out_of_role = state.may_write and (node.unfinished or not node.leads)
    closed = not node.leads and not node.follows and not state.gave_up
    if not node.role_taken or state.handing_over or out_of_role or closed:
        take_role(simulation, name, node)
        drain(simulation)
        node.role_taken = node.role_taken or role_is_taken(node)
    if node.leads and node.state.may_write:
        others = [p.member_id for p in node.state.others() if simulation.linked(name, p.member_id)]
        heard = [simulation.nodes[other].state for other in others]
        if any(promised_past(node.state, h.accepted, gave_up=h.gave_up) for h in heard):
            simulation.begin(name, seq.renew, changes=True)
            drain(simulation)
        announce(simulation, name, node)


def announce(simulation: Simulation, name: MemberId, node: Node) -> None:
    """Let new members become visible, once all others live in the epoch that lists them."""
    configuration = node.state.configuration
    if not (node.state.may_write and configuration.unannounced):
        return
    known = [m for m in configuration.ids() if m not in configuration.unannounced]
    epochs = [simulation.nodes[m].state.epoch for m in known if m in simulation.nodes]
    if all(epoch == node.state.epoch for epoch in epochs):
        simulation.begin(name, seq.announce, changes=True)


def take_role(simulation: Simulation, name: MemberId, node: Node) -> None:
    """Lead, follow, or hand over once more, as the state says."""
    state = node.state
    if state.handing_over:
        position = None if node.crashed_open else len(node.log)
        simulation.begin(name, lambda s: seq.finish_promotion(s, position), changes=True)
    elif state.may_write:
        simulation.begin(name, lambda s: seq.open_epoch(s, s.configuration, None), changes=True)
    elif state.standing is Standing.JOINING:
        primary = state.configuration.primary
        if node.completes_join and simulation.may_copy(name, primary):
            simulation.copy(name, primary)
            node.follows = node.role_taken = True
            node.state = replace(state, standing=Standing.MEMBER)
    else:
        node.follows, node.role_taken = not state.gave_up and not state.is_primary, True


def role_is_taken(node: Node) -> bool:
    """Tell whether a role was taken by a sequence that has ended."""
    return node.state.standing is Standing.MEMBER and (node.leads or node.follows)


def look(simulation: Simulation, name: MemberId) -> None:
    """Record who follows, as a primary."""
    node = simulation.nodes[name]
    if not simulation.writable(name):
        return
    if simulation.following(name) != node.waited_for or not simulation.is_recorded(name):
        simulation.relist(name)


# ---------------------------------------------------------------- coming to rest


def heal(simulation: Simulation, lost: Collection[MemberId] = ()) -> None:
    """Mend all links and start all that are down, but those lost for good."""
    simulation.cut.clear()
    for name, node in simulation.nodes.items():
        if not node.up and name not in lost:
            simulation.restart(name)


def settle(simulation: Simulation) -> None:
    """Let the members come to rest; AssertionError when they do not in a bounded time."""
    for _ in range(MOST_TICKS):
        tick(simulation)
        if not unsettled(simulation):
            return
    raise AssertionError(f"the cluster does not settle: {unsettled(simulation)}")


def members(simulation: Simulation) -> list[Node]:
    """Return all that run and take themselves for members."""
    standing = (Standing.MEMBER, Standing.JOINING)
    return [n for n in simulation.nodes.values() if n.up and n.state.standing in standing]


def unsettled(simulation: Simulation) -> str:
    """Tell what is not as it is to be at rest; nothing when all is."""
    nodes = members(simulation)
    leaders = [node for node in nodes if node.leads and node.state.may_write]
    if simulation.tasks:
        return f"{len(simulation.tasks)} tasks are under way"
    if len(leaders) != 1:
        return f"{len(leaders)} members lead: " + described(nodes)
    leader = leaders[0]
    name, configuration = leader.state.member_id, leader.state.configuration
    if {n.state.member_id for n in nodes} != set(configuration.ids()):
        return "not all are members, or not all members are here: " + described(nodes)
    if any(n.state.configuration != configuration for n in nodes):
        return "the configurations differ: " + described(nodes)
    followers = [node for node in nodes if node is not leader]
    if any(n.state.accepted != configuration.epoch or n.state.gave_up for n in followers):
        return "a promise is open: " + described(nodes)
    if not simulation.writable(name) or leader.unfinished:
        return "the primary takes no writes"
    if set(leader.state.visible) != set(configuration.ids()):
        return f"visible are only {leader.state.visible}"
    return unrecorded(simulation, leader)


def unrecorded(simulation: Simulation, leader: Node) -> str:
    """Tell what the store says otherwise than the primary's state."""
    configuration, stored = leader.state.configuration, leader.stored
    if (stored.epoch, stored.primary) != (configuration.epoch, configuration.primary):
        return "the epoch is not recorded"
    if set(stored.visible) != set(configuration.ids()):
        return f"recorded as visible are only {stored.visible}"
    if stored.rows != set(configuration.ids()):
        return f"the rows are of {sorted(stored.rows)}"
    deleted = {m for m, how in configuration.former if how is Standing.DELETED}
    if deleted - stored.rotated:
        return f"keys that {deleted - stored.rotated} knew are still in use"
    if any(n.log != leader.log or n.stored != stored for n in members(simulation)):
        return "the stores differ"
    return ""


def described(nodes: Collection[Node]) -> str:
    """Return how members stand."""
    return "; ".join(
        f"{n.state.member_id}: {n.state.standing} epoch {n.state.epoch}, accepted"
        f" {n.state.accepted}, primary {n.state.configuration.primary}, members"
        f" {''.join(n.state.configuration.ids())}, hands over to {n.state.handing_over!r},"
        f" gave up {n.state.gave_up}, leads {n.leads}, follows {n.follows}"
        for n in nodes
    )
