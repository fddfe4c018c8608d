"""What goes wrong in a demonstration, in words that say what to do."""

from __future__ import annotations

from typing import Final

from conclave.errors import BadInput, Conflict, Fault, InternalFault, Unavailable

STEP: Final = Fault("DEMO_STEP_FAILED", 500, "A step of the demonstration failed")
DIRECTORY: Final = Fault("DEMO_DIRECTORY", 409, "The directory cannot be used")


def step_failed(message: str) -> InternalFault:
    """Return the error of a step that did not do what it should."""
    return InternalFault(STEP, message)


def too_slow(message: str) -> Unavailable:
    """Return the error of something that did not happen in time."""
    return Unavailable(STEP, message)


def directory_taken(message: str) -> Conflict:
    """Return the error of a directory that holds something already."""
    return Conflict(DIRECTORY, message)


def directory_missing(message: str) -> BadInput:
    """Return the error of a directory that holds no installation."""
    return BadInput(DIRECTORY, message)


def not_possible(message: str) -> Conflict:
    """Return the error of what this machine or this installation does not allow now."""
    return Conflict(STEP, message)


def no_such_member(message: str) -> BadInput:
    """Return the error of a member that the installation does not have."""
    return BadInput(STEP, message)
