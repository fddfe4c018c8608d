"""Who may try a password, and what a failure does (rules C8 and C22).

Invariant: of a credential that locks, no more than `lock_after` wrong passwords are ever checked
between two good ones or an unlock, however many attempts run at once: what is admitted counts
before it is checked.  An attempt too short to count is never checked at all.

Everything here is a function of state and event; who calls it keeps the state, durable or not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.rows import KeyringState

FIRST_DELAY_MS: Final = 200
LONGEST_DELAY_MS: Final = 20_000
"""Below the module's deadline of 30 s, so that a delayed good password still gets through."""


class Decision(enum.Enum):
    """What becomes of an attempt."""

    CHECK = enum.auto()
    """Admitted: hash the password and report the outcome."""
    LOCKED = enum.auto()
    TOO_SHORT = enum.auto()
    """Answered as wrong, never counted."""
    BUSY = enum.auto()
    """Too many attempts in flight for the failures that are left; not counted."""
    DELAYED = enum.auto()
    """The client must wait after its failures on a long password; not counted."""


class Outcome(enum.Enum):
    """How an admitted attempt ended."""

    GOOD = enum.auto()
    WRONG = enum.auto()
    ABANDONED = enum.auto()
    """Never checked: the login process was full, slow or gone."""


@dataclass(frozen=True, slots=True)
class LockState:
    """One credential: its length class, its durable failures, and the attempts under way."""

    never_locks: bool
    failures: int
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How one client fares with one keyring whose password never locks."""

    failures: int = 0
    not_before_ms: int = 0


def never_locks(characters: int, limits: Limits) -> bool:
    """Tell whether a password of that many characters is long enough never to lock."""
    return characters >= limits.never_locks_from


def is_locked(state: LockState, limits: Limits) -> bool:
    """Tell whether a credential is locked: logins end, live tickets go on."""
    return not state.never_locks and state.failures >= limits.lock_after


def is_initialized(role: Role, state: KeyringState) -> bool:
    """Tell whether a role has a password to log in with."""
    return role is Role.KRSO or state is KeyringState.READY


def admit(
    state: LockState, pace: Pace, characters: int, now_ms: int, limits: Limits
) -> tuple[LockState, Decision]:
    """Decide on an attempt before anything is hashed."""
    if is_locked(state, limits):
        return state, Decision.LOCKED
    if characters <= limits.uncounted_up_to:
        return state, Decision.TOO_SHORT
    if state.never_locks and now_ms < pace.not_before_ms:
        return state, Decision.DELAYED
    if not state.never_locks and state.failures + state.in_flight >= limits.lock_after:
        return state, Decision.BUSY
    return replace(state, in_flight=state.in_flight + 1), Decision.CHECK


def conclude(state: LockState, outcome: Outcome, limits: Limits) -> tuple[LockState, bool]:
    """Take note of an outcome; the second value tells whether the failures must be written.

    A failure must be durable before it is answered; a success is written only if it resets.
    """
    failures = next_failures(state, outcome, limits)
    after = replace(state, failures=failures, in_flight=max(0, state.in_flight - 1))
    return after, failures != state.failures


def next_failures(state: LockState, outcome: Outcome, limits: Limits) -> int:
    """Return a credential's consecutive failures after an outcome."""
    if outcome is Outcome.GOOD:
        return 0
    if outcome is Outcome.WRONG and not state.never_locks:
        return min(state.failures + 1, limits.lock_after)
    return state.failures


def next_pace(pace: Pace, outcome: Outcome, now_ms: int) -> Pace:
    """Return how long a client must wait after an outcome: twice as long after each failure."""
    if outcome is Outcome.GOOD:
        return Pace()
    if outcome is Outcome.ABANDONED:
        return pace
    delay = min(FIRST_DELAY_MS << min(pace.failures, 16), LONGEST_DELAY_MS)
    return Pace(failures=pace.failures + 1, not_before_ms=now_ms + delay)
