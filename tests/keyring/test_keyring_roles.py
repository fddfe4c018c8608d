"""Lockout as a pure function of state and event (rules C8 and C22)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conclave.keyring.roles import (
    FIRST_DELAY_MS,
    LONGEST_DELAY_MS,
    Decision,
    LockState,
    Outcome,
    Pace,
    admit,
    conclude,
    is_initialized,
    is_locked,
    never_locks,
    next_pace,
)
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.rows import KeyringState

LIMITS = Limits()
lengths = st.integers(min_value=0, max_value=40)


def admitted(state: LockState, characters: int = 8, pace: Pace | None = None) -> Decision:
    return admit(state, pace or Pace(), characters, 0, LIMITS)[1]


@pytest.mark.parametrize(
    ("characters", "class_"), [(8, False), (16, False), (17, True), (255, True)]
)
def test_a_password_never_locks_from_17_characters_on(characters: int, class_: bool) -> None:
    assert never_locks(characters, LIMITS) is class_


@pytest.mark.parametrize(
    ("state", "characters", "decision"),
    [
        (LockState(False, 0), 7, Decision.CHECK),
        (LockState(False, 0), 6, Decision.TOO_SHORT),
        (LockState(False, 0), 0, Decision.TOO_SHORT),
        (LockState(True, 0), 6, Decision.TOO_SHORT),
        (LockState(False, 9), 8, Decision.CHECK),
        (LockState(False, 9, in_flight=1), 8, Decision.BUSY),
        (LockState(False, 10), 8, Decision.LOCKED),
        (LockState(False, 10), 3, Decision.LOCKED),
        (LockState(True, 0, in_flight=50), 8, Decision.CHECK),
    ],
)
def test_what_becomes_of_an_attempt(state: LockState, characters: int, decision: Decision) -> None:
    assert admitted(state, characters) is decision


def test_ten_failures_one_after_the_other_lock() -> None:
    state = LockState(False, 0)
    for expected in range(1, 11):
        assert not is_locked(state, LIMITS)
        state, decision = admit(state, Pace(), 8, 0, LIMITS)
        assert decision is Decision.CHECK
        state, written = conclude(state, Outcome.WRONG, LIMITS)
        assert written
        assert state == LockState(False, expected)
    assert is_locked(state, LIMITS)


def test_a_success_writes_only_when_there_is_something_to_reset() -> None:
    assert conclude(LockState(False, 0, 1), Outcome.GOOD, LIMITS) == (LockState(False, 0), False)
    assert conclude(LockState(False, 4, 1), Outcome.GOOD, LIMITS) == (LockState(False, 0), True)


def test_what_was_never_checked_counts_for_nobody() -> None:
    state = LockState(False, 4, 1)
    assert conclude(state, Outcome.ABANDONED, LIMITS) == (LockState(False, 4), False)
    pace = Pace(2, 500)
    assert next_pace(pace, Outcome.ABANDONED, 9000) == pace


@given(st.integers(min_value=1, max_value=200))
def test_delays_double_up_to_their_bound_and_end_with_a_success(failures: int) -> None:
    pace, last = Pace(), 0
    for number in range(failures):
        pace = next_pace(pace, Outcome.WRONG, 1000)
        delay = pace.not_before_ms - 1000
        assert delay == min(FIRST_DELAY_MS * 2**number, LONGEST_DELAY_MS)
        assert delay >= last
        last = delay
    assert admitted(LockState(True, 0), pace=pace) is Decision.DELAYED
    assert admit(LockState(True, 0), pace, 20, pace.not_before_ms, LIMITS)[1] is Decision.CHECK
    assert next_pace(pace, Outcome.GOOD, 1000) == Pace()


def test_delays_do_not_touch_passwords_that_lock() -> None:
    assert admitted(LockState(False, 0), pace=Pace(3, 10_000)) is Decision.CHECK


@pytest.mark.parametrize("state", list(KeyringState))
def test_only_the_krso_logs_in_before_the_krco_is_initialised(state: KeyringState) -> None:
    assert is_initialized(Role.KRSO, state)
    assert is_initialized(Role.KRCO, state) is (state is KeyringState.READY)


@dataclass
class Tally:
    """What an outside observer counts."""

    checked_since_reset: int = 0
    state: LockState = field(default_factory=lambda: LockState(False, 0))


class GuessingMachine(RuleBasedStateMachine):
    """Attempts that begin and end in any order, as parallel clients make them."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()

    @rule(characters=lengths)
    def begin(self, characters: int) -> None:
        before = self.tally.state
        after, decision = admit(before, Pace(), characters, 0, LIMITS)
        if decision is Decision.CHECK:
            assert characters > LIMITS.uncounted_up_to
            assert after.in_flight == before.in_flight + 1
        else:
            assert after == before
        self.tally.state = after

    @precondition(lambda self: self.tally.state.in_flight > 0)
    @rule(outcome=st.sampled_from(Outcome))
    def end(self, outcome: Outcome) -> None:
        self.tally.state, _ = conclude(self.tally.state, outcome, LIMITS)
        if outcome is Outcome.WRONG:
            self.tally.checked_since_reset += 1
        if outcome is Outcome.GOOD:
            # Attempts under way were admitted before the reset, within its bound.
            self.tally.checked_since_reset = 0

    @rule()
    def unlock(self) -> None:
        self.tally.state = LockState(False, 0, self.tally.state.in_flight)
        self.tally.checked_since_reset = 0

    @invariant()
    def no_more_than_ten_wrong_passwords_are_checked(self) -> None:
        assert self.tally.checked_since_reset <= LIMITS.lock_after

    @invariant()
    def what_is_in_flight_counts_before_it_is_checked(self) -> None:
        assert self.tally.state.in_flight <= LIMITS.lock_after

    @invariant()
    def failures_stay_within_their_bounds(self) -> None:
        assert 0 <= self.tally.state.failures <= LIMITS.lock_after


TestGuessing = GuessingMachine.TestCase
