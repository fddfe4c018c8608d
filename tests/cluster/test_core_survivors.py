"""Who is promoted when a primary is deleted, case by case."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import product
from random import Random

import pytest

from conclave.cluster.epochs import Epoch
from conclave.cluster.survivors import NO_EPOCH, Survey, choose_survivor, require_deletable
from conclave.errors import Conflict, NotAllowed
from conclave.ids import MemberId
from tests.support.core_changes import A, B, C, D, delete, primary
from tests.support.core_simulation import Simulation
from tests.support.core_tending import drain, settle, tick


def says(
    name: MemberId, visible: str, version: int, lsn: int, *, epoch: int = 1, sees: bool = False
) -> Survey:
    """Return what a member says."""
    ids = tuple(MemberId(letter) for letter in visible)
    lives = Epoch(epoch, A)
    return Survey(name, lives, lives, ids, version, lsn, sees, 0, store_epoch=lives)


@pytest.mark.parametrize(
    ("surveys", "chosen"),
    [
        ([says(B, "abc", 1, 5), says(C, "abc", 1, 7)], C),
        ([says(B, "ab", 2, 5), says(C, "abc", 1, 7)], B),
        ([says(B, "abc", 9, 7), says(C, "ac", 1, 5, epoch=2)], C),
    ],
)
def test_the_newest_list_decides_and_then_the_log(surveys: list[Survey], chosen: MemberId) -> None:
    by_member = {survey.member_id: survey for survey in surveys}
    assert choose_survivor(A, by_member, force=False) == chosen


def test_without_a_holder_only_force_chooses() -> None:
    surveys = {B: says(B, "a", 2, 5)}
    with pytest.raises(NotAllowed):
        choose_survivor(A, surveys, force=False)
    assert choose_survivor(A, surveys, force=True) == B


def test_who_is_seen_is_not_deleted_even_by_force() -> None:
    with pytest.raises(Conflict):
        require_deletable(A, {B: says(B, "ab", 1, 5, sees=True)}, [], force=True)
    with pytest.raises(NotAllowed):
        require_deletable(A, {B: says(B, "ab", 1, 5)}, [C], force=False)
    require_deletable(A, {B: says(B, "ab", 1, 5)}, [C], force=True)


# ---------------------------------------------------------------- copies of another history


def test_a_copy_of_a_former_epoch_is_behind_one_of_the_present_however_long_its_log_is() -> None:
    """It lives in the new epoch already, and its copy of the old one is not mended yet."""
    behind = replace(says(C, "ac", 90, 99, epoch=2), store_epoch=Epoch(1, A))
    surveys = {C: behind, D: says(D, "ad", 5, 5, epoch=2)}
    for force in (False, True):
        assert choose_survivor(A, surveys, force=force) == D


@pytest.mark.parametrize("number", [2, 7])
def test_a_copy_of_an_epoch_that_nobody_lives_in_counts_only_when_the_deleted_one_made_it(
    number: int,
) -> None:
    """Either the lost primary told nobody of it, or the copy is of a history that was given up."""
    later = replace(says(C, "acd", 9, 9, epoch=2), store_epoch=Epoch(number, D))
    surveys = {C: later, B: says(B, "ab", 5, 5, epoch=2)}
    assert choose_survivor(A, surveys, force=False) == B
    assert choose_survivor(D, surveys, force=False) == C


def test_without_a_copy_of_the_epoch_that_is_lived_in_only_force_chooses() -> None:
    surveys = {B: replace(says(B, "ab", 5, 5, epoch=3), store_epoch=Epoch(2, C))}
    with pytest.raises(
        NotAllowed,
        match=r"live in epoch 3 of a, but no copy here has reached it.*Bring that one back",
    ):
        choose_survivor(A, surveys, force=False)
    assert choose_survivor(A, surveys, force=True) == B


def test_a_copy_that_cannot_be_read_may_be_the_newest() -> None:
    unread = replace(says(C, "abc", 0, 0), store_epoch=NO_EPOCH, unread=True)
    surveys = {B: says(B, "abc", 5, 5), C: unread}
    with pytest.raises(NotAllowed, match="copy of members c cannot be read"):
        choose_survivor(A, surveys, force=False)
    assert choose_survivor(A, surveys, force=True) == B
    assert choose_survivor(A, {C: unread}, force=True) == C


@pytest.mark.parametrize("force", [False, True])
def test_who_has_no_copy_is_never_chosen(*, force: bool) -> None:
    broken = replace(says(C, "abc", 0, 0), store_epoch=NO_EPOCH)
    assert choose_survivor(A, {B: says(B, "abc", 5, 5), C: broken}, force=force) == B
    with pytest.raises(NotAllowed, match="whole copy"):
        choose_survivor(A, {C: broken}, force=force)


def away(simulation: Simulation, names: Collection[MemberId]) -> None:
    """Cut some members off from all others, not from each other."""
    others = [name for name in simulation.nodes if name not in names]
    simulation.cut = {frozenset(pair) for pair in product(names, others)}


def forced(former: Collection[MemberId], writes: int, before: int, after: int) -> Simulation:
    """Return a cluster of four of which b deleted a by force, without those that still followed a.

    They come back and live in the new epoch, with copies of what a wrote last; then whoever took
    its place is lost.
    """
    simulation = Simulation(4, Random(0))
    settle(simulation)
    away(simulation, {A, *former})
    for number in range(writes):
        # Only at first is anybody dropped; a list of nobody new is not recorded again.
        simulation.write(A, drop=not number)
    simulation.crash(A)
    delete(simulation, B, A, force=True)
    drain(simulation)
    leader = primary(simulation)
    for _ in range(before):
        tick(simulation)
    for number in range(after):
        simulation.write(leader, drop=not number)
    simulation.cut.clear()
    for name in former:
        simulation.gossip(name, leader)
        drain(simulation)
    simulation.crash(leader)
    return simulation


@pytest.mark.parametrize("former", [(C,), (D,), (C, D)], ids="".join)
def test_what_was_written_after_a_forced_deletion_outlives_the_next_one(
    former: tuple[MemberId, ...],
) -> None:
    """Unless only the lost primary had it, which the administrator is told of."""
    promoted = 0
    for writes, before, after in product((0, 3, 20), range(3), range(4)):
        for here in (B, C, D):
            simulation = forced(former, writes, before, after)
            lost = primary(simulation)
            if here == lost:
                continue
            delete(simulation, here, lost)
            drain(simulation)
            for name in simulation.nodes:
                simulation.write(name, drop=True)
            simulation.check()
            leaders = [name for name, node in simulation.nodes.items() if node.leads]
            assert not {*former}.intersection(leaders)
            promoted += len(leaders)
    assert bool(promoted) is (former != (C, D))
