"""Who is promoted when a primary is deleted, case by case."""

from __future__ import annotations

import pytest

from conclave.cluster.epochs import Epoch
from conclave.cluster.survivors import Survey, choose_survivor, require_deletable
from conclave.errors import Conflict, NotAllowed
from conclave.ids import MemberId

A, B, C = MemberId("a"), MemberId("b"), MemberId("c")


def says(
    name: MemberId, visible: str, version: int, lsn: int, *, epoch: int = 1, sees: bool = False
) -> Survey:
    """Return what a member says."""
    ids = tuple(MemberId(letter) for letter in visible)
    return Survey(name, Epoch(epoch, A), Epoch(epoch, A), ids, version, 1, lsn, sees, 0)


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
    assert choose_survivor(by_member, force=False) == chosen


def test_without_a_holder_only_force_chooses() -> None:
    surveys = {B: says(B, "a", 2, 5)}
    with pytest.raises(NotAllowed):
        choose_survivor(surveys, force=False)
    assert choose_survivor(surveys, force=True) == B


def test_who_is_seen_is_not_deleted_even_by_force() -> None:
    with pytest.raises(Conflict):
        require_deletable(A, {B: says(B, "ab", 1, 5, sees=True)}, [], force=True)
    with pytest.raises(NotAllowed):
        require_deletable(A, {B: says(B, "ab", 1, 5)}, [C], force=False)
    require_deletable(A, {B: says(B, "ab", 1, 5)}, [C], force=True)
