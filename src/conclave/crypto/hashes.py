"""The hash functions that mechanisms are made of, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from conclave.crypto.standard import Ckg, Ckk, Ckm


@dataclass(frozen=True, slots=True, kw_only=True)
class MacRow:
    """A hash function, and what HMAC makes of it."""

    name: str
    """As hashlib names it."""
    digest_bytes: int
    digest: Ckm
    hmac: Ckm
    hmac_general: Ckm
    hmac_key_type: Ckk
    key_generation: Ckm


@dataclass(frozen=True, slots=True, kw_only=True)
class HashRow(MacRow):
    """A hash function with its objects made once, and the mechanisms built on it."""

    algorithm: hashes.HashAlgorithm
    prehashed: Prehashed
    key_derivation: Ckm
    rsa_pkcs: Ckm
    ecdsa: Ckm


@dataclass(frozen=True, slots=True)
class MaskRow:
    """A hash function that PSS, and perhaps OAEP, use for the data and in the mask generation."""

    hash_row: HashRow
    mask_generation: Ckg
    rsa_pss: Ckm


def _row(name: str, algorithm: hashes.HashAlgorithm, stem: str, rsa_stem: str = "") -> HashRow:
    return HashRow(
        name=name,
        algorithm=algorithm,
        prehashed=Prehashed(algorithm),
        digest_bytes=algorithm.digest_size,
        digest=Ckm[stem],
        hmac=Ckm[f"{stem}_HMAC"],
        hmac_general=Ckm[f"{stem}_HMAC_GENERAL"],
        hmac_key_type=Ckk[f"{stem}_HMAC"],
        key_generation=Ckm[f"{stem}_KEY_GEN"],
        key_derivation=Ckm[f"{rsa_stem or stem}_KEY_DERIVATION"],
        rsa_pkcs=Ckm[f"{rsa_stem or stem}_RSA_PKCS"],
        ecdsa=Ckm[f"ECDSA_{rsa_stem or stem}"],
    )


# SHA-1 signs, too, for applications that still ask for it; `limits.sha1_signatures` false leaves it
# verification, MACs, digests and derivation.
SHA1: Final = _row("sha1", hashes.SHA1(), "SHA_1", "SHA1")  # noqa: S303 - see above
SHA2: Final = (
    _row("sha224", hashes.SHA224(), "SHA224"),
    _row("sha256", hashes.SHA256(), "SHA256"),
    _row("sha384", hashes.SHA384(), "SHA384"),
    _row("sha512", hashes.SHA512(), "SHA512"),
)
_SHA3: Final = (
    _row("sha3_224", hashes.SHA3_224(), "SHA3_224"),
    _row("sha3_256", hashes.SHA3_256(), "SHA3_256"),
    _row("sha3_384", hashes.SHA3_384(), "SHA3_384"),
    _row("sha3_512", hashes.SHA3_512(), "SHA3_512"),
)
HASHES: Final = (SHA1, *SHA2, *_SHA3)
KDF_HASHES: Final = (SHA1, *SHA2)
"""What keys are derived with: of these the published vectors of each function are run."""


def _mask_row(row: HashRow, stem: str) -> MaskRow:
    return MaskRow(row, Ckg[f"MGF1_{stem}"], Ckm[f"{stem}_RSA_PKCS_PSS"])


MASKS: Final = (
    _mask_row(SHA1, "SHA1"),
    *(_mask_row(row, row.name.upper()) for row in SHA2),
)
"""For OAEP without SHA-3: pyca/cryptography has none with it, and nobody publishes vectors."""
_SHA3_MASKS: Final = tuple(_mask_row(row, row.name.upper()) for row in _SHA3)
PSS_MASKS: Final = (*MASKS, *_SHA3_MASKS)
MACS_ONLY: Final = tuple(
    MacRow(
        name=stem.lower(),
        digest_bytes=bits // 8,
        digest=Ckm[stem],
        hmac=Ckm[f"{stem}_HMAC"],
        hmac_general=Ckm[f"{stem}_HMAC_GENERAL"],
        hmac_key_type=Ckk[f"{stem}_HMAC"],
        key_generation=Ckm[f"{stem}_KEY_GEN"],
    )
    for stem, bits in (("SHA512_224", 224), ("SHA512_256", 256))
)
"""Hash functions for which the standard has no signatures."""

HashPairs = Mapping[tuple[int, int], tuple[HashRow, HashRow]]
"""From the numbers of a hash and a mask generation function to the hashes of the two."""


def _pairs(rows: tuple[MaskRow, ...]) -> HashPairs:
    return {
        (int(row.hash_row.digest), int(mask.mask_generation)): (row.hash_row, mask.hash_row)
        for row in rows
        for mask in rows
    }


OAEP_HASHES: Final = _pairs(MASKS)
# The published vectors with SHA-3 have one hash for both.
PSS_HASHES: Final[HashPairs] = {
    **OAEP_HASHES,
    **{pair: rows for row in _SHA3_MASKS for pair, rows in _pairs((row,)).items()},
}
