"""What a member promises to somebody who was left behind, or whom it has given up."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from conclave.cluster import sequences as seq
from conclave.cluster.configuration import MemberState, adopt
from conclave.cluster.epochs import Epoch
from conclave.ids import MemberId
from tests.support.core_simulation import Simulation

A, B = MemberId("a"), MemberId("b")


def follower() -> MemberState:
    """Return the state of a member that follows a."""
    return Simulation(3, Random(0)).nodes[B].state


def given(state: MemberState, question: seq.AskPrepare) -> bool:
    """Tell whether a member saves a promise."""
    return any(isinstance(action, seq.Save) for action in seq.prepare(state, question))


def test_nobody_promises_to_one_that_lives_in_an_earlier_epoch() -> None:
    state = follower()
    newer = adopt(state, replace(state.configuration, epoch=Epoch(2, B), primary=B))
    assert not given(newer, seq.AskPrepare(Epoch(9, B), Epoch(1, A)))
    assert given(newer, seq.AskPrepare(Epoch(9, B), Epoch(2, B)))


def test_a_primary_that_was_given_up_comes_back_by_a_renewal_only() -> None:
    state = replace(follower(), accepted=Epoch(2, B), gave_up=True)
    later = replace(state.configuration, epoch=Epoch(3, A))
    assert adopt(state, later) == state
    assert not given(state, seq.AskPrepare(Epoch(3, B), Epoch(1, A)))
    assert given(state, seq.AskPrepare(Epoch(3, A), Epoch(1, A), renewing=True))
    assert adopt(replace(state, accepted=Epoch(3, A)), later).epoch == Epoch(3, A)
