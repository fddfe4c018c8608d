"""What a side that is given up has acknowledged is exported first, in the simulation (rule C18).

The model itself looks at it: whatever a copy loses when it is made like the primary's, and whatever
only a deleted primary has when it closes, has to be above the fork that the core names.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from conclave.cluster import sequences as seq
from conclave.cluster.configuration import Standing
from conclave.ids import MemberId
from tests.support.core_simulation import Simulation
from tests.support.core_tending import drain, heal, settle, tick

A, B, C, D = (MemberId(name) for name in "abcd")
RUNS = 1000
EVENTS = 30


def cut(simulation: Simulation, *side: MemberId) -> None:
    """Cut some members off from all others."""
    others = [name for name in simulation.nodes if name not in side]
    simulation.cut = {frozenset((one, other)) for one in side for other in others}
    for name in simulation.nodes:
        simulation.write(name, drop=True)


def delete(simulation: Simulation, here: MemberId, target: MemberId) -> None:
    """Force a deletion at a member."""
    state = simulation.nodes[here].state
    if state.configuration.peer(target) is None or here == target:
        return
    if state.configuration.primary == target:
        simulation.begin(
            here, lambda s: seq.delete_primary(s, force=True), changes=True, forced=True
        )
    elif state.may_write:
        simulation.begin(
            here, lambda s: seq.delete_other(s, target, force=True), changes=True, forced=True
        )
    drain(simulation)


def renumber(simulation: Simulation, name: MemberId) -> None:
    """Let a primary change its epoch, and tell those that it reaches."""
    if simulation.writable(name):
        state = simulation.nodes[name].state
        peer = state.configuration.peer(name)
        assert peer is not None
        simulation.begin(name, lambda s: seq.add_member(s, peer), changes=True)
        drain(simulation)


@pytest.mark.parametrize("changes", range(4))
def test_c18_a_primary_that_went_on_numbering_is_exported_and_so_is_its_follower(
    changes: int,
) -> None:
    simulation = Simulation(4, Random(0))
    settle(simulation)
    simulation.write(A, drop=False)
    cut(simulation, C, D)
    delete(simulation, C, A)
    for _ in range(changes):
        renumber(simulation, A)
    simulation.write(A, drop=True)
    leader = simulation.nodes[C].state.configuration.primary
    for _ in range(changes):
        renumber(simulation, leader)
    simulation.write(A, drop=False)
    tick(simulation)
    theirs = set(simulation.nodes[A].log) - set(simulation.nodes[C].log)
    assert theirs
    assert theirs <= set(simulation.nodes[B].log)
    heal(simulation)
    settle(simulation)
    assert simulation.nodes[A].state.standing is Standing.DELETED
    assert simulation.nodes[B].state.standing is Standing.MEMBER
    assert theirs <= simulation.exported


def parts(simulation: Simulation) -> None:
    """Let one thing happen to a cluster whose sides go on apart by force."""
    random, names = simulation.random, list(simulation.nodes)
    name, other = random.choice(names), random.choice(names)
    kind = random.randrange(8)
    if kind == 0:
        cut(simulation, *random.sample(names, random.randrange(1, len(names))))
    elif kind == 1:
        simulation.cut.clear()
    elif kind == 2:
        delete(simulation, name, other)
    elif kind == 3:
        renumber(simulation, name)
    elif kind == 4 and simulation.nodes[name].state.may_write:
        simulation.begin(name, lambda s: seq.promote(s, other), changes=True)
        drain(simulation)
    elif kind == 5:
        tick(simulation)
    else:
        simulation.write(name, drop=True)


@pytest.mark.parametrize("size", [3, 4])
def test_c18_whatever_is_given_up_was_exported(size: int) -> None:
    found: Counter[str] = Counter()
    for seed in range(RUNS):
        simulation = Simulation(size, Random(seed))
        try:
            settle(simulation)
            for _ in range(EVENTS):
                parts(simulation)
            heal(simulation)
            for _ in range(4):
                tick(simulation)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        found["exported"] += bool(simulation.exported)
    assert found["exported"] >= RUNS // 20
