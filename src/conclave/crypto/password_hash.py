"""Turn a password into a 32-byte key-encryption key with Argon2id (RFC 9106).

Invariant: outside a test installation no password is hashed at less than the floor below, since
the derived keys are all that stands between a copied store and its keyrings (rule G2).

`hash_password` is a pure function that takes tens of milliseconds and `memory_kib` of memory: only
the login process and the HSM call it.
"""

from __future__ import annotations

import os
from typing import Final

import argon2.low_level
import msgspec
from argon2.exceptions import HashingError

from conclave import faults
from conclave.errors import BadInput, Unavailable

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16


class Argon2Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one guess costs; the default is the second recommendation of RFC 9106, section 4."""

    memory_kib: int = 65536
    iterations: int = 3
    lanes: int = 4


DEFAULT_COST: Final = Argon2Cost()
LOW_COST_FOR_TESTS: Final = Argon2Cost(memory_kib=64, iterations=1, lanes=1)
"""About 0.1 ms a guess: protects nothing, and a production installation refuses it."""

_MIN_SALT_BYTES: Final = 8
_FLOOR_MEMORY_KIB: Final = 19456
_FLOOR_ITERATIONS: Final = 2
_MAX_MEMORY_KIB: Final = 4 * 1024 * 1024
_MAX_ITERATIONS: Final = 100
_MAX_LANES: Final = 16


def check_cost(cost: Argon2Cost, *, allow_low_cost: bool = False) -> Argon2Cost:
    """Return `cost` when this installation may use it; raise BadInput naming the broken rule.

    The floor is the weakest Argon2id setting of the OWASP password storage recommendations.
    """
    _require("memory_kib", cost.memory_kib, 8 * max(cost.lanes, 1), _MAX_MEMORY_KIB)
    _require("iterations", cost.iterations, 1, _MAX_ITERATIONS)
    _require("lanes", cost.lanes, 1, _MAX_LANES)
    if not allow_low_cost:
        hint = "Lower values need low_cost_for_tests"
        _require("memory_kib", cost.memory_kib, _FLOOR_MEMORY_KIB, _MAX_MEMORY_KIB, hint)
        _require("iterations", cost.iterations, _FLOOR_ITERATIONS, _MAX_ITERATIONS, hint)
    return cost


def new_salt() -> bytes:
    """Return 16 random bytes."""
    return os.urandom(SALT_BYTES)


def hash_password(password: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    """Derive 32 bytes from a password; raise Unavailable when the memory is not to be had."""
    if len(salt) < _MIN_SALT_BYTES:
        raise ValueError(f"A salt has at least {_MIN_SALT_BYTES} bytes; this one has {len(salt)}.")
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
