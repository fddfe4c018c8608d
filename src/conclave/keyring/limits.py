"""What a keyring and its passwords may be at most and at least."""

from __future__ import annotations

import hmac

from conclave import faults
from conclave.errors import BadInput, LimitReached
from conclave.settings import MAX_PASSWORD_BYTES, Limits


def password_characters(password: bytes) -> int:
    """Count the characters of a password: those of UTF-8 where it is, bytes where it is not."""
    try:
        return len(password.decode("utf-8"))
    except UnicodeDecodeError:
        return len(password)


def check_new_password(password: bytes, limits: Limits) -> None:
    """Refuse a new password that is too short or too long; the message never shows it."""
    characters = password_characters(password)
    if characters < limits.min_password_characters:
        message = (
            f"A keyring password must have at least {limits.min_password_characters} characters;"
            f" this one has {characters}."
        )
        raise BadInput(faults.KEYRING_PASSWORD, message)
    if len(password) > MAX_PASSWORD_BYTES:
        message = (
            f"A keyring password must have at most {MAX_PASSWORD_BYTES} bytes;"
            f" this one has {len(password)}."
        )
        raise BadInput(faults.KEYRING_PASSWORD, message)


def check_differs(old: bytes, new: bytes) -> None:
    """Refuse a forced first change that changes nothing (rule C1)."""
    if hmac.compare_digest(old, new):
        message = "The first password must be changed to another one."
        raise BadInput(faults.KEYRING_PASSWORD_RULE, message)


def check_keyring_room(present: int, adding: int, limits: Limits) -> None:
    """Refuse more keyrings than the setting allows."""
    if present + adding > limits.max_keyrings:
        message = (
            f"There are {present} keyrings and {limits.max_keyrings} are allowed:"
            f" {adding} more cannot be created."
        )
        raise LimitReached(faults.KEYRING_LIMIT, message)


def check_object_room(present: int, adding: int, limits: Limits) -> None:
    """Refuse more objects in a keyring than the setting allows; 0 allows any number."""
    if limits.max_objects and adding > 0 and present + adding > limits.max_objects:
        message = (
            f"The keyring holds {present} objects and {limits.max_objects} are allowed:"
            f" {adding} more cannot be created."
        )
        raise LimitReached(faults.OBJECT_LIMIT, message)
