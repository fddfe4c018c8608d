"""The page of states: current, linked, and with a row for every call."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.cluster.configuration import Configuration, MemberState, Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.member_states import (
    COURSES,
    MEANINGS,
    METHOD_ROWS,
    OPERATION_KINDS,
    Course,
    Kind,
    State,
    course_of,
    state_of,
)
from conclave.ids import ClusterId, MemberId
from conclave.service.methods import METHODS
from conclave.service.wire import Operation
from conclave.states_page import markdown

ROOT = Path(__file__).parents[2]
OWN, OTHER = MemberId("own"), MemberId("other")


def test_the_page_of_states_is_current_and_linked() -> None:
    page = (ROOT / "docs/states.md").read_text()
    assert page == markdown(), "run: python -m conclave.states_page > docs/states.md"
    assert "(docs/states.md)" in (ROOT / "README.md").read_text()


def test_every_call_has_one_row_and_every_state_a_course() -> None:
    methods = [row.method for row in METHOD_ROWS]
    assert sorted(methods) == sorted(set(METHODS) - {"hash_password"})
    assert set(OPERATION_KINDS) == set(Operation)
    assert set(MEANINGS) == set(State)
    for kind in Kind:
        assert set(COURSES[kind]) == set(State)


def test_c16_nothing_is_changed_by_a_member_without_a_lease() -> None:
    for row in METHOD_ROWS:
        course = course_of(row.method, State.READ_ONLY)
        if row.kind is Kind.CHANGE:
            assert course is Course.REFUSE
        assert course is not Course.FORWARD


@pytest.mark.parametrize(
    ("standing", "primary", "lease_valid", "closed", "expected"),
    [
        (Standing.MEMBER, OWN, True, False, State.PRIMARY),
        (Standing.MEMBER, OWN, False, False, State.PRIMARY),
        (Standing.MEMBER, OWN, False, True, State.CLOSED),
        (Standing.MEMBER, OTHER, True, False, State.READ_WRITE),
        (Standing.MEMBER, OTHER, False, False, State.READ_ONLY),
        (Standing.JOINING, OTHER, False, False, State.JOINING),
        (Standing.DELETED, OWN, True, False, State.REMOVED),
        (Standing.LEFT, OTHER, False, False, State.REMOVED),
    ],
)
def test_a_members_state_is_that_of_its_standing_role_and_lease(
    standing: Standing, primary: MemberId, lease_valid: bool, closed: bool, expected: State
) -> None:
    epoch = Epoch(1, OWN)
    state = MemberState(
        ClusterId("cluster"), OWN, standing, Configuration(epoch, primary, ()), epoch
    )
    assert state_of(state, lease_valid=lease_valid, closed=closed) is expected


def test_without_a_member_the_appliance_is_alone() -> None:
    assert state_of(None, lease_valid=False, closed=False) is State.ALONE
