"""What all signatures have in common: their lengths, and that a wrong one is an error."""

from __future__ import annotations

from conclave.crypto.faults import refused
from conclave.errors import Ckr, ConclaveError


def require_digest_length(digest: bytes, expected: int) -> None:
    """Raise CKR_DATA_LEN_RANGE unless a digest has the length of its hash function."""
    if len(digest) != expected:
        raise refused(
            Ckr.DATA_LEN_RANGE, f"The digest must have {expected} bytes, not {len(digest)}."
        )


def require_signature_length(signature: bytes, expected: int) -> None:
    """Raise CKR_SIGNATURE_LEN_RANGE unless a signature has the length that its key gives it."""
    if len(signature) != expected:
        raise refused(
            Ckr.SIGNATURE_LEN_RANGE, f"A signature has {expected} bytes, not {len(signature)}."
        )


def wrong_signature() -> ConclaveError:
    """Return the error for a signature that is not the key's over the data."""
    return refused(Ckr.SIGNATURE_INVALID, "The signature does not belong to key and data.")
