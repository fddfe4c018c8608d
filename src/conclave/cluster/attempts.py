"""Keep count of the password attempts under way (rules C8, C21 and C22).

Invariant: an attempt is admitted on failures that were read after every earlier outcome was
durable: whoever's outcome came in between must read again.  A failure that could not be made
durable is owed: it counts here, so that a full disk gives nobody free guesses, until it is written
or a good password or an unlock forgets it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.errors import CredentialRefused, Unavailable
from conclave.ids import ClientId, KeyringId
from conclave.keyring.keys import WrongPassword
from conclave.keyring.roles import Decision, LockState, Outcome, Pace, admit, next_pace
from conclave.service.wire import Role
from conclave.settings import Limits

MAX_REMEMBERED: Final = 8192
MAX_READS: Final = 8

AttemptName = tuple[ClientId, bytes]
CredentialName = tuple[KeyringId, Role]
Owed = Callable[[Any], None]
"""Writes one failure into where failures are counted; to run it twice counts once."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a password."""

    client_id: ClientId
    attempt_id: bytes
    credential: CredentialName
    characters: int

    @property
    def pace_name(self) -> tuple[ClientId, CredentialName]:
        """Return what a growing delay is kept by."""
        return self.client_id, self.credential

    @property
    def name(self) -> AttemptName:
        """Return what the attempt is counted once by."""
        return self.client_id, self.attempt_id


@dataclass(slots=True)
class _Flight:
    """The attempts on one credential; gone when nobody uses it and nothing is owed."""

    users: int = 0
    admitted: int = 0
    owed: dict[AttemptName, Owed] = field(default_factory=dict)
    """Failures that could not be made durable yet."""
    outcomes: int = 0


@dataclass(slots=True)
class AttemptGate:
    """Admit attempts and take note of their outcomes; used in one event loop."""

    limits: Limits
    now_ms: Callable[[], int] = boot_time_ms
    _flights: dict[CredentialName, _Flight] = field(default_factory=dict)
    _paces: OrderedDict[tuple[ClientId, CredentialName], Pace] = field(default_factory=OrderedDict)
    _paced: set[tuple[ClientId, CredentialName]] = field(default_factory=set)
    """Clients with failures whose next attempt is being checked: one at a time."""
    _running: set[AttemptName] = field(default_factory=set)
    _owing: set[AttemptName] = field(default_factory=set)
    """Attempts whose failure is owed: checked again, they would be counted once for two tries."""
    _failed: OrderedDict[AttemptName, None] = field(default_factory=OrderedDict)

    async def enter(
        self, attempt: Attempt, read: Callable[[], Awaitable[tuple[T, LockState]]]
    ) -> T:
        """Admit an attempt on what `read` returns, and return that; `leave` must follow.

        Raises CredentialRefused (locked, or wrong without a check) or Unavailable with BUSY;
        then `leave` must not follow.
        """
        if attempt.name in self._failed:
            raise WrongPassword
        if attempt.name in self._owing:
            message = "The outcome of this attempt could not be recorded yet; try again."
            raise Unavailable(faults.BUSY, message)
        if attempt.name in self._running:
            message = "The same attempt is being checked already; try again."
            raise Unavailable(faults.BUSY, message)
        self._running.add(attempt.name)
        flight = self._flights.setdefault(attempt.credential, _Flight())
        flight.users += 1
        try:
            value, state = await _read_in_step(flight, read)
            state = replace(state, in_flight=flight.admitted + len(flight.owed))
            pace = self._paces.get(attempt.pace_name, Pace())
            _, decision = admit(state, pace, attempt.characters, self.now_ms(), self.limits)
            is_paced = state.never_locks and pace.failures > 0
            if decision is Decision.CHECK and is_paced and attempt.pace_name in self._paced:
                decision = Decision.DELAYED
            if decision is not Decision.CHECK:
                raise _refusal(decision)
        except BaseException:
            self._let_go(attempt, flight)
            raise
        flight.admitted += 1
        if is_paced:
            # Else a delay would be paid once for as many guesses as fit into the queue.
            self._paced.add(attempt.pace_name)
        return value

    def leave(
        self, attempt: Attempt, outcome: Outcome, *, paced: bool, owed: Owed | None = None
    ) -> None:
        """Take note of an outcome; a failure that is still `owed` to the store counts here."""
        flight = self._flights[attempt.credential]
        flight.admitted -= 1
        flight.outcomes += 1
        if outcome is Outcome.GOOD:
            self._drop_owed(flight, list(flight.owed))
        if owed is not None:
            flight.owed[attempt.name] = owed
            self._owing.add(attempt.name)
        if outcome is Outcome.WRONG and owed is None:
            self._failed[attempt.name] = None
            if len(self._failed) > MAX_REMEMBERED:
                self._failed.popitem(last=False)
        if paced:
            self._paced.discard(attempt.pace_name)
            self._set_pace(attempt, outcome)
        self._let_go(attempt, flight)

    def owed(self, credential: CredentialName) -> dict[AttemptName, Owed]:
        """Return the failures of a credential that are not durable yet."""
        flight = self._flights.get(credential)
        return dict(flight.owed) if flight is not None else {}

    def settled(self, credential: CredentialName, written: Collection[AttemptName]) -> None:
        """Count failures here no more, since they are durable now."""
        flight = self._flights.get(credential)
        if flight is not None:
            self._drop_owed(flight, written)
            flight.outcomes += 1
            self._forget_unused(credential, flight)

    def release(self, keyring_id: KeyringId) -> None:
        """Forget the delays and the owed failures of a keyring that was unlocked."""
        for name in [name for name in self._paces if name[1][0] == keyring_id]:
            del self._paces[name]
        for role in Role:
            self.settled((keyring_id, role), self.owed((keyring_id, role)))

    def _drop_owed(self, flight: _Flight, names: Collection[AttemptName]) -> None:
        for name in names:
            if flight.owed.pop(name, None) is not None:
                self._owing.discard(name)

    def _let_go(self, attempt: Attempt, flight: _Flight) -> None:
        self._running.discard(attempt.name)
        flight.users -= 1
        self._forget_unused(attempt.credential, flight)

    def _forget_unused(self, credential: CredentialName, flight: _Flight) -> None:
        if not flight.users and not flight.owed:
            del self._flights[credential]

    def _set_pace(self, attempt: Attempt, outcome: Outcome) -> None:
        pace = next_pace(self._paces.pop(attempt.pace_name, Pace()), outcome, self.now_ms())
        if pace.failures:
            self._paces[attempt.pace_name] = pace
            if len(self._paces) > MAX_REMEMBERED:
                self._paces.popitem(last=False)


async def _read_in_step(
    flight: _Flight, read: Callable[[], Awaitable[tuple[T, LockState]]]
) -> tuple[T, LockState]:
    for _ in range(MAX_READS):
        outcomes = flight.outcomes
        found = await read()
        if flight.outcomes == outcomes:
            return found
    message = "Too many attempts on this keyring end at the same time; try again."
    raise Unavailable(faults.BUSY, message)


def _refusal(decision: Decision) -> Exception:
    if decision is Decision.LOCKED:
        message = "The keyring is locked after too many wrong passwords: it must be unlocked."
        return CredentialRefused(faults.PIN_LOCKED, message)
    if decision is Decision.TOO_SHORT:
        return WrongPassword()
    if decision is Decision.DELAYED:
        message = "After wrong passwords the next attempt must wait; try again."
        return Unavailable(faults.BUSY, message)
    message = "As many attempts as may still fail are being checked; try again."
    return Unavailable(faults.BUSY, message)
