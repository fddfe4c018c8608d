"""Each by itself: what an interrupted change, or a race, once did to a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

import pytest

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import (
    NOBODY,
    MemberState,
    Peer,
    Standing,
    adopt,
    ended,
    promised_past,
)
from conclave.cluster.coordinator import Coordinator, Hands
from conclave.cluster.epochs import Epoch
from conclave.cluster.keeper import VisibleList
from conclave.cluster.member_state import MemberStateFile
from conclave.errors import ConclaveError, InternalFault, NotAllowed
from conclave.ids import MemberId
from tests.support.core_changes import A, B, C, X, delete, join, promote
from tests.support.core_model import Task
from tests.support.core_simulation import Simulation
from tests.support.core_tending import drain, heal, settle, tick


def state_of(name: MemberId, size: int = 3) -> MemberState:
    """Return the state of a member of a fresh cluster."""
    return Simulation(size, Random(0)).nodes[name].state


def run_until(simulation: Simulation, condition: Callable[[], bool]) -> None:
    """Let the tasks go on until something is so."""
    while not condition():
        simulation.step(simulation.ready()[-1])


def failure(task: Task | None) -> ConclaveError:
    """Return what a sequence ended with."""
    assert task is not None
    assert task.failure is not None
    return task.failure


# ---------------------------------------------------------------- handing over


def test_what_was_handed_over_and_opened_is_not_given_again_from_an_old_list() -> None:
    """The old primary did not hear that it was opened, and promises itself to a renewal of it."""
    simulation = Simulation(3, Random(0))
    promote(simulation, B)
    run_until(simulation, lambda: simulation.nodes[B].leads)
    drain_but(simulation, A)
    simulation.crash(A)
    simulation.restart(A)
    assert simulation.nodes[A].state.handing_over == B
    simulation.cut = {frozenset((A, C)), frozenset((B, C))}
    state = simulation.nodes[B].state
    without = state.configuration.without(Epoch(3, B), C, Standing.DELETED, B)
    simulation.nodes[B].state = replace(state, configuration=without, accepted=Epoch(3, B))
    renewal = seq.AskPrepare(Epoch(4, B), Epoch(3, B), renewing=True)
    simulation.nodes[B].state = replace(simulation.nodes[B].state, accepted=Epoch(4, B))
    simulation.begin(A, lambda s: seq.prepare(s, renewal))
    drain(simulation)
    assert simulation.nodes[A].state.accepted == Epoch(4, B)
    simulation.begin(A, lambda s: seq.finish_promotion(s, None))
    drain(simulation)
    assert simulation.nodes[B].state.configuration.peer(C) is None


def drain_but(simulation: Simulation, name: MemberId) -> None:
    """Let all tasks end but those of one member."""
    while ready := [task for task in simulation.ready() if task.node != name]:
        simulation.step(ready[-1])


def test_nothing_is_handed_over_when_it_was_taken_back_meanwhile() -> None:
    state = state_of(A)
    assert not state.handing_over
    assert list(seq.finish_promotion(state, None)) == []


def test_who_is_no_member_any_more_is_nobodys_primary() -> None:
    """A joiner would take its word for the cluster's, and give up although it is listed."""
    alone = ended(state_of(A), Standing.DELETED, Epoch(2, B)).configuration
    assert alone.primary == NOBODY
    assert alone.ids() == ()


# ---------------------------------------------------------------- renewals


def test_who_promised_the_epoch_that_was_opened_is_about_to_follow() -> None:
    """Else a promotion is followed by renewals without end, each seen before it is lived in."""
    state = replace(state_of(A), accepted=Epoch(2, A))
    state = replace(state, configuration=replace(state.configuration, epoch=Epoch(2, A)))
    assert not promised_past(state, Epoch(2, A), gave_up=True)
    assert not promised_past(state, Epoch(1, A), gave_up=False)
    assert promised_past(state, Epoch(2, B), gave_up=False)
    assert promised_past(state, Epoch(3, A), gave_up=False)
    assert promised_past(state, Epoch(1, B), gave_up=True)


def test_an_epoch_is_not_renewed_for_what_was_seen_before() -> None:
    simulation = Simulation(3, Random(0))
    simulation.begin(A, seq.renew)
    drain(simulation)
    assert simulation.nodes[A].state.epoch == Epoch(1, A)


# ---------------------------------------------------------------- force


@pytest.mark.parametrize("force", [False, True])
def test_force_goes_without_whoever_is_not_reached_never_against_one_that_refuses(
    *, force: bool
) -> None:
    """What c has promised to another may be opened: two primaries would lead."""
    simulation = Simulation(3, Random(0))
    simulation.crash(A)
    task = simulation.begin(B, lambda s: seq.delete_primary(s, force=force))
    run_until(simulation, lambda: simulation.nodes[B].state.gave_up)
    later = simulation.nodes[C].state
    simulation.nodes[C].state = replace(later, accepted=Epoch(9, C))
    drain(simulation)
    assert isinstance(failure(task), NotAllowed)
    assert not simulation.nodes[B].leads


# ---------------------------------------------------------------- joiners


def joined_unseen() -> Simulation:
    """Return a cluster that a member joined while another one, b, was cut off, a moment before."""
    simulation = Simulation(2, Random(0))
    settle(simulation)
    join(simulation, A)
    run_until(simulation, lambda: simulation.nodes[A].state.configuration.peer(X) is not None)
    simulation.cut = {frozenset((B, A)), frozenset((B, X))}
    drain(simulation)
    for _ in range(3):
        tick(simulation)
    return simulation


def test_a_joiner_acknowledges_nothing_before_all_others_know_it() -> None:
    """Else b, which never heard of it, could lead without what only the joiner has."""
    simulation = joined_unseen()
    assert simulation.nodes[X].state.standing is Standing.MEMBER
    assert simulation.nodes[A].waited_for == ()
    simulation.write(A, drop=True)
    simulation.crash(A)
    simulation.cut.clear()
    delete(simulation, B, A)
    drain(simulation)
    simulation.check()


def test_a_joiner_becomes_visible_once_all_others_know_it() -> None:
    simulation = joined_unseen()
    heal(simulation)
    settle(simulation)
    assert set(simulation.nodes[A].waited_for) == {B, X}


def test_a_joiner_goes_on_copying_when_the_epoch_grows_under_the_same_primary() -> None:
    state = replace(state_of(B), standing=Standing.JOINING)
    later = replace(state.configuration, epoch=Epoch(2, A))
    assert list(seq.follow(state, later)) == [seq.Save(adopt(state, later))]
    other = replace(state.configuration, epoch=Epoch(2, C), primary=C)
    assert seq.Follow() in list(seq.follow(state, other))


def test_the_row_of_a_joiner_is_there_before_it_is_listed() -> None:
    """A primary that died in between listed a member without a row."""
    steps = seq.add_member(state_of(A), Peer(X, X, 1, b""))
    assert next(steps) == seq.PutRow(X)
    saved = next(steps)
    assert isinstance(saved, seq.Save)
    assert saved.state.configuration.unannounced == (X,)


def test_the_row_of_a_joiner_that_is_not_listed_is_taken_back() -> None:
    steps = seq.add_member(state_of(A), Peer(X, X, 1, b""))
    assert next(steps) == seq.PutRow(X)
    refused = NotAllowed(faults.MEMBERS_UNREACHABLE, "No.")
    assert steps.throw(refused) == seq.DropRow(X)
    with pytest.raises(NotAllowed):
        next(steps)


def test_a_member_that_fails_when_it_is_told_does_not_fail_the_change() -> None:
    """A joiner had nothing to follow with yet: its own listing failed by that."""
    steps = seq.remove_member(state_of(A), B, Standing.LEFT)
    while not isinstance(next(steps), seq.Ask):
        pass
    with pytest.raises(StopIteration):
        steps.throw(InternalFault(faults.STORAGE_FAILED, "No disk."))


def test_who_is_listed_again_stays_visible() -> None:
    configuration = state_of(A).configuration
    peer = configuration.peer(B)
    assert peer is not None
    assert configuration.with_peer(Epoch(2, A), peer).unannounced == ()


# ---------------------------------------------------------------- the list, and writes


def test_a_list_that_changed_to_and_fro_is_recorded_anew() -> None:
    """Whoever was left out for a moment may have missed what was committed in it."""
    recorded = VisibleList().begun((B, C))
    recorded = recorded.kept(recorded)
    assert recorded.is_recorded
    again = recorded.changed((B,)).changed((B, C))
    assert not again.is_recorded
    assert again.kept(recorded) == again
    assert again.kept(again).is_recorded
    assert not recorded.begun((B, C)).is_recorded


class Gate:
    """The hands of a member of which only the gate of its writes is used."""

    def __init__(self) -> None:
        self.opened = 0

    def resume_writes(self) -> None:
        self.opened += 1


def resumed(directory: Path, state: MemberState) -> int:
    """Return how often a sequence that lets writes go on has opened the gate."""

    def steps(seen: MemberState) -> seq.Steps:
        yield seq.ResumeWrites()
        return seen

    async def run() -> int:
        coordinator = Coordinator(MemberStateFile(directory / "member.json"), state)
        gate = Gate()
        coordinator.hands = cast("Hands", gate)
        await coordinator.run(steps)
        return gate.opened

    return asyncio.run(run())


def test_a_primary_that_gave_its_place_away_lets_no_writes_go_on(tmp_path: Path) -> None:
    """A promotion that another one overtook ends by letting them go on."""
    state = state_of(A)
    assert resumed(tmp_path, state) == 1
    assert resumed(tmp_path, replace(state, accepted=Epoch(2, B))) == 0
    assert resumed(tmp_path, replace(state, accepted=Epoch(2, B), handing_over=B)) == 0
