"""The groups of Diffie-Hellman over numbers: safe primes that RFC 7919 and RFC 3526 fix.

Both documents define a prime by a constant of nature and an offset: its middle bits are those of
e, or of pi, plus the least number that makes the prime a safe one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.standard import Cka
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes

GENERATOR: Final = b"\x02"
_GUARD_BITS: Final = 64
_EDGE_BITS: Final = 64
"""How many bits are one at either end of a prime."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group; its private keys are drawn twice as long as its strength (SP 800-56A, 5.6.1.1)."""

    name: str
    bits: int
    prime: bytes
    private_bytes: int


def _e(one: int) -> int:
    total = term = one
    count = 1
    while term:
        term //= count
        total += term
        count += 1
    return total


def _pi(one: int) -> int:
    def arctan_of_inverse(number: int) -> int:
        total = term = one // number
        divisor, sign = 3, -1
        while term:
            term //= number * number
            total += sign * (term // divisor)
            divisor, sign = divisor + 2, -sign
        return total

    # John Machin's formula of 1706.
    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))


def _prime(bits: int, constant: Callable[[int], int], offset: int) -> bytes:
    scale = bits - 2 * _EDGE_BITS - 2
    middle = (constant(1 << (scale + _GUARD_BITS)) >> _GUARD_BITS) + offset
    prime = (1 << bits) - (1 << (bits - _EDGE_BITS)) + (middle << _EDGE_BITS) - 1
    return prime.to_bytes(bits // 8, "big")


GROUPS: Final = (
    GroupRow("ffdhe2048", 2048, _prime(2048, _e, 560316), 32),
    GroupRow("ffdhe3072", 3072, _prime(3072, _e, 2625351), 36),
    GroupRow("ffdhe4096", 4096, _prime(4096, _e, 5736041), 40),
    GroupRow("MODP-2048", 2048, _prime(2048, _pi, 124476), 32),
)
_BY_PRIME: Final = {row.prime: row for row in GROUPS}


def group_of(attributes: Attributes) -> GroupRow:
    """Return the group of CKA_PRIME and CKA_BASE; raise CKR_DOMAIN_PARAMS_INVALID for another."""
    row = _BY_PRIME.get(attributes[Cka.PRIME])
    if row is None or attributes[Cka.BASE] != GENERATOR:
        names = ", ".join(row.name for row in GROUPS)
        raise refused(
            Ckr.DOMAIN_PARAMS_INVALID,
            f"CKA_PRIME and CKA_BASE must be those of one of the groups {names}.",
        )
    return row
