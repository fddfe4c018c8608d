"""A campaign's faults follow from its seed, and no kind is left out."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from campaigns.cluster_faults import PASSING, kinds
from campaigns.cluster_plan import Strike, strikes

KINDS = kinds(isolated=True)
MEMBERS = 3


def plan(seed: int, length: int) -> list[Strike]:
    return list(itertools.islice(strikes(seed, KINDS, passing=PASSING, members=MEMBERS), length))


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_a_seed_gives_the_same_faults_again(seed: int) -> None:
    first, again = plan(seed, 200), plan(seed, 200)
    assert first == again
    decided = [[blow.chance().random() for blow in strike.blows] for strike in first]
    assert decided == [[blow.chance().random() for blow in strike.blows] for strike in again]
    assert first != plan(seed + 1, 200)


def test_every_kind_strikes_in_every_round() -> None:
    rounds = 30
    counted = Counter(blow.kind for strike in plan(5, rounds * len(KINDS)) for blow in strike.blows)
    assert set(counted) == set(KINDS)
    assert min(counted.values()) >= rounds


def test_two_at_once_strike_two_members_with_what_passes() -> None:
    pairs = [strike.blows for strike in plan(3, 300) if len(strike.blows) > 1]
    assert pairs
    for first, second in pairs:
        assert {first.kind, second.kind} <= set(PASSING)
        assert first.member != second.member
        assert first.chance().random() != second.chance().random()
