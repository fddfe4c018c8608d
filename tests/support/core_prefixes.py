"""Every interrupted prefix of every change, and what becomes of the cluster afterwards."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from types import GeneratorType

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import NOBODY, Standing
from conclave.errors import Unavailable
from conclave.ids import MemberId
from tests.support.core_changes import CHANGES, Change, X, delete, primary
from tests.support.core_model import Task
from tests.support.core_simulation import Simulation
from tests.support.core_tending import drain, heal, members, settle, tick, unsettled

KILL, CUT, AWAY, REFUSE, LATE = "kill", "cut", "away", "refuse", "late"
UNDER_WAY = (KILL, CUT, AWAY)
RETURNS, LOST = "returns", "lost"
MEMBER = Standing.MEMBER
MOST_MOMENTS = 200
TICKS_APART = 2
DELETE_ROUNDS = 6


@dataclass(frozen=True)
class Mishap:
    """What goes wrong after so many steps of a change, and to whom."""

    moment: int
    kind: str
    whom: tuple[MemberId, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {','.join(self.whom)} after {self.moment} steps".replace("  ", " ")


@dataclass
class Tally:
    """What was visited: for each kind of mishap the places where a sequence was interrupted."""

    runs: int = 0
    places: dict[str, set[int]] = field(default_factory=dict)
    moments: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, tasks: list[Task]) -> None:
        """Note where each sequence under way stands."""
        for task in tasks:
            self.places.setdefault(kind, set()).update(suspended_at(task.steps))


def suspended_at(steps: object) -> Iterator[int]:
    """Yield the line of `sequences` at which a generator is suspended, if it is."""
    while isinstance(steps, GeneratorType):
        inner, frame = steps.gi_yieldfrom, steps.gi_frame
        if inner is None and frame is not None and frame.f_lasti > 0:
            if frame.f_code.co_filename == seq.__file__:
                yield frame.f_lineno
            return
        steps = inner


def steps_of_sequences() -> dict[int, str]:
    """Return every place where a sequence of the core yields an action: its line and its text."""
    tree = ast.parse(Path(inspect.getfile(seq)).read_text())
    return {
        node.lineno: ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Yield)
    }


def asks(places: dict[int, str]) -> dict[int, str]:
    """Return the steps that ask a member for something that changes it."""
    return {
        line: text
        for line, text in places.items()
        if text.startswith("(yield Ask(") and "AskSurvey" not in text
    }


# ---------------------------------------------------------------- interrupting


def moments(change: Change, size: int) -> int:
    """Return in how many steps a change ends when nothing goes wrong."""
    simulation = change.prepared(size)
    change.start(simulation)
    for number in range(MOST_MOMENTS):
        if not step(simulation):
            return number
    raise AssertionError(f"{change.name} does not end")


def step(simulation: Simulation) -> bool:
    """Let whoever was asked last go on; tell whether anybody could."""
    ready = simulation.ready()
    if not ready:
        return False
    simulation.step(ready[-1])
    simulation.check()
    return True


def mishaps(change: Change, size: int) -> Iterator[Mishap]:
    """Yield all that can go wrong once, at every moment."""
    simulation = change.prepared(size)
    change.start(simulation)
    names = list(simulation.nodes)
    for moment in range(moments(change, size) + 1):
        for name in names:
            yield Mishap(moment, KILL, (name,))
        for name in names:
            yield Mishap(moment, AWAY, (name,))
        for pair in combinations(names, 2):
            yield Mishap(moment, CUT, pair)
        yield Mishap(moment, REFUSE)
        yield Mishap(moment, LATE)


def strike(simulation: Simulation, mishap: Mishap, tally: Tally) -> None:
    """Let it happen, after a write that nobody may lose."""
    for name in simulation.nodes:
        simulation.write(name, drop=False)
    ready = simulation.ready()
    if mishap.kind in (KILL, CUT, AWAY):
        tally.note(mishap.kind, simulation.tasks)
    if mishap.kind == KILL:
        simulation.crash(mishap.whom[0])
    elif mishap.kind == CUT:
        simulation.cut.add(frozenset(mishap.whom))
    elif mishap.kind == AWAY:
        be_away(simulation, mishap.whom[0])
    elif mishap.kind == REFUSE and ready:
        simulation.refuses_next = True
        step(simulation)
        simulation.refuses_next = False
        tally.note(REFUSE, simulation.tasks)
    elif mishap.kind == LATE and ready and ready[-1].asker is not None:
        delay(ready[-1], tally)


def be_away(simulation: Simulation, name: MemberId) -> None:
    """Cut a member off for as long as it takes to be dropped, and to miss a write."""
    before = set(simulation.cut)
    simulation.cut |= {frozenset((name, other)) for other in simulation.nodes if other != name}
    for other in simulation.nodes:
        simulation.write(other, drop=True)
    simulation.cut = before


def delay(task: Task, tally: Tally) -> None:
    """Let the asker give up, and the asked go on only after it has ended."""
    asker = task.asker
    assert asker is not None
    tally.note(LATE, [asker])
    task.late, task.asker = True, None
    asker.waiting = False
    asker.error = Unavailable(faults.PRIMARY_UNREACHABLE, "No answer came in time.")


def run_to(simulation: Simulation, moment: int) -> None:
    """Let a change go on for so many steps."""
    for _ in range(moment):
        step(simulation)


def go_on(simulation: Simulation, *, ticks: int) -> None:
    """Let the others go on with what happened, write, and let late messages come."""
    drain(simulation)
    for _ in range(ticks):
        tick(simulation)
    for task in simulation.tasks:
        task.late = False
    drain(simulation)
    for name in simulation.nodes:
        simulation.write(name, drop=True)
    simulation.check()


# ---------------------------------------------------------------- afterwards


def interrupt(
    change: Change, size: int, mishap: Mishap, tally: Tally, *, ticks: int = TICKS_APART
) -> Simulation:
    """Return the cluster after an interrupted change, before anything is mended."""
    simulation = change.prepared(size)
    change.start(simulation)
    run_to(simulation, mishap.moment)
    strike(simulation, mishap, tally)
    go_on(simulation, ticks=ticks)
    tally.runs += 1
    tally.moments[change.name] += 1
    return simulation


def all_return(simulation: Simulation, change: Change) -> None:
    """Mend everything: the members come to rest, and the change can be done again."""
    heal(simulation)
    settle_with_phantom(simulation)
    if not change.reached(simulation) and not change.lost:
        change.start(simulation)
        drain(simulation)
        settle_with_phantom(simulation)
        assert change.reached(simulation), f"{change.name} was repeated in vain"
    finish(simulation)


def stays_lost(simulation: Simulation, change: Change, victim: MemberId) -> None:
    """Let a member be lost for good and deleted; it comes back later and is none any more."""
    lost = {victim, *change.lost}
    nodes = simulation.nodes
    left = [name for name in nodes if name not in lost and nodes[name].state.standing is MEMBER]
    if not left:
        return
    leaver = change.leaver if left_unaware(simulation, change, lost) else NOBODY
    if left == [leaver]:
        # Nobody is left to delete anybody: whoever asked to leave waits, or is reset.
        all_return(simulation, change)
        return
    heal(simulation, lost)
    for attempt in range(DELETE_ROUNDS):
        tick(simulation)
        for name in sorted(lost | phantoms(simulation)):
            # Only force goes on without whoever alone has what was acknowledged last.
            force = len(lost) > 1 or attempt >= DELETE_ROUNDS // 2
            delete_somewhere(simulation, name, force=force, but=leaver)
        if not unsettled(simulation):
            break
    settle(simulation)
    finish(simulation)
    heal(simulation)
    settle(simulation)
    for name in lost:
        standing = simulation.nodes[name].state.standing
        assert standing in (Standing.DELETED, Standing.LEFT), f"{name} is {standing}"
    finish(simulation)


def left_unaware(simulation: Simulation, change: Change, lost: Collection[MemberId]) -> bool:
    """Tell whether only the lost know that one left, which was not told any more."""
    told = (simulation.nodes[name].state.configuration for name in lost)
    return any(each.former_standing(change.leaver) is not None for each in told)


def delete_somewhere(
    simulation: Simulation, target: MemberId, *, force: bool, but: MemberId = NOBODY
) -> None:
    """Ask one member after the other to delete one that is lost."""
    for node in members(simulation):
        here = node.state.member_id
        knows = node.state.configuration.peer(target) is not None and here != but
        if knows and node.state.standing is MEMBER and node.up:
            delete(simulation, here, target, force=force)
            drain(simulation)
            tick(simulation)


def settle_with_phantom(simulation: Simulation) -> None:
    """Come to rest; a joiner that gave up, but was listed, is deleted by an administrator."""
    if phantoms(simulation):
        for _ in range(TICKS_APART):
            tick(simulation)
        delete_somewhere(simulation, X, force=False)
    settle(simulation)


def phantoms(simulation: Simulation) -> set[MemberId]:
    """Return the joiner that gave up; whoever lists it is not told of that."""
    joiner = simulation.nodes.get(X)
    return {X} if joiner is not None and joiner.state.standing is Standing.LEFT else set()


def finish(simulation: Simulation) -> None:
    """Write once more, to see that the primary has everything and takes writes."""
    before = len(simulation.acknowledged)
    simulation.write(primary(simulation), drop=False)
    assert len(simulation.acknowledged) == before + 1, "no write is acknowledged"
    simulation.check()


def mend(simulation: Simulation, change: Change, mishap: Mishap, way: str) -> None:
    """Mend a cluster in one of the two ways."""
    if way == LOST:
        stays_lost(simulation, change, mishap.whom[0])
    else:
        all_return(simulation, change)


def every_prefix(change: Change, size: int, tally: Tally, *, mends: bool = True) -> None:
    """Interrupt a change at every moment in every way, and mend it in every way."""
    for mishap in mishaps(change, size):
        if not mends:
            interrupt(change, size, mishap, tally)
            continue
        for way in (RETURNS, LOST) if mishap.kind == KILL else (RETURNS,):
            with told(f"{change.name} of {size}, {mishap}, {way}"):
                mend(interrupt(change, size, mishap, tally), change, mishap, way)


@contextmanager
def told(title: str) -> Iterator[None]:
    """Say in an error which history it is about."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{title}: {error}") from error


# ---------------------------------------------------------------- two mishaps


def twice_under_way(change: Change, size: int, kinds: Collection[str], tally: Tally) -> None:
    """Let each mishap happen at each moment after a first one of a change that goes on."""
    seconds = [each for each in mishaps(change, size) if each.kind in UNDER_WAY and each.moment]
    for first in mishaps(change, size):
        if first.kind not in kinds:
            continue
        for second in seconds:
            if second.moment > moments(change, size) - first.moment:
                break
            with told(f"{change.name} of {size}, {first}, then {second} more"):
                simulation = change.prepared(size)
                change.start(simulation)
                run_to(simulation, first.moment)
                strike(simulation, first, tally)
                run_to(simulation, second.moment)
                strike(simulation, second, tally)
                go_on(simulation, ticks=TICKS_APART)
                tally.runs += 1
                all_return(simulation, change)


def twice_in_recovery(
    change: Change, size: int, kinds: Collection[str], tally: Tally, *, every: int = 1
) -> None:
    """Kill each member at each step of what follows a first mishap, once all was mended."""
    for first in mishaps(change, size):
        if first.kind not in kinds:
            continue
        simulation = interrupt(change, size, first, tally)
        before = simulation.steps
        heal(simulation)
        tick(simulation)
        for number in range(1, simulation.steps - before + 1, every):
            for name in simulation.nodes:
                with told(f"{change.name} of {size}, {first}, kill {name} {number} steps after"):
                    again = interrupt(change, size, first, tally)
                    again.mishap_at = again.steps + number
                    again.mishap = partial(again.crash, name)
                    heal(again)
                    go_on(again, ticks=TICKS_APART)
                    all_return(again, change)


__all__ = ["CHANGES", "Tally", "every_prefix", "steps_of_sequences"]
