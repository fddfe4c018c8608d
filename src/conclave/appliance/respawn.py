"""Decide when a dead child is started again: a function of how long it lived and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LIVED_SECONDS: Final = 2.0
"""A child that lived this long counts as having worked."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_AFTER_SIGNAL_SECONDS: Final = 0.2
"""Whoever kills a child kills it from outside: waiting longer would only prolong the outage."""


@dataclass(frozen=True, slots=True)
class RespawnState:
    """How many times in a row a child died soon after its start."""

    quick_deaths: int = 0


def after_death(
    state: RespawnState, lived_seconds: float, *, by_signal: bool
) -> tuple[RespawnState, float]:
    """Return the next state and the pause before the next start, in seconds.

    The first respawn is immediate, since a killed process must be back at once (rule S4); a child
    that dies again and again is slowed down so that it does not eat the machine.
    """
    if lived_seconds >= LIVED_SECONDS:
        return RespawnState(), 0.0
    deaths = state.quick_deaths + 1
    if deaths == 1:
        return RespawnState(deaths), 0.0
    pause = FIRST_PAUSE_SECONDS * (1 << min(deaths - 2, 16))
    longest = LONGEST_PAUSE_AFTER_SIGNAL_SECONDS if by_signal else LONGEST_PAUSE_SECONDS
    return RespawnState(deaths), min(pause, longest)
