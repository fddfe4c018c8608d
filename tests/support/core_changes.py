"""Every change of a cluster, as an administrator or the shell begins it, on the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import NOBODY, MemberState, Peer, Standing
from conclave.errors import NotAllowed, Unavailable
from conclave.ids import ClusterId, MemberId
from tests.support import core_model as model
from tests.support.core_model import Node, Steps, Task
from tests.support.core_simulation import Simulation
from tests.support.core_tending import heal, members, settle, tick

A, B, C, D, X = (MemberId(name) for name in "abcdx")
SEED = 0


@dataclass(frozen=True)
class Change:
    """A change: what was before it, how it begins, and what is to come of it."""

    name: str
    sizes: tuple[int, ...]
    start: Callable[[Simulation], Task | None]
    reached: Callable[[Simulation], bool]
    before: Callable[[Simulation], None] = lambda _simulation: None
    lost: frozenset[MemberId] = frozenset()
    """Who was lost before it began."""
    forced: bool = False
    leaver: MemberId = NOBODY
    """Who asked to leave, and therefore is not told to delete others."""

    def prepared(self, size: int) -> Simulation:
        """Return a cluster at the moment before the change."""
        simulation = Simulation(size, Random(SEED))
        settle(simulation)
        simulation.write(A, drop=False)
        self.before(simulation)
        return simulation


def primary(simulation: Simulation) -> MemberId:
    """Return who is primary of the newest epoch that somebody lives in."""
    newest = max((node.state for node in members(simulation)), key=lambda state: state.epoch)
    return newest.configuration.primary


def is_member(simulation: Simulation, name: MemberId) -> bool:
    """Tell whether the primary lists a member."""
    leader = simulation.nodes[primary(simulation)]
    return leader.state.configuration.peer(name) is not None


# ---------------------------------------------------------------- what administrators do


def promote(simulation: Simulation, target: MemberId) -> Task | None:
    """Promote a member."""
    here = primary(simulation)
    return simulation.begin(here, lambda state: seq.promote(state, target), changes=True)


def delete(
    simulation: Simulation, here: MemberId, target: MemberId, *, force: bool = False
) -> Task | None:
    """Delete a member, by the way that `cluster_operations.delete_member` goes."""
    state = simulation.nodes[here].state
    now = state.configuration.primary
    if now == target:
        return simulation.begin(
            here, lambda s: seq.delete_primary(s, force=force), changes=True, forced=force
        )
    if not state.is_primary:
        active = simulation.linked(here, now) and simulation.nodes[now].leads
        here = now if active else here
    state = simulation.nodes[here].state
    if not state.is_primary:
        return None
    begun = seq.delete_closed if state.handing_over else seq.delete_other
    return simulation.begin(
        here, lambda s: begun(s, target, force=force), changes=True, forced=force
    )


def leaving(simulation: Simulation, name: MemberId) -> Steps:
    """Leave, as `cluster_operations.leave`."""
    state = simulation.nodes[name].state
    if state.is_primary:
        others = [member for member in state.visible if member != name]
        if not others:
            raise NotAllowed(faults.MEMBER_NOT_READ_WRITE, "No other member is Read-Write.")
        state = yield from seq.promote(state, others[0])
    yield model.AskRemove(state.configuration.primary)
    yield model.Forget()


def leave(simulation: Simulation, name: MemberId) -> Task | None:
    """Let a member leave."""
    return simulation.begin(name, lambda _state: leaving(simulation, name), changes=True)


def joining(simulation: Simulation, through: MemberId) -> Steps:
    """Join, as `joining.commit` and `runtime_joins`."""
    node = simulation.nodes[X]
    offered = node.state.configuration.primary
    try:
        yield model.AskAdd(through, Peer(X, X, 1, b""))
    except Unavailable:
        if not simulation.linked(X, offered):
            yield model.Forget()
            raise
    node.completes_join = True
    yield model.Learn(offered)
    yield model.CopyAnew()
    yield model.Complete()


def join(simulation: Simulation, through: MemberId) -> Task | None:
    """Let a new appliance join through a member."""
    offer = simulation.nodes[through].state.configuration
    state = MemberState(
        ClusterId("c"),
        X,
        Standing.JOINING,
        replace(offer, peers=(*offer.peers, Peer(X, X, 1, b""))),
        offer.epoch,
    )
    nothing = replace(simulation.nodes[through].stored, visible=(), rows=frozenset())
    simulation.nodes[X] = Node(state, nothing, follows=False, role_taken=False)
    simulation.nodes[X].completes_join = False
    return simulation.begin(X, lambda _state: joining(simulation, through), changes=True)


# ---------------------------------------------------------------- what was before


def lose(*names: MemberId) -> Callable[[Simulation], None]:
    """Return what loses members, which are not visible then."""

    def before(simulation: Simulation) -> None:
        for name in names:
            simulation.crash(name)
        for _ in range(2):
            tick(simulation)
        for name in simulation.nodes:
            simulation.write(name, drop=True)

    return before


def run_some(simulation: Simulation, steps: int) -> None:
    """Let the tasks go on for some steps, whoever is asked first."""
    for _ in range(steps):
        ready = [task for task in simulation.tasks if not task.waiting]
        simulation.step(ready[-1])


def promised_to_nobody(simulation: Simulation) -> None:
    """Let a deletion of the primary end after one member has promised itself to it."""
    simulation.cut = {frozenset((A, other)) for other in simulation.nodes if other != A}
    delete(simulation, B, A)
    while simulation.nodes[B].state.accepted.promoter != B:
        run_some(simulation, 1)
    simulation.crash(B)
    heal(simulation)
    simulation.tasks.clear()


def handed_over_in_vain(simulation: Simulation) -> None:
    """Let the primary hand over to one that promises itself elsewhere before it hears of it."""
    promote(simulation, B)
    while not simulation.nodes[A].state.handing_over:
        run_some(simulation, 1)
    simulation.crash(A)
    delete(simulation, C, A)
    while simulation.nodes[B].state.accepted.promoter != C:
        run_some(simulation, 1)
    simulation.crash(C)
    heal(simulation)
    simulation.tasks.clear()


def handed_over_to_the_lost(simulation: Simulation) -> None:
    """Let the primary hand over to one that is lost before it hears of it."""
    promote(simulation, B)
    while not simulation.nodes[A].state.handing_over:
        run_some(simulation, 1)
    simulation.crash(B)
    for _ in range(2):
        tick(simulation)


def deleted_and_back(simulation: Simulation) -> None:
    """Delete a follower that was lost, and let it come back unaware."""
    lose(B)(simulation)
    delete(simulation, A, B)
    settle(simulation)
    simulation.restart(B)


def hear_of_the_end(simulation: Simulation) -> Task | None:
    """Let the one that was deleted hear of it."""
    told = simulation.nodes[A].state.configuration

    def ends(state: MemberState) -> Steps:
        return seq.end_membership(state, Standing.DELETED, told.epoch)

    return simulation.begin(B, ends)


def hand_over_again(simulation: Simulation) -> Task | None:
    """Begin what a primary that has handed over does when it starts."""
    node = simulation.nodes[A]
    position = None if node.crashed_open else len(node.log)
    if not node.state.handing_over:
        return None
    return simulation.begin(A, lambda s: seq.finish_promotion(s, position), changes=True)


def dropped(simulation: Simulation) -> None:
    """Cut the last member off until it is not visible, and let it come back."""
    last = list(simulation.nodes)[-1]
    simulation.cut = {frozenset((A, last))}
    simulation.relist(A)
    simulation.write(A, drop=False)
    simulation.cut.clear()


def begin_listing(simulation: Simulation) -> Task | None:
    """Begin to record who follows."""
    if not simulation.writable(primary(simulation)):
        return None
    here = primary(simulation)
    return simulation.begin(here, lambda _state: simulation.listing(here))


def cut_last(simulation: Simulation) -> None:
    """Cut the last member off."""
    simulation.cut = {frozenset((A, list(simulation.nodes)[-1]))}


def all_are_there(simulation: Simulation) -> bool:
    """Tell that nothing was to be reached but the rest that is required anyway."""
    return bool(simulation.nodes)


CHANGES = (
    Change("join", (1, 2, 3), lambda s: join(s, primary(s)), lambda s: is_member(s, X)),
    Change("join through a follower", (2, 3), lambda s: join(s, B), lambda s: is_member(s, X)),
    Change(
        "leave of a follower",
        (2, 3, 4),
        lambda s: leave(s, B),
        lambda s: not is_member(s, B),
        leaver=B,
    ),
    Change(
        "leave of the primary",
        (2, 3, 4),
        lambda s: leave(s, A),
        lambda s: not is_member(s, A),
        leaver=A,
    ),
    Change("promotion", (2, 3, 4), lambda s: promote(s, B), lambda s: primary(s) == B),
    Change(
        "deletion of a follower",
        (2, 3, 4),
        lambda s: delete(s, primary(s), B),
        lambda s: not is_member(s, B),
        lose(B),
        frozenset({B}),
    ),
    Change(
        "deletion through a follower",
        (3, 4),
        lambda s: delete(s, C, B),
        lambda s: not is_member(s, B),
        lose(B),
        frozenset({B}),
    ),
    Change(
        "deletion of the lost primary",
        (2, 3, 4),
        lambda s: delete(s, B, A),
        lambda s: not is_member(s, A),
        lose(A),
        frozenset({A}),
    ),
    Change(
        "forced deletion of the lost primary",
        (3, 4),
        lambda s: delete(s, B, A, force=True),
        lambda s: not is_member(s, A),
        lose(A, C),
        frozenset({A, C}),
        forced=True,
    ),
    Change("drop from the list", (2, 3, 4), begin_listing, all_are_there, cut_last),
    Change("return to the list", (2, 3, 4), begin_listing, all_are_there, dropped),
    Change(
        "renewal",
        (2, 3, 4),
        lambda s: s.begin(A, seq.renew, changes=True) if primary(s) == A else None,
        all_are_there,
        promised_to_nobody,
    ),
    Change(
        "deletion of one that was handed over to",
        (2, 3, 4),
        lambda s: delete(s, A, B),
        lambda s: not is_member(s, B),
        handed_over_to_the_lost,
        frozenset({B}),
    ),
    Change(
        "promotion of one that gave the primary up",
        (2, 3, 4),
        lambda s: promote(s, B) if primary(s) == A else None,
        lambda s: primary(s) == B,
        promised_to_nobody,
    ),
    Change(
        "return of a deleted member",
        (2, 3),
        hear_of_the_end,
        lambda s: not is_member(s, B),
        deleted_and_back,
        frozenset({B}),
    ),
    Change(
        "hand-over that is taken back",
        (3, 4),
        hand_over_again,
        all_are_there,
        handed_over_in_vain,
    ),
)
