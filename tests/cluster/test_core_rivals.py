"""Two administrators who change the primary at once: one wins, the other is told why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.errors import Conflict, NotAllowed
from tests.support.core_changes import CHANGES, A, B, C, Change, primary
from tests.support.core_model import Task
from tests.support.core_simulation import Simulation
from tests.support.core_tending import drain, heal, settle

LONGEST = 24
"""Steps of one of them, and of what it asks for, without a break."""


def promotions(simulation: Simulation) -> tuple[Task, Task]:
    """Begin two promotions on the primary, as if the coordinator did not make them take turns."""
    first = simulation.begin(A, lambda state: seq.promote(state, B))
    second = simulation.begin(A, lambda state: seq.promote(state, C))
    assert first is not None
    assert second is not None
    return first, second


def deletions(simulation: Simulation) -> tuple[Task, Task]:
    """Begin to delete the lost primary on two members."""
    first = simulation.begin(B, lambda s: seq.delete_primary(s, force=False), changes=True)
    second = simulation.begin(C, lambda s: seq.delete_primary(s, force=False), changes=True)
    assert first is not None
    assert second is not None
    return first, second


def prepared(name: str) -> Change:
    """Return the change of which two are begun."""
    return next(change for change in CHANGES if change.name == name)


def interleaved(
    change: Change, begin: Callable[[Simulation], tuple[Task, Task]]
) -> Iterator[tuple[Simulation, Task, Task]]:
    """Yield what comes of every order of steps in which they change places up to three times."""
    for lengths in product(range(LONGEST), repeat=2):
        for starts in (0, 1):
            simulation = change.prepared(3)
            rivals = begin(simulation)
            for number, length in enumerate(lengths):
                run(simulation, rivals[(starts + number) % 2], length)
            run(simulation, rivals[starts], LONGEST * 2)
            drain(simulation)
            simulation.check()
            yield simulation, *rivals


def run(simulation: Simulation, root: Task, steps: int) -> None:
    """Let one of them go on, and whatever it asks for."""
    for _ in range(steps):
        own = [task for task in simulation.ready() if root_of(task) is root]
        if not own:
            return
        simulation.step(own[-1])
        simulation.check()


def root_of(task: Task) -> Task:
    """Return for whom a task is done in the end."""
    while task.asker is not None:
        task = task.asker
    return task


def test_of_two_promotions_exactly_one_wins() -> None:
    won = set()
    for simulation, first, second in interleaved(prepared("promotion"), promotions):
        failures = [task.failure for task in (first, second) if task.failure is not None]
        assert [type(failure) for failure in failures] == [Conflict], failures
        assert failures[0].fault is faults.EPOCH_STALE
        settle(simulation)
        winner = B if first.failure is None else C
        assert primary(simulation) == winner
        won.add(winner)
    assert won == {B, C}


def test_who_comes_second_finds_the_primary_closed() -> None:
    simulation = prepared("promotion").prepared(3)
    first = simulation.begin(A, lambda state: seq.promote(state, B), changes=True)
    assert first is not None
    drain(simulation)
    second = simulation.begin(A, lambda state: seq.promote(state, C), changes=True)
    assert second is not None
    drain(simulation)
    assert first.failure is None
    with pytest.raises(Conflict, match="not the open primary of epoch 2 of b"):
        raise_failure(second)


def raise_failure(task: Task) -> None:
    """Raise what a sequence ended with."""
    assert task.failure is not None
    raise task.failure


def test_of_two_deletions_of_the_primary_one_wins_at_most() -> None:
    won = 0
    for simulation, first, second in interleaved(
        prepared("deletion of the lost primary"), deletions
    ):
        failures = [task.failure for task in (first, second) if task.failure is not None]
        assert failures, "both won"
        assert all(isinstance(failure, (Conflict, NotAllowed)) for failure in failures), failures
        won += len(failures) == 1
        if len(failures) == 2:
            heal(simulation)
        settle(simulation)
    assert won > 0
