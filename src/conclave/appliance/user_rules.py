"""What a user may be called, and what makes a password acceptable; pure functions."""

from __future__ import annotations

import enum
import re
from typing import Final

from conclave import faults
from conclave.errors import BadInput

MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_BYTES: Final = 255
CLASSES_WANTED: Final = 3
USER_ID_PATTERN: Final = r"^[a-zA-Z_][a-zA-Z0-9._-]{0,31}$"
ROLE_ID_PATTERN: Final = r"^[a-zA-Z0-9_]{1,64}$"
_USER_ID: Final = re.compile(USER_ID_PATTERN)


class UserRole(enum.StrEnum):
    """Roles of appliance users; NONE is a user who may only change the own password."""

    ADMIN = "admin"
    OPERATOR = "operator"
    MONITOR = "monitor"
    AUDIT = "audit"
    NONE = ""


_BUILT_IN: Final = frozenset(role.value for role in UserRole)


class CustomRole(str):
    """A role that an administrator made; its rights are its access rules."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """Return the role's name, as the built-in ones do."""
        return str(self)


Role = UserRole | CustomRole


def role_named(name: str) -> Role:
    """Return the role of a name, whether it exists or not."""
    return UserRole(name) if name in _BUILT_IN else CustomRole(name)


def check_user_id(user_id: str) -> None:
    """Refuse a name that breaks the rule."""
    if not _USER_ID.fullmatch(user_id):
        message = (
            "userId must be 1 to 32 of a-z A-Z 0-9 . _ - and begin with a letter or an underscore;"
            f" it is {user_id[:64]!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)


def check_new_password(password: str) -> None:
    """Refuse a password that is too short, too long, or of too few classes of characters.

    The classes are lower case, upper case, digits and all others, space included.
    """
    if len(password) < MIN_PASSWORD_CHARACTERS:
        message = f"password must have {MIN_PASSWORD_CHARACTERS} characters at least."
        raise BadInput(faults.BAD_REQUEST, message)
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        message = f"password must have {MAX_PASSWORD_BYTES} bytes at most."
        raise BadInput(faults.BAD_REQUEST, message)
    if len({_class_of(character) for character in password}) < CLASSES_WANTED:
        message = (
            f"password must have characters of {CLASSES_WANTED} of the 4 classes: lower case,"
            " upper case, digits, others."
        )
        raise BadInput(faults.BAD_REQUEST, message)


def password_can_be_right(password: str) -> bool:
    """Tell whether a password has a length that any stored one can have."""
    return len(password) >= MIN_PASSWORD_CHARACTERS and len(password.encode()) <= MAX_PASSWORD_BYTES


def _class_of(character: str) -> str:
    if character.islower():
        return "lower"
    if character.isupper():
        return "upper"
    return "digit" if character.isdigit() else "other"
