"""Seal bytes under a 32-byte key so that nobody without it reads or changes them.

Invariant: what `unseal` returns is exactly what `seal` was given under the same key and the same
additional data; everything else raises `SealBroken`.

The form is nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes), AES-256-GCM (NIST SP 800-38D).  Nonces
are random, so one key may seal at most 2^32 messages; each purpose derives a key of its own, which
keeps every key far below that.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conclave import faults
from conclave.errors import Fault, InternalFault

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES

_SHA256: Final = SHA256()


class SealBroken(InternalFault):
    """The key, the additional data or the sealed bytes are not those of the sealing.

    A caller for whom that is no surprise (a wrong password, a client's own blob) turns it into the
    fault that its door knows.
    """

    def __init__(
        self,
        fault: Fault = faults.SEAL_BROKEN,
        message: str = "Sealed data do not open: the key, its context or the data were changed.",
    ) -> None:
        super().__init__(fault, message)


def new_key() -> bytes:
    """Return 32 random bytes to seal with."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt `plaintext`; authenticate it together with `aad`, which names purpose and owner."""
    _require_key(key)
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Return the plaintext that `seal` was given; raise SealBroken for anything else."""
    _require_key(key)
    if len(sealed) < OVERHEAD_BYTES:
        raise SealBroken
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except InvalidTag:
        raise SealBroken from None


def derive(key: bytes, purpose: str, context: bytes = b"") -> bytes:
    """Derive the 32-byte key for one purpose: HKDF-SHA256 (RFC 5869).

    The length of `purpose` is part of the input, so no purpose and context run into another pair.
    """
    _require_key(key)
    name = purpose.encode()
    info = len(name).to_bytes(2, "big") + name + context
    return HKDF(algorithm=_SHA256, length=KEY_BYTES, salt=None, info=info).derive(key)


def _require_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"A sealing key has {KEY_BYTES} bytes; this one has {len(key)}.")
