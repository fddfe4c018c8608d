"""Which of two sides that deleted each other gives way, in the simulation (rule C19)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from conclave.cluster import sequences as seq
from conclave.cluster.configuration import Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.lineage import Refusal, gives_way
from conclave.ids import MemberId
from tests.support.core_simulation import Simulation

A, B, C, D = (MemberId(name) for name in "abcd")


def finish(simulation: Simulation) -> None:
    """Carry out everything that is under way."""
    while ready := [task for task in simulation.tasks if not task.waiting]:
        simulation.step(ready[0])


def cut(simulation: Simulation, one: str, other: str) -> None:
    """Cut the links between two sides."""
    simulation.cut |= {frozenset((MemberId(x), MemberId(y))) for x in one for y in other}


def delete(simulation: Simulation, at: MemberId, target: MemberId) -> None:
    """Force a deletion; the primary of a side does it, or whoever becomes it."""
    state = simulation.nodes[at].state
    if state.configuration.primary == target:
        simulation.begin(at, lambda s: seq.delete_primary(s, force=True), forced=True)
    else:
        simulation.begin(at, lambda s: seq.delete_other(s, target, force=True), forced=True)
    finish(simulation)
    assert simulation.nodes[at].state.configuration.former_standing(target) is Standing.DELETED


def heal(simulation: Simulation) -> None:
    """Join the sides, and let all speak with all until nothing new is heard."""
    simulation.cut.clear()
    before = None
    while before != (before := [node.state for node in simulation.nodes.values()]):
        for name, other in permutations(simulation.nodes, 2):
            simulation.gossip(name, other)
            simulation.meet(name, other)
            finish(simulation)
            simulation.check()


def writers(simulation: Simulation) -> list[MemberId]:
    return [name for name, node in simulation.nodes.items() if node.state.may_write]


def test_a_cut_off_primary_with_the_higher_of_two_equal_numbers_gives_way() -> None:
    """It lists a member of the other side, which lists none of this one: nobody else can tell."""
    simulation = Simulation(3, Random(0))
    # c is the primary that is cut off, since its id makes its epoch the higher one of a number.
    simulation.begin(A, lambda s: seq.promote(s, C))
    finish(simulation)
    heal(simulation)
    assert writers(simulation) == [C]
    cut(simulation, "c", "ab")
    delete(simulation, C, B)
    delete(simulation, B, C)
    mine, theirs = simulation.nodes[C].state.epoch, simulation.nodes[B].state.epoch
    assert mine.number == theirs.number
    assert mine > theirs
    assert len(writers(simulation)) == 2
    heal(simulation)
    assert len(writers(simulation)) == 1
    assert writers(simulation) != [C]
    assert simulation.nodes[C].state.standing is Standing.DELETED


def test_a_primary_that_was_deleted_while_cut_off_opens_no_further_epoch() -> None:
    """Not by dropping who is silent, nor by a renewal, before and after it reaches them again."""
    simulation = Simulation(3, Random(0))
    cut(simulation, "a", "bc")
    delete(simulation, B, A)
    node = simulation.nodes[A]
    simulation.write(A, drop=True)
    finish(simulation)
    for still_cut in (set(simulation.cut), set[frozenset[MemberId]]()):
        simulation.cut = still_cut
        renewal = simulation.begin(A, seq.renew)
        finish(simulation)
        assert renewal is not None
        assert renewal.failure is not None
        assert node.state.epoch == node.state.accepted == Epoch(1, A)
        assert node.state.visible == (A,)
    heal(simulation)
    assert node.state.standing is Standing.DELETED
    assert len(writers(simulation)) == 1


def test_one_side_goes_on_when_each_lists_a_member_of_the_other() -> None:
    simulation = Simulation(4, Random(0))
    cut(simulation, "ab", "cd")
    delete(simulation, A, C)
    delete(simulation, C, A)
    heal(simulation)
    assert len(writers(simulation)) == 1
    states = [node.state for node in simulation.nodes.values()]
    assert sum(state.standing is Standing.DELETED for state in states) == 1


@pytest.mark.parametrize("deletions", [0, 1, 2])
def test_a_side_that_deletes_more_gives_way_all_the_same(deletions: int) -> None:
    """Its number is higher, which brings it nobody of the other side."""
    simulation = Simulation(4, Random(0))
    cut(simulation, "a", "bcd")
    for target in (B, C)[:deletions]:
        delete(simulation, A, target)
    delete(simulation, B, A)
    heal(simulation)
    assert len(writers(simulation)) == 1
    assert simulation.nodes[A].state.standing is Standing.DELETED


def one_against_three(promotions: int) -> Simulation:
    """Let one member delete all others by force, which list it still, and let both sides meet."""
    simulation = Simulation(4, Random(0))
    cut(simulation, "d", "abc")
    for target in (A, B, C):
        delete(simulation, D, target)
    for number in range(promotions):
        hand_over(simulation, *((A, B) if number % 2 == 0 else (B, A)))
    heal(simulation)
    return simulation


def hand_over(simulation: Simulation, primary: MemberId, target: MemberId) -> None:
    simulation.relist(primary)  # only who is Read-Write is promoted
    simulation.begin(primary, lambda state: seq.promote(state, target))
    finish(simulation)
    assert simulation.nodes[target].state.may_write


def test_fewer_members_close_the_others_by_a_higher_epoch() -> None:
    """The lower epoch closes at contact (rule C19), however many live in it."""
    simulation = one_against_three(promotions=0)
    assert writers(simulation) == [D]
    for name in (A, B, C):
        assert simulation.nodes[name].state.standing is Standing.DELETED


def test_fewer_members_do_not_close_the_others_by_a_lower_epoch() -> None:
    """They cannot hear of the others, which they deleted: both go on, as they were told to."""
    simulation = one_against_three(promotions=4)
    assert simulation.nodes[A].state.epoch > simulation.nodes[D].state.epoch
    assert writers(simulation) == [A, D]
    for name in (A, B, C):
        assert simulation.nodes[name].state.standing is Standing.MEMBER


def test_nobody_gives_way_for_a_member_that_it_deleted_itself() -> None:
    """Whoever was deleted may know old keys: its word closes nobody."""
    simulation = Simulation(2, Random(0))
    cut(simulation, "a", "b")
    delete(simulation, A, B)
    state = simulation.nodes[A].state
    assert gives_way(state, {B: Refusal(Epoch(99, B), frozenset((B,)))}) is None
    delete(simulation, B, A)
    heal(simulation)
    assert writers(simulation) == [A, B]


def test_a_shared_member_that_was_not_heard_yet_is_waited_for() -> None:
    state = Simulation(3, Random(0)).nodes[C].state
    below = Epoch(0, B)
    refusal = Refusal(below, frozenset((A, B)))
    assert gives_way(state, {B: refusal}) is None
    assert gives_way(state, {A: refusal, B: refusal}) == below
    assert gives_way(state, {}) is None


def test_a_primary_that_changed_something_while_it_was_deleted_gives_way() -> None:
    """Its epoch is above the deletion's, which nobody told it of: the others never come back."""
    simulation = Simulation(3, Random(0))
    cut(simulation, "a", "bc")
    state = simulation.nodes[A].state
    later = state.configuration.succeeded(Epoch(7, A))
    simulation.nodes[A].state = replace(state, configuration=later, accepted=later.epoch)
    delete(simulation, B, A)
    assert simulation.nodes[A].state.may_write
    assert simulation.nodes[B].state.epoch < later.epoch
    heal(simulation)
    assert writers(simulation) == [simulation.nodes[B].state.configuration.primary]
    assert simulation.nodes[A].state.standing is Standing.DELETED
