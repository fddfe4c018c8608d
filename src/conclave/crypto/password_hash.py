"""Turn a password into a 32-byte key-encryption key with Argon2id (RFC 9106).

Invariant: outside a test installation no password is hashed at less than the floor below, since
the derived keys are all that stands between a copied store and its keyrings (rule G2); and nothing
is hashed at more than the ceiling, whatever a store says, since memory is taken before anything
proves that the store is ours.

A stored salt says its own cost, so that another configured cost voids no password: what is stored
keeps its cost until it is written anew.  `hash_password` is a pure function that takes tens of
milliseconds and `memory_kib` of memory: only the login process calls it.
"""

from __future__ import annotations

import os
import struct
from typing import Final

import argon2.low_level
import msgspec
from argon2.exceptions import HashingError

from conclave import faults
from conclave.errors import BadInput, InternalFault, Unavailable

KEY_BYTES: Final = 32
RANDOM_BYTES: Final = 16


class Argon2Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one guess costs; the default is the second recommendation of RFC 9106, section 4."""

    memory_kib: int = 65536
    """Memory that a guess takes, in KiB."""
    iterations: int = 3
    """Passes over that memory."""
    lanes: int = 4
    """Parts of the memory that may be filled side by side."""


DEFAULT_COST: Final = Argon2Cost()
LOW_COST_FOR_TESTS: Final = Argon2Cost(memory_kib=64, iterations=1, lanes=1)
"""About 0.1 ms a guess: protects nothing, and a production installation refuses it."""

MAX_MEMORY_KIB: Final = 1 << 20
MAX_ITERATIONS: Final = 100
MAX_LANES: Final = 16
MAX_WORK_KIB: Final = 4 << 20
"""Ceiling of memory times iterations: a few seconds on one core, below every caller's deadline."""
FLOOR_MEMORY_KIB: Final = 19456
FLOOR_ITERATIONS: Final = 2

_SALT: Final = struct.Struct(f">BIBB{RANDOM_BYTES}s")
"""Version of this layout, memory in KiB, iterations, lanes, random bytes."""
_SALT_VERSION: Final = 1


def check_cost(cost: Argon2Cost, *, allow_low_cost: bool = False) -> Argon2Cost:
    """Return `cost` when this installation may use it; raise BadInput naming the broken rule.

    The floor is the weakest Argon2id setting of the OWASP password storage recommendations.
    """
    _require("memory_kib", cost.memory_kib, 8 * max(cost.lanes, 1), MAX_MEMORY_KIB)
    _require("iterations", cost.iterations, 1, MAX_ITERATIONS)
    _require("lanes", cost.lanes, 1, MAX_LANES)
    work_kib = cost.memory_kib * cost.iterations
    _require("memory_kib times argon2.iterations", work_kib, 1, MAX_WORK_KIB)
    if not allow_low_cost:
        hint = "Lower values need low_cost_for_tests"
        _require("memory_kib", cost.memory_kib, FLOOR_MEMORY_KIB, MAX_MEMORY_KIB, hint)
        _require("iterations", cost.iterations, FLOOR_ITERATIONS, MAX_ITERATIONS, hint)
    return cost


def new_salt(cost: Argon2Cost) -> bytes:
    """Return a salt that says its cost and has 16 random bytes."""
    random = os.urandom(RANDOM_BYTES)
    return _SALT.pack(_SALT_VERSION, cost.memory_kib, cost.iterations, cost.lanes, random)


def salt_cost(salt: bytes, *, allow_low_cost: bool = False) -> Argon2Cost:
    """Return the cost that a stored salt says; raise InternalFault when it may not be used.

    A stored salt of a low cost is one of a test installation: production refuses it.
    """
    if len(salt) != _SALT.size or salt[0] != _SALT_VERSION:
        message = (
            f"A stored salt has {_SALT.size} bytes, the first is {_SALT_VERSION}; one differs."
        )
        raise InternalFault(faults.STORED_COST, message)
    _version, memory_kib, iterations, lanes, _random = _SALT.unpack(salt)
    try:
        return check_cost(Argon2Cost(memory_kib, iterations, lanes), allow_low_cost=allow_low_cost)
    except BadInput as error:
        message = f"The stored cost of a password is refused: {error.message}"
        raise InternalFault(faults.STORED_COST, message) from error


def hash_password(password: bytes, salt: bytes, *, allow_low_cost: bool = False) -> bytes:
    """Derive 32 bytes from a password at the cost that its salt says.

    Raises InternalFault for a cost that is refused, Unavailable when the memory is not to be had.
    """
    return argon2id(password, salt, salt_cost(salt, allow_low_cost=allow_low_cost))


def argon2id(password: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    """Derive 32 bytes at any cost; raise Unavailable when the memory is not to be had."""
    try:
        return argon2.low_level.hash_secret_raw(
            secret=password,
            salt=salt,
            time_cost=cost.iterations,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=KEY_BYTES,
            type=argon2.low_level.Type.ID,
        )
    except HashingError as error:
        message = f"Argon2id did not get its {cost.memory_kib} KiB of memory: {error}."
        raise Unavailable(faults.BUSY, message) from error


def _require(field: str, value: int, lowest: int, highest: int, hint: str = "") -> None:
    if not lowest <= value <= highest:
        raise BadInput(
            faults.PASSWORD_COST,
            f"argon2.{field} must lie between {lowest} and {highest}; it is {value}."
            + (f" {hint}." if hint else ""),
        )
