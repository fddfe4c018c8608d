"""The hash functions that mechanisms are made of, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from conclave.crypto.standard import Ckg, Ckk, Ckm


@dataclass(frozen=True, slots=True)
class HashRow:
    """A hash function with its objects made once, and the mechanisms built on it."""

    name: str
    """As hashlib names it."""
    algorithm: hashes.HashAlgorithm
    prehashed: Prehashed
    digest_bytes: int
    mask_generation: Ckg
    digest: Ckm
    hmac: Ckm
    hmac_general: Ckm
    hmac_key_type: Ckk
    key_generation: Ckm
    rsa_pkcs: Ckm
    rsa_pss: Ckm
    ecdsa: Ckm


def _row(name: str, algorithm: hashes.HashAlgorithm, stem: str, rsa_stem: str) -> HashRow:
    return HashRow(
        name=name,
        algorithm=algorithm,
        prehashed=Prehashed(algorithm),
        digest_bytes=algorithm.digest_size,
        mask_generation=Ckg[f"MGF1_{rsa_stem}"],
        digest=Ckm[stem],
        hmac=Ckm[f"{stem}_HMAC"],
        hmac_general=Ckm[f"{stem}_HMAC_GENERAL"],
        hmac_key_type=Ckk[f"{stem}_HMAC"],
        key_generation=Ckm[f"{stem}_KEY_GEN"],
        rsa_pkcs=Ckm[f"{rsa_stem}_RSA_PKCS"],
        rsa_pss=Ckm[f"{rsa_stem}_RSA_PKCS_PSS"],
        ecdsa=Ckm[f"ECDSA_{rsa_stem}"],
    )


HASHES: Final = (
    # SHA-1 is here for signatures and MACs that exist already; applications choose it knowingly.
    _row("sha1", hashes.SHA1(), "SHA_1", "SHA1"),  # noqa: S303
    _row("sha224", hashes.SHA224(), "SHA224", "SHA224"),
    _row("sha256", hashes.SHA256(), "SHA256", "SHA256"),
    _row("sha384", hashes.SHA384(), "SHA384", "SHA384"),
    _row("sha512", hashes.SHA512(), "SHA512", "SHA512"),
)
BY_DIGEST: Final[dict[int, HashRow]] = {row.digest: row for row in HASHES}
BY_MASK_GENERATION: Final[dict[int, HashRow]] = {row.mask_generation: row for row in HASHES}
