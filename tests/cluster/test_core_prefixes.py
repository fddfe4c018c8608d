"""Whatever interrupts a change, wherever: nothing is lost, and the cluster comes to rest."""

from __future__ import annotations

import pytest

from tests.support.core_changes import CHANGES, Change
from tests.support.core_prefixes import (
    AWAY,
    CUT,
    KILL,
    REFUSE,
    Tally,
    asks,
    every_prefix,
    steps_of_sequences,
    twice_in_recovery,
    twice_under_way,
)

SIZES = (1, 2, 3)
NAMES = [change.name for change in CHANGES]


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
def test_every_interrupted_prefix_is_mended(change: Change) -> None:
    tally = Tally()
    for size in SIZES:
        if size in change.sizes:
            every_prefix(change, size, tally)
    assert tally.runs > 0


@pytest.mark.parametrize("change", [c for c in CHANGES if 2 in c.sizes])
def test_a_second_mishap_while_the_first_is_mended_does_no_harm(change: Change) -> None:
    tally = Tally()
    twice_in_recovery(change, 2, (KILL, CUT), tally)
    assert tally.runs > 0


def test_every_step_of_every_sequence_was_interrupted() -> None:
    tally = Tally()
    for change in CHANGES:
        # Without the lost one there are still two that ask each other.
        size = 3 if change.lost or 2 not in change.sizes else 2
        if size in change.sizes:
            every_prefix(change, size, tally, mends=False)
    promotion = next(change for change in CHANGES if change.name == "promotion")
    twice_under_way(promotion, 2, (AWAY, REFUSE), tally)
    joins = next(change for change in CHANGES if change.name == "join")
    twice_under_way(joins, 2, (REFUSE,), tally)
    places = steps_of_sequences()
    assert len(places) > 30
    for kind in (KILL, CUT, AWAY):
        assert missed(places, tally, kind) == {}, kind
    # What cannot fail.
    never = {"(yield ResumeWrites())", "(yield DropRow(peer.member_id))"}
    assert set(missed(places, tally, REFUSE).values()) <= never
    assert missed(asks(places), tally, "late") == {}


def missed(places: dict[int, str], tally: Tally, kind: str) -> dict[int, str]:
    """Return which steps of the sequences were never interrupted in a way."""
    return {line: text for line, text in places.items() if line not in tally.places[kind]}
