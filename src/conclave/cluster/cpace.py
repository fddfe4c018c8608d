"""CPace over Curve25519: two parties that know the same password agree on a key.

Invariants: a run gives one guess at the password to whoever takes part in it, and none to whoever
listens; a peer's value of low order, which would make the key independent of the password, is
refused.

This is CPACE-X25519-SHA512 of draft-irtf-cfrg-cpace, initiator and responder.  The arithmetic is
libsodium's and OpenSSL's, in constant time: the generator depends on the password, and integers of
Python would tell it by their timing.  libsodium maps a hash to 8·E where the draft has E, so
scalars, which are multiples of 8, are divided by 8 to give the draft's values.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import (
    crypto_core_ed25519_from_uniform,
    crypto_scalarmult_ed25519_noclamp,
    crypto_sign_ed25519_pk_to_curve25519,
)

SHARE_BYTES: Final = 32
_DSI: Final = b"CPace255"
_HASH_BLOCK_BYTES: Final = 128


class WeakShare(ValueError):
    """The peer's share has another length than 32 bytes, or a low order."""


def length_value(*parts: bytes) -> bytes:
    """Return the parts with their lengths before them (LEB128), so that no two lists are equal."""
    return b"".join(_leb128(len(part)) + part for part in parts)


def public_share(password: bytes, context: bytes, session: bytes, scalar: bytes) -> bytes:
    """Return what a party with this 32-byte scalar sends.

    `context` is what both parties must agree on (the draft's CI), `session` names the run (sid).
    """
    point = crypto_core_ed25519_from_uniform(_generator_hash(password, context, session))
    eighth = (int.from_bytes(_clamped(scalar), "little") >> 3).to_bytes(32, "little")
    share = crypto_scalarmult_ed25519_noclamp(eighth, point)
    return crypto_sign_ed25519_pk_to_curve25519(share)


def shared_point(scalar: bytes, peer_share: bytes) -> bytes:
    """Return the point both parties come to; raise WeakShare when the peer's share is none."""
    try:
        peer = X25519PublicKey.from_public_bytes(peer_share)
        return X25519PrivateKey.from_private_bytes(scalar).exchange(peer)
    except ValueError as cause:
        raise WeakShare("The share is no point of full order.") from cause


def session_key(
    session: bytes, point: bytes, initiator: tuple[bytes, bytes], responder: tuple[bytes, bytes]
) -> bytes:
    """Return the 64-byte key of a run; each party is its share and its associated data."""
    transcript = length_value(*initiator) + length_value(*responder)
    prefix = length_value(_DSI + b"_ISK", session, point)
    return hashlib.sha512(prefix + transcript).digest()


def new_scalar() -> bytes:
    """Return a fresh scalar; it must serve one run only."""
    return os.urandom(32)


def _generator_hash(password: bytes, context: bytes, session: bytes) -> bytes:
    # The password fills a block of its own, so that what follows tells nothing of its length.
    used = len(length_value(password)) + len(length_value(_DSI)) + 1
    padding = bytes(max(0, _HASH_BLOCK_BYTES - used))
    return hashlib.sha512(length_value(_DSI, password, padding, context, session)).digest()[:32]


def _clamped(scalar: bytes) -> bytes:
    return bytes((scalar[0] & 0xF8, *scalar[1:31], scalar[31] & 0x7F | 0x40))


def _leb128(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
